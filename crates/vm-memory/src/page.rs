// SPDX-License-Identifier: MIT OR Apache-2.0
//! A page of a guest's memory as the engine sees it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use evtchn_abi::Gfn;
use evtchn_sync::{PAGE_SIZE, Page};
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, MmapRegion};

use crate::mapped::Mapped;

/// The page at frame `gfn` of a guest's memory: what [`Hooks::pin`](evtchn_engine::Hooks::pin) answers.
///
/// `memory` is the map as it is now; a `GuestMemoryAtomic` gives one with `memory()`. `None` for a frame that does not
/// exist, that lies in two regions, or that is not readable and writable. See the [crate](crate) for what happens to
/// the page when the map changes.
///
/// ```
/// use evtchn_abi::Gfn;
/// use evtchn_vm_memory::pin;
/// use vm_memory::{GuestAddress, GuestMemoryMmap};
///
/// let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0x10_0000), 0x2000)])?;
/// assert!(pin(&memory, Gfn(0x101)).is_some());
/// assert!(pin(&memory, Gfn(0x102)).is_none());
/// assert!(pin(&memory, Gfn(u64::MAX)).is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn pin<B: Bitmap>(memory: &GuestMemoryMmap<B>, gfn: Gfn) -> Option<GuestPage<B>> {
    let address = gfn.0.checked_mul(PAGE_SIZE as u64)?;
    let (region, offset) = memory.to_region_addr(GuestAddress(address))?;
    GuestPage::new(region.get_mmap(), usize::try_from(offset.0).ok()?)
}

/// 4096 bytes of a mapping of guest memory, seen as atomics.
///
/// It keeps the mapping alive, and no more than that: not the memory map that it was found in. Clones are the same
/// page. `B` is the bitmap in which [`wrote`](Page::wrote) marks what was written; `()` marks nothing.
pub struct GuestPage<B = ()>(Mapped<B>);

impl<B: Bitmap> GuestPage<B> {
    /// The page that begins `start` bytes into a mapping, for VMMs that have regions of their own. Others use [`pin`].
    ///
    /// `None` if the page does not lie wholly inside the mapping, if it is not aligned to 4096 in the memory of this
    /// process, or if the mapping is not readable and writable.
    pub fn new(mapping: Arc<MmapRegion<B>>, start: usize) -> Option<Self> {
        Mapped::new(mapping, start).map(Self)
    }

    /// The mapping that the page is in.
    pub fn mapping(&self) -> &Arc<MmapRegion<B>> {
        self.0.mapping()
    }
}

impl<B: Bitmap + Send + Sync> Page for GuestPage<B> {
    #[inline]
    fn u8(&self, offset: usize) -> Option<&AtomicU8> {
        self.0.atomic(offset)
    }

    #[inline]
    fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        self.0.atomic(offset)
    }

    #[inline]
    fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        self.0.atomic(offset)
    }

    /// Marks the rest of the 64-bit word that `offset` is in, so all of the field, whatever its width.
    ///
    /// After the store, as `Page` has it: who takes the mark away before copies the page afterwards, with the store in
    /// it, or finds the mark again in the next round.
    #[inline]
    fn wrote(&self, offset: usize) {
        const WORD: usize = size_of::<u64>();
        if offset < PAGE_SIZE {
            self.mapping().bitmap().mark_dirty(self.0.start() + offset, WORD - offset % WORD);
        }
    }
}

impl<B> Clone for GuestPage<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B> fmt::Debug for GuestPage<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestPage").field("start", &self.0.start()).finish_non_exhaustive()
    }
}
