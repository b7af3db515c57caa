// SPDX-License-Identifier: MIT OR Apache-2.0
//! A spinning lock that serves in the order of arrival.

// UNSAFETY: a lock hands out references into its cell.
#![allow(unsafe_code)]

use crate::atomic::AtomicU32;
use crate::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::const_fn;
use crate::relax::wait_until;
use crate::witness::Witness;
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// A spinning lock that serves in the order of arrival. Not recursive.
///
/// Eight bytes beside the value; one read-modify-write to lock, one store to unlock.
///
/// ```
/// use evtchn_sync::Mutex;
///
/// let lock = Mutex::new(5);
/// *lock.lock() += 1;
/// assert_eq!(*lock.lock(), 6);
/// ```
pub struct Mutex<T> {
    tickets: AtomicU32,
    serving: AtomicU32,
    witness: Witness,
    value: UnsafeCell<T>,
}

// SAFETY: the lock gives `&mut T` to one thread at a time, so sharing it only moves `T` between threads.
unsafe impl<T: Send> Sync for Mutex<T> {}

/// The right to use what a [`Mutex`] guards.
#[must_use]
pub struct MutexGuard<'a, T>(&'a Mutex<T>);

// SAFETY: sharing a guard shares `&T`, and nothing else.
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    const_fn! {
        /// An unlocked lock.
        pub const fn new(value: T) -> Self {
            Self {
                tickets: AtomicU32::new(0),
                serving: AtomicU32::new(0),
                witness: Witness::new(),
                value: UnsafeCell::new(value),
            }
        }
    }

    /// Waits for its turn, and locks. A thread that holds the lock must not take it again.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let ticket = self.tickets.fetch_add(1, Relaxed);
        // Acquire pairs with the release in `drop` of whoever was served before.
        wait_until(|| self.serving.load(Acquire) == ticket);
        self.witness.write();
        MutexGuard(self)
    }

    /// Locks, unless somebody holds the lock or waits for it.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // Acquire pairs with the release in `drop`, as in `lock`. That nobody else has a ticket says the exchange.
        let ticket = self.serving.load(Acquire);
        self.tickets.compare_exchange(ticket, ticket.wrapping_add(1), Relaxed, Relaxed).ok()?;
        self.witness.write();
        Some(MutexGuard(self))
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one there is.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one there is, and it is borrowed exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.witness.write();
        // Only the holder writes `serving`. Release pairs with the acquire in `lock`.
        let served = self.0.serving.load(Relaxed);
        self.0.serving.store(served.wrapping_add(1), Release);
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mutex").field(&*self.lock()).finish()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    extern crate std;

    use std::sync::atomic::Ordering::SeqCst;
    use std::thread;

    use super::*;

    #[test]
    fn holders_exclude_each_other() {
        let lock = Mutex::new((0u32, 0u32));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let mut guard = lock.lock();
                        let (first, second) = &mut *guard;
                        assert_eq!(first, second);
                        *first += 1;
                        *second += 1;
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), (8_000, 8_000));
    }

    #[test]
    fn trying_fails_while_somebody_holds_the_lock() {
        let lock = Mutex::new(5);
        let guard = lock.try_lock();
        assert!(guard.is_some() && lock.try_lock().is_none());
        drop(guard);
        assert_eq!(*lock.try_lock().unwrap(), 5);
        assert_eq!(*lock.lock(), 5);
    }

    #[test]
    fn the_tickets_may_wrap() {
        let lock = Mutex::new(0);
        lock.tickets.store(u32::MAX, SeqCst);
        lock.serving.store(u32::MAX, SeqCst);
        for round in 1..4 {
            *lock.lock() += 1;
            assert_eq!(*lock.lock(), round);
        }
    }
}
