// SPDX-License-Identifier: MIT OR Apache-2.0
//! An allocator that can be told to fail, and that counts: for the rows about memory that runs out and memory that leaks.

// UNSAFETY: an allocator is an unsafe trait; this one forwards to the system's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations of this thread of at least so many bytes fail; 0 for none.
    static FAIL_FROM: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has allocated and not freed.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every block comes from the system's allocator and goes back to it with the layout that it came with; refusing to
// allocate is allowed. The default `realloc` is made of these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let fail = FAIL_FROM.try_with(Cell::get).unwrap_or(0);
        if fail != 0 && layout.size() >= fail {
            return std::ptr::null_mut();
        }
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps this function's contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: `block` came from `alloc` above, that is from the system's allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }
}

fn count(bytes: isize) {
    // A thread that ends has no counter left; nobody asks for it either.
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}

/// Runs `act` while no allocation of at least `bytes` succeeds on this thread.
pub fn without_memory<T>(bytes: usize, act: impl FnOnce() -> T) -> T {
    FAIL_FROM.set(bytes);
    let result = act();
    FAIL_FROM.set(0);
    result
}

/// How many bytes this thread holds more after `act` than before.
pub fn growth(act: impl FnOnce()) -> isize {
    let before = LIVE.get();
    act();
    LIVE.get() - before
}
