// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values published to lock-free readers, and taken back.

// UNSAFETY: ownership goes through a raw pointer that readers borrow from.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;

use crate::atomic::AtomicPtr;
use crate::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use crate::readers::{Guard, wait_for_readers};

mod sealed {
    pub trait Sealed {}
    impl<T> Sealed for alloc::boxed::Box<T> {}
    impl<T> Sealed for alloc::sync::Arc<T> {}
}

/// What can be published: a `Box` or an `Arc`.
pub trait Owner: sealed::Sealed {
    /// What it owns.
    type Target;

    /// Gives up ownership to a pointer.
    fn into_raw(self) -> *mut Self::Target;

    /// Takes ownership back.
    ///
    /// # Safety
    /// The pointer is from [`Owner::into_raw`], and is not used for this again.
    unsafe fn from_raw(raw: *mut Self::Target) -> Self;
}

impl<T> Owner for Box<T> {
    type Target = T;

    fn into_raw(self) -> *mut T {
        Box::into_raw(self)
    }

    unsafe fn from_raw(raw: *mut T) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Box::from_raw(raw) }
    }
}

impl<T> Owner for Arc<T> {
    type Target = T;

    fn into_raw(self) -> *mut T {
        Arc::into_raw(self).cast_mut()
    }

    unsafe fn from_raw(raw: *mut T) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Arc::from_raw(raw) }
    }
}

/// A value, or none, that readers use under a [`Guard`] and a writer may replace at any time.
///
/// ```
/// use evtchn_sync::{Published, enter};
///
/// let number = Published::new(Some(Box::new(5)));
/// assert_eq!(number.load(&enter()), Some(&5));
/// let old = number.replace(None).wait();
/// assert_eq!(old, Some(Box::new(5)));
/// assert_eq!(number.load(&enter()), None);
/// ```
pub struct Published<O: Owner> {
    pointer: AtomicPtr<O::Target>,
    _owns: PhantomData<O>,
}

// SAFETY: a reader on any thread gets `&Target` (Sync), an Arc of it, or, from `replace`, the owner (Send).
unsafe impl<O: Owner + Send + Sync> Sync for Published<O> {}
// SAFETY: as for the owner that it holds.
unsafe impl<O: Owner + Send + Sync> Send for Published<O> {}

fn raw<O: Owner>(owner: Option<O>) -> *mut O::Target {
    owner.map_or(ptr::null_mut(), O::into_raw)
}

impl<O: Owner> Published<O> {
    /// Publishes a value from the beginning, or none.
    pub fn new(owner: Option<O>) -> Self {
        Self { pointer: AtomicPtr::new(raw(owner)), _owns: PhantomData }
    }

    /// The value. It stays as long as the guard does.
    #[inline]
    pub fn load<'g>(&'g self, _guard: &'g Guard<'_>) -> Option<&'g O::Target> {
        // Acquire pairs with `replace`. Either a look at the slots finds this reader, or the pointer that was
        // withdrawn before is not seen here.
        let pointer = self.pointer.load(Acquire);
        // SAFETY: it is null, or came from `O::into_raw` and is freed only after a grace period that began after
        // it was withdrawn, and so not before the guard is dropped.
        unsafe { pointer.as_ref() }
    }

    /// Publishes another value, or none. The old one is withdrawn, and may be had when its readers are gone.
    pub fn replace(&self, owner: Option<O>) -> Retired<O> {
        // SeqCst: releases the value to `load`, and is a withdrawal in the sense of the reader slots.
        Retired { pointer: self.pointer.swap(raw(owner), SeqCst), _owns: PhantomData }
    }

    /// Is there a value? It may be gone the next moment.
    pub fn is_some(&self) -> bool {
        !self.pointer.load(Relaxed).is_null()
    }
}

impl<T> Published<Arc<T>> {
    /// The value, to keep beyond the guard.
    pub fn share(&self, guard: &Guard<'_>) -> Option<Arc<T>> {
        let _ = guard;
        // Acquire as in `load`. The pointer itself, not one made from a reference: the count lies beside the value.
        let value: *const T = self.pointer.load(Acquire);
        if value.is_null() {
            return None;
        }
        // SAFETY: it came from an `Arc` that lives as long as the guard.
        unsafe { Arc::increment_strong_count(value) };
        // SAFETY: the count that was just added is this one's.
        Some(unsafe { Arc::from_raw(value) })
    }
}

