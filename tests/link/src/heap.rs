// SPDX-License-Identifier: MIT OR Apache-2.0
//! A heap that only grows.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const SIZE: usize = 1 << 20;

/// 1 MiB, handed out from the front and never taken back.
pub struct Heap {
    bytes: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// SAFETY: each byte is handed out once, so nobody's memory is another's.
unsafe impl Sync for Heap {}

impl Heap {
    /// A heap of which nothing is used.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    /// How many bytes have been handed out, gaps included.
    pub fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: what is handed out is aligned, inside `bytes`, and nobody else's.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let mut start = 0;
        let taken = self.used.fetch_update(Relaxed, Relaxed, |used| {
            start = base.addr().checked_add(used)?.checked_next_multiple_of(layout.align())? - base.addr();
            start.checked_add(layout.size()).filter(|&end| end <= SIZE)
        });
        if taken.is_ok() { base.wrapping_add(start) } else { ptr::null_mut() }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
