// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory of the caller of a hypercall.
//!
//! A guest may write to an argument while it is copied, so the copy is made of atomic loads and stores, the widest
//! that the address allows: no field is torn that the guest itself writes in one piece.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use evtchn_engine::{Fault, GuestMemory};
use evtchn_sync::PAGE_SIZE;
use vm_memory::bitmap::{BS, Bitmap, BitmapSlice};
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, Permissions, VolatileSlice,
};

use crate::protection::allows;

/// How the addresses that a guest passes to hypercalls become addresses of its physical memory.
///
/// A closure will do.
pub trait Translate {
    /// The guest-physical address of the byte at `address`. The engine is about to read or to write, as `access` says,
    /// that byte and those that follow it in the same page of 4096 bytes.
    ///
    /// `None` if the guest's page tables do not allow it: the hypercall answers EFAULT.
    fn translate(&mut self, address: u64, access: Permissions) -> Option<GuestAddress>;
}

impl<F: FnMut(u64, Permissions) -> Option<GuestAddress>> Translate for F {
    fn translate(&mut self, address: u64, access: Permissions) -> Option<GuestAddress> {
        self(address, access)
    }
}

/// The guest passes physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Physical;

impl Translate for Physical {
    #[inline]
    fn translate(&mut self, address: u64, _: Permissions) -> Option<GuestAddress> {
        Some(GuestAddress(address))
    }
}

/// The memory in which a guest's hypercall arguments lie, for one hypercall or for many.
///
/// An argument may cross from one page to another and from one region to another. What is written is marked in the
/// regions' dirty bitmaps. If a write faults on its second page, the bytes on the first are written already.
///
/// Guests of Xen pass *virtual* addresses, unless the VMM and its guests have agreed otherwise:
///
/// ```
/// use evtchn_engine::{Fault, GuestMemory};
/// use evtchn_vm_memory::Arguments;
/// use vm_memory::{GuestAddress, GuestMemoryMmap, Permissions};
///
/// const KERNEL: u64 = 0xffff_8000_0000_0000; // maps all memory, the first 64 KiB read-only
/// let walk = |address: u64, access: Permissions| {
///     let physical = address.checked_sub(KERNEL)?;
///     (access == Permissions::Read || physical >= 0x1_0000).then_some(GuestAddress(physical))
/// };
///
/// let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), 0x2_0000)])?;
/// let mut arguments = Arguments::new(&memory, walk);
/// assert_eq!(arguments.write(KERNEL + 0x1_0000, &[1, 2]), Ok(()));
/// assert_eq!(arguments.write(KERNEL, &[1, 2]), Err(Fault));
/// assert_eq!(arguments.read(0x1_0000, &mut [0; 2]), Err(Fault));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Arguments<'a, T = Physical, B = ()> {
    memory: &'a GuestMemoryMmap<B>,
    translate: T,
}

impl<'a, B: Bitmap> Arguments<'a, Physical, B> {
    /// For guests that pass physical addresses.
    pub fn physical(memory: &'a GuestMemoryMmap<B>) -> Self {
        Self::new(memory, Physical)
    }
}

impl<'a, T: Translate, B: Bitmap> Arguments<'a, T, B> {
    /// For guests whose addresses have to be translated.
    pub fn new(memory: &'a GuestMemoryMmap<B>, translate: T) -> Self {
        Self { memory, translate }
    }

    /// The memory from `address` on as far as it is in one page and in one region, but no more than `most` bytes;
    /// at least one.
    fn piece(
        &mut self,
        address: u64,
        most: usize,
        access: Permissions,
    ) -> Option<VolatileSlice<'a, BS<'a, B>>> {
        let in_page = PAGE_SIZE as u64 - address % PAGE_SIZE as u64;
        let physical = self.translate.translate(address, access)?;
        let (region, start) = self.memory.to_region_addr(physical)?;
        let in_region = region.len().checked_sub(start.0)?;
        let len = usize::try_from(in_page.min(in_region)).ok()?.min(most);
        allows(region, access).then(|| region.get_slice(start, len).ok())?
    }

    /// Runs `copy` on each piece of `len` bytes from `address` on, and tells it how many bytes come before the piece.
    fn pieces(
        &mut self,
        address: u64,
        len: usize,
        access: Permissions,
        mut copy: impl FnMut(usize, VolatileSlice<'a, BS<'a, B>>) -> Option<()>,
    ) -> Option<()> {
        let mut done = 0;
        while done < len {
            let piece = self.piece(address.checked_add(done as u64)?, len - done, access)?;
            let copied = piece.len();
            copy(done, piece)?;
            done += copied;
        }
        Some(())
    }
}

impl<T: Translate, B: Bitmap> GuestMemory for Arguments<'_, T, B> {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let copied = self.pieces(address, bytes.len(), Permissions::Read, |from, piece| {
            read(&piece, bytes.get_mut(from..from + piece.len())?)
        });
        copied.ok_or(Fault)
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        let copied = self.pieces(address, bytes.len(), Permissions::Write, |from, piece| {
            write(&piece, bytes.get(from..from + piece.len())?)
        });
        copied.ok_or(Fault)
    }
}

fn read<S: BitmapSlice>(piece: &VolatileSlice<'_, S>, bytes: &mut [u8]) -> Option<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += read_word(piece, done, bytes.get_mut(done..)?)?;
    }
    Some(())
}

/// Reads the widest word that is aligned and wanted; its size.
fn read_word<S: BitmapSlice>(piece: &VolatileSlice<'_, S>, at: usize, bytes: &mut [u8]) -> Option<usize> {
    if let Some(to) = bytes.first_chunk_mut()
        && let Ok(word) = piece.load::<u64>(at, Relaxed)
    {
        *to = word.to_ne_bytes();
        return Some(8);
    }
    if let Some(to) = bytes.first_chunk_mut()
        && let Ok(word) = piece.load::<u32>(at, Relaxed)
    {
        *to = word.to_ne_bytes();
        return Some(4);
    }
    *bytes.first_mut()? = piece.load(at, Relaxed).ok()?;
    Some(1)
}

fn write<S: BitmapSlice>(piece: &VolatileSlice<'_, S>, bytes: &[u8]) -> Option<()> {
    let mut done = 0;
    while done < bytes.len() {
        done += write_word(piece, done, bytes.get(done..)?)?;
    }
    Some(())
}

/// Writes the widest word that is aligned and there; its size. vm-memory marks it in the dirty bitmap.
fn write_word<S: BitmapSlice>(piece: &VolatileSlice<'_, S>, at: usize, bytes: &[u8]) -> Option<usize> {
    if let Some(&word) = bytes.first_chunk()
        && piece.store(u64::from_ne_bytes(word), at, Relaxed).is_ok()
    {
        return Some(8);
    }
    if let Some(&word) = bytes.first_chunk()
        && piece.store(u32::from_ne_bytes(word), at, Relaxed).is_ok()
    {
        return Some(4);
    }
    piece.store(*bytes.first()?, at, Relaxed).ok()?;
    Some(1)
}

impl<T: fmt::Debug, B> fmt::Debug for Arguments<'_, T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arguments").field("translate", &self.translate).finish_non_exhaustive()
    }
}