impl<O: Owner> Drop for Published<O> {
    fn drop(&mut self) {
        let pointer = self.pointer.load(Relaxed);
        if !pointer.is_null() {
            // SAFETY: nobody else has `self`, so there is no reader, and it is not used again.
            drop(unsafe { O::from_raw(pointer) });
        }
    }
}

impl<O: Owner> fmt::Debug for Published<O>
where
    O::Target: fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&self.load(&crate::enter())).finish()
    }
}

/// A value that was withdrawn; readers of before may be using it still.
///
/// Dropping it waits for them, too. Neither may be done under a [`Guard`].
#[must_use = "dropping it waits for readers"]
pub struct Retired<O: Owner> {
    pointer: *mut O::Target,
    _owns: PhantomData<O>,
}

// SAFETY: it is an owner in another form.
unsafe impl<O: Owner + Send> Send for Retired<O> {}

impl<O: Owner> Retired<O> {
    /// Waits until no reader uses the value, and gives it back.
    #[must_use]
    pub fn wait(mut self) -> Option<O> {
        self.take()
    }

    fn take(&mut self) -> Option<O> {
        let pointer = core::mem::replace(&mut self.pointer, ptr::null_mut());
        (!pointer.is_null()).then(|| {
            wait_for_readers();
            // SAFETY: it was published once, was withdrawn before the readers were waited for, and was taken from
            // here once.
            unsafe { O::from_raw(pointer) }
        })
    }
}

impl<O: Owner> Drop for Retired<O> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Allocates a `Box`, or gives `None` where there is no memory.
pub fn try_box<T>(value: T) -> Option<Box<T>> {
    let mut one = alloc::vec::Vec::new();
    one.try_reserve_exact(1).ok()?;
    one.push(value);
    let one = Box::into_raw(one.into_boxed_slice()).cast::<T>();
    // SAFETY: a slice of one element has the layout of the element, and this is its only owner.
    Some(unsafe { Box::from_raw(one) })
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    extern crate std;

    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    use std::thread;

    use super::*;
    use crate::enter;

    /// Counts those that are alive, and knows whether it is.
    struct Tracked<'a>(&'a AtomicU32, AtomicBool);

    impl<'a> Tracked<'a> {
        fn new(count: &'a AtomicU32) -> Box<Self> {
            count.fetch_add(1, SeqCst);
            Box::new(Self(count, AtomicBool::new(true)))
        }
    }

    impl Drop for Tracked<'_> {
        fn drop(&mut self) {
            assert!(self.1.swap(false, SeqCst));
            self.0.fetch_sub(1, SeqCst);
        }
    }

    #[test]
    fn no_reader_sees_a_value_that_was_freed_and_none_leaks() {
        let (count, stop) = (AtomicU32::new(0), AtomicBool::new(false));
        let published = Published::new(Some(Tracked::new(&count)));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(SeqCst) {
                        let guard = enter();
                        assert!(published.load(&guard).is_some_and(|value| value.1.load(SeqCst)));
                    }
                });
            }
            for _ in 0..2_000 {
                drop(published.replace(Some(Tracked::new(&count))));
                assert_eq!(count.load(SeqCst), 1);
            }
            stop.store(true, SeqCst);
        });
        drop(published);
        assert_eq!(count.load(SeqCst), 0);
    }

    #[test]
    fn a_shared_value_outlives_its_publication() {
        let published = Published::new(Some(Arc::new(5)));
        let shared = published.share(&enter()).unwrap();
        assert_eq!(published.replace(None).wait().as_deref(), Some(&5));
        assert_eq!((*shared, Arc::strong_count(&shared)), (5, 1));
    }

    #[test]
    fn a_box_is_allocated_fallibly() {
        assert_eq!(try_box([7u64; 3]).as_deref(), Some(&[7, 7, 7]));
        assert_eq!(try_box(()).as_deref(), Some(&()));
    }
}
