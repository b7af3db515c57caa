// SPDX-License-Identifier: MIT OR Apache-2.0
//! A page of ordinary memory.

// UNSAFETY: one allocation is viewed as atomics of three widths.
#![allow(unsafe_code)]

use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::{PAGE_SIZE, Page};

const WORDS: usize = PAGE_SIZE / size_of::<u64>();

/// A zeroed page of ordinary memory, for tests and for hosts whose guests live in the same process.
///
/// It is 4096 bytes long and aligned; put it behind a `Box` or an `Arc`.
#[repr(C, align(4096))]
pub struct HeapPage {
    words: [AtomicU64; WORDS],
}

impl HeapPage {
    /// A page of zeroes.
    #[must_use]
    pub const fn new() -> Self {
        Self { words: [const { AtomicU64::new(0) }; WORDS] }
    }

    /// Sets every byte to zero, 64 bits at a time. Not one step for other threads.
    pub fn clear(&self) {
        for word in &self.words {
            word.store(0, Ordering::SeqCst);
        }
    }

    /// The atomic `T` at `offset`, or `None` if that is outside the page or not aligned for `T`.
    ///
    /// # Safety
    /// `T` is an atomic integer of at most 64 bits.
    #[inline]
    unsafe fn at<T>(&self, offset: usize) -> Option<&T> {
        let size = size_of::<T>();
        if offset > PAGE_SIZE - size || !offset.is_multiple_of(size) {
            return None;
        }
        // SAFETY: the offset is inside the words.
        let pointer = unsafe { self.words.as_ptr().cast::<u8>().add(offset) };
        // SAFETY: it is aligned and wholly inside the page. The words live as long as `self`, are initialised,
        // and are atomics, so they may be written by others while they are shared.
        Some(unsafe { &*pointer.cast() })
    }
}

impl Default for HeapPage {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HeapPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeapPage").finish_non_exhaustive()
    }
}

impl Page for HeapPage {
    #[inline]
    fn u8(&self, offset: usize) -> Option<&AtomicU8> {
        // SAFETY: an atomic of 8 bits.
        unsafe { self.at(offset) }
    }

    #[inline]
    fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        // SAFETY: an atomic of 32 bits.
        unsafe { self.at(offset) }
    }

    #[inline]
    fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        // SAFETY: an atomic of 64 bits.
        unsafe { self.at(offset) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_page_is_zero() {
        let page = HeapPage::new();
        assert!((0..PAGE_SIZE).all(|at| page.u8(at).unwrap().load(Ordering::SeqCst) == 0));
    }

    #[test]
    fn offsets_outside_the_page_are_refused() {
        let page = HeapPage::new();
        assert!(page.u8(PAGE_SIZE - 1).is_some());
        assert!(page.u32(PAGE_SIZE - 4).is_some());
        assert!(page.u64(PAGE_SIZE - 8).is_some());
        for offset in [PAGE_SIZE, PAGE_SIZE + 8, usize::MAX - 7, usize::MAX] {
            assert!(page.u8(offset).is_none());
            assert!(page.u32(offset).is_none());
            assert!(page.u64(offset).is_none());
        }
    }

    #[test]
    fn unaligned_offsets_are_refused() {
        let page = HeapPage::new();
        assert!((1..4).all(|at| page.u32(at).is_none()));
        assert!((1..8).all(|at| page.u64(at).is_none()));
    }

    #[test]
    fn the_three_widths_see_the_same_bytes() {
        let page = HeapPage::new();
        page.u64(64).unwrap().store(0x0807_0605_0403_0201u64.to_le(), Ordering::SeqCst);
        assert_eq!(page.u8(65).unwrap().load(Ordering::SeqCst), 2);
        assert_eq!(u32::from_le(page.u32(68).unwrap().load(Ordering::SeqCst)), 0x0807_0605);
    }

    #[test]
    fn clear_zeroes_every_byte() {
        let page = HeapPage::new();
        page.u8(4095).unwrap().store(9, Ordering::SeqCst);
        page.clear();
        assert_eq!(page.u8(4095).unwrap().load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_page_is_aligned_to_its_size() {
        assert_eq!(align_of::<HeapPage>(), PAGE_SIZE);
        assert_eq!(size_of::<HeapPage>(), PAGE_SIZE);
    }
}
