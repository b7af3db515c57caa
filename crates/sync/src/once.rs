// SPDX-License-Identifier: MIT OR Apache-2.0
//! A value that is set once and then read without a lock.

// UNSAFETY: a cell is written by whoever comes first, and read by all when it is ready.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;

use crate::atomic::AtomicU8;
use crate::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::const_fn;
use crate::witness::Witness;

const EMPTY: u8 = 0;
const BEING_SET: u8 = 1;
const READY: u8 = 2;

/// A value that is set once and then read without a lock. Nobody ever waits.
///
/// ```
/// use evtchn_sync::Once;
///
/// let once = Once::new();
/// assert_eq!(once.get(), None);
/// assert_eq!(once.set(5), Ok(()));
/// assert_eq!(once.set(6), Err(6));
/// assert_eq!(once.get(), Some(&5));
/// ```
pub struct Once<T> {
    state: AtomicU8,
    witness: Witness,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: sharing it shares `&T`, and lets another thread move a `T` in.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    const_fn! {
        /// No value yet.
        pub const fn new() -> Self {
            Self {
                state: AtomicU8::new(EMPTY),
                witness: Witness::new(),
                value: UnsafeCell::new(MaybeUninit::uninit()),
            }
        }
    }

    /// Sets the value.
    ///
    /// # Errors
    /// Gives the value back if there is one, or another thread is about to set one.
    pub fn set(&self, value: T) -> Result<(), T> {
        if self.state.compare_exchange(EMPTY, BEING_SET, Relaxed, Relaxed).is_err() {
            return Err(value);
        }
        self.witness.write();
        // SAFETY: only the thread that left EMPTY writes, and nobody reads before READY.
        unsafe { self.value.get().write(MaybeUninit::new(value)) };
        // Release pairs with the acquire in `get`.
        self.state.store(READY, Release);
        Ok(())
    }

    /// The value, if it is set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire pairs with the release in `set`.
        if self.state.load(Acquire) != READY {
            return None;
        }
        self.witness.read();
        let value: *const T = self.value.get().cast(); // laid out as what it may hold
        // SAFETY: the state is READY, so it was written, and is never written again.
        Some(unsafe { &*value })
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for Once<T> {
    fn drop(&mut self) {
        // A model that has failed is taken down without loom's scheduler: its statics must not touch an atomic.
        #[cfg(loom)]
        if std::thread::panicking() {
            return;
        }
        if self.state.load(Relaxed) == READY {
            // SAFETY: it was written, and is dropped here only.
            unsafe { self.value.get_mut().assume_init_drop() };
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Once<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Once").field(&self.get()).finish()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    extern crate std;

    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn one_of_many_setters_wins_and_all_see_its_value() {
        for _ in 0..200 {
            let once = Once::new();
            let won = thread::scope(|scope| {
                let set = |n| {
                    scope.spawn({
                        let once = &once;
                        move || once.set(std::boxed::Box::new(n)).is_ok()
                    })
                };
                let setters = [set(0), set(1), set(2)];
                setters.map(|setter| setter.join().unwrap())
            });
            assert_eq!(won.iter().filter(|&&won| won).count(), 1);
            assert!(won[**once.get().unwrap()]);
        }
    }

    #[test]
    fn the_value_is_dropped_once() {
        let counted = Arc::new(());
        let once = Once::new();
        once.set(counted.clone()).unwrap();
        drop(once.set(counted.clone()).unwrap_err());
        drop(once);
        assert_eq!(Arc::strong_count(&counted), 1);
    }
}
