// SPDX-License-Identifier: MIT OR Apache-2.0
//! The step from an offset in a page to an atomic in a mapping.
//!
//! vm-memory has a safe one (`get_atomic_ref`), which looks at the bounds of the whole mapping each time and takes some
//! 30 instructions. That is a third of what a send may cost, so the bounds are looked at once, when a page is made.

// UNSAFETY: memory that is mapped as long as somebody holds the mapping is viewed as atomics.
#![allow(unsafe_code)]

use std::sync::Arc;

use evtchn_sync::PAGE_SIZE;
use vm_memory::bitmap::Bitmap;
use vm_memory::{AtomicInteger, MmapRegion, Permissions};

use crate::protection::allows;

/// A page of a mapping: readable, writable, aligned, and all of it there.
pub(crate) struct Mapped<B> {
    mapping: Arc<MmapRegion<B>>,
    /// Where the page begins in the mapping, in bytes. Nothing changes it.
    start: usize,
}

impl<B: Bitmap> Mapped<B> {
    /// The page `start` bytes into the mapping; `None` if it is not what this type promises.
    pub fn new(mapping: Arc<MmapRegion<B>>, start: usize) -> Option<Self> {
        let base = mapping.as_ptr();
        let inside = start.checked_add(PAGE_SIZE)? <= mapping.size();
        let aligned = base.addr().checked_add(start)?.is_multiple_of(PAGE_SIZE);
        // Null: vm-memory's `xen` mappings, which are made anew for each access.
        let usable = !base.is_null() && inside && aligned && allows(&mapping, Permissions::ReadWrite);
        usable.then_some(Self { mapping, start })
    }

    /// The `T` at `offset`, if it lies wholly inside the page and is aligned.
    #[inline]
    pub fn atomic<T: AtomicInteger>(&self, offset: usize) -> Option<&T> {
        let size = size_of::<T>();
        let inside = offset.checked_add(size)? <= PAGE_SIZE;
        if !inside || !offset.is_multiple_of(size) {
            return None;
        }
        let pointer = self.mapping.as_ptr().wrapping_add(self.start).wrapping_add(offset);
        // SAFETY: `new` has checked that all of the page is inside the mapping, that it can be read and written, and
        // that it is aligned to its size; the lines above, that the `T` is inside the page, and aligned as the size of
        // a `T` asks for. The mapping stays where it is until it is dropped, and `self` holds it as long as the
        // reference lives. A `T` is an atomic integer: every value is valid, and others may write to it meanwhile.
        Some(unsafe { &*pointer.cast::<T>() })
    }
}

impl<B> Mapped<B> {
    pub fn mapping(&self) -> &Arc<MmapRegion<B>> {
        &self.mapping
    }

    pub fn start(&self) -> usize {
        self.start
    }
}

impl<B> Clone for Mapped<B> {
    fn clone(&self) -> Self {
        Self { mapping: self.mapping.clone(), start: self.start }
    }
}
