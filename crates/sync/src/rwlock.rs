// SPDX-License-Identifier: MIT OR Apache-2.0
//! A spinning reader-writer lock that starves nobody.
//!
//! Phase-fair, after Brandenburg and Anderson ("Spin-based reader-writer synchronization for
//! multiprocessor real-time systems", 2010): writers queue by ticket, and between two writers all
//! readers that wait get in. So a reader waits for one writer at most, and a writer for those readers
//! that were there before it and for the writers before it, however busy the lock is.
//!
//! ```text
//! readers_in   counts readers that came, in steps of 256; its low bits announce a writer and its phase
//! readers_out  counts readers that left, in steps of 256
//! tickets      writers that came          serving   the writer whose turn it is
//! ```

// UNSAFETY: a lock hands out references into its cell.
#![allow(unsafe_code)]

use crate::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::atomic::{AtomicU32, const_fn};
use crate::relax::wait_until;
use crate::witness::Witness;
use core::cell::UnsafeCell;
use core::fmt;
use core::ops::{Deref, DerefMut};

const READER: u32 = 0x100;
const WRITER_BITS: u32 = 0x3;
const WRITER: u32 = 0x2;
const PHASE: u32 = 0x1;

/// A spinning reader-writer lock that starves nobody. Not recursive, for readers neither.
///
/// ```
/// use evtchn_sync::RwLock;
///
/// let lock = RwLock::new(5);
/// assert_eq!(*lock.read() + *lock.read(), 10);
/// *lock.write() = 6;
/// assert_eq!(lock.into_inner(), 6);
/// ```
pub struct RwLock<T> {
    readers_in: AtomicU32,
    readers_out: AtomicU32,
    tickets: AtomicU32,
    serving: AtomicU32,
    witness: Witness,
    value: UnsafeCell<T>,
}

// SAFETY: moving the lock moves the value and nothing else.
unsafe impl<T: Send> Send for RwLock<T> {}
// SAFETY: readers share `&T` between threads, which needs `Sync`; a writer gets `&mut T` on its own
// thread, which needs `Send`.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

/// The right to read.
#[must_use]
pub struct ReadGuard<'a, T>(&'a RwLock<T>);

/// The right to write.
#[must_use]
pub struct WriteGuard<'a, T>(&'a RwLock<T>);

// SAFETY: sharing a guard shares `&T`, and nothing else.
unsafe impl<T: Sync> Sync for ReadGuard<'_, T> {}
// SAFETY: as for `ReadGuard`.
unsafe impl<T: Sync> Sync for WriteGuard<'_, T> {}

impl<T> RwLock<T> {
    const_fn! {
        /// An unlocked lock.
        pub const fn new(value: T) -> Self {
            Self {
                readers_in: AtomicU32::new(0),
                readers_out: AtomicU32::new(0),
                tickets: AtomicU32::new(0),
                serving: AtomicU32::new(0),
                witness: Witness::new(),
                value: UnsafeCell::new(value),
            }
        }
    }

    /// Waits until no writer is in, and reads.
    ///
    /// A thread that holds the lock must not take it again: a writer may have come in between.
    #[inline]
    pub fn read(&self) -> ReadGuard<'_, T> {
        // Acquire pairs with the release in `WriteGuard::drop`.
        let writer = self.readers_in.fetch_add(READER, Acquire) & WRITER_BITS;
        if writer != 0 {
            // Until this writer has left; the next one has the other phase.
            wait_until(|| self.readers_in.load(Acquire) & WRITER_BITS != writer);
        }
        self.witness.read();
        ReadGuard(self)
    }

    /// Waits for its turn among writers and for the readers before it, and writes.
    #[inline]
    pub fn write(&self) -> WriteGuard<'_, T> {
        let ticket = self.tickets.fetch_add(1, Relaxed);
        // Acquire pairs with the previous writer's release.
        wait_until(|| self.serving.load(Acquire) == ticket);
        // From here on readers wait. Release: a reader that sees the next phase sees this one over.
        let before = self.readers_in.fetch_add(WRITER | (ticket & PHASE), AcqRel);
        // Acquire pairs with the release in `ReadGuard::drop` of the readers that came before.
        wait_until(|| self.readers_out.load(Acquire) == before);
        self.witness.write();
        WriteGuard(self)
    }

    /// The value, without locking: nobody else can have the lock.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: while this guard lives no `WriteGuard` does, so nobody has a `&mut T`.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.witness.read();
        // Release pairs with the acquire in `write`: what was read was read before the writer comes.
        self.0.readers_out.fetch_add(READER, Release);
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one there is.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one there is, and it is borrowed exclusively.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.witness.write();
        // First the readers that wait, then the next writer. Release pairs with the acquires in
        // `read` and `write`.
        self.0.readers_in.fetch_and(!WRITER_BITS, Release);
        self.0.serving.fetch_add(1, Release);
    }
}

impl<T: fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RwLock").field(&*self.read()).finish()
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    extern crate std;

    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::thread;

    use super::*;

    #[test]
    fn readers_share_and_writers_exclude() {
        let lock = RwLock::new((0u32, 0u32));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let mut guard = lock.write();
                        let (first, second) = &mut *guard;
                        *first += 1;
                        *second += 1;
                    }
                });
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let (first, second) = *lock.read();
                        assert_eq!(first, second);
                    }
                });
            }
        });
        assert_eq!(lock.into_inner(), (4_000, 4_000));
    }

    #[test]
    fn a_writer_gets_in_among_readers_that_never_pause() {
        let lock = RwLock::new(0);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(SeqCst) {
                        let _ = *lock.read();
                    }
                });
            }
            for _ in 0..100 {
                *lock.write() += 1;
            }
            stop.store(true, SeqCst);
        });
        assert_eq!(*lock.read(), 100);
    }

    #[test]
    fn a_reader_gets_in_among_writers_that_never_pause() {
        let lock = RwLock::new(0u64);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(SeqCst) {
                        *lock.write() += 1;
                    }
                });
            }
            let seen: std::vec::Vec<_> = (0..100).map(|_| *lock.read()).collect();
            assert!(seen.is_sorted());
            stop.store(true, SeqCst);
        });
    }

    #[test]
    fn the_counters_may_wrap() {
        let lock = RwLock::new(0);
        lock.readers_in.store(!0xff, SeqCst);
        lock.readers_out.store(!0xff, SeqCst);
        lock.tickets.store(u32::MAX, SeqCst);
        lock.serving.store(u32::MAX, SeqCst);
        for round in 1..4 {
            *lock.write() = round;
            assert_eq!(*lock.read(), round);
        }
    }
}
