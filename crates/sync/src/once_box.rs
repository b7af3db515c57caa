// SPDX-License-Identifier: MIT OR Apache-2.0
//! A box that is set once and then read without a lock.

// UNSAFETY: ownership goes through a raw pointer that readers borrow from.
#![allow(unsafe_code)]

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;

use crate::atomic::AtomicPtr;
use crate::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use crate::const_fn;

/// A box that is set once and then read without a lock: [`Once`](crate::Once) for large values, in one word.
///
/// ```
/// use evtchn_sync::OnceBox;
///
/// let once = OnceBox::new();
/// assert_eq!(once.get(), None);
/// assert_eq!(once.set(Box::new(5)), Ok(()));
/// assert_eq!(once.set(Box::new(6)), Err(Box::new(6)));
/// assert_eq!(once.get(), Some(&5));
/// ```
pub struct OnceBox<T> {
    pointer: AtomicPtr<T>,
    _owns: PhantomData<Box<T>>,
}

// SAFETY: sharing it shares `&T`, and lets another thread move a `Box<T>` in.
unsafe impl<T: Send + Sync> Sync for OnceBox<T> {}
// SAFETY: as for the box that it holds.
unsafe impl<T: Send> Send for OnceBox<T> {}

impl<T> OnceBox<T> {
    const_fn! {
        /// No value yet.
        pub const fn new() -> Self {
            Self { pointer: AtomicPtr::new(ptr::null_mut()), _owns: PhantomData }
        }
    }

    /// Sets the value.
    ///
    /// # Errors
    /// Gives the value back if there is one.
    pub fn set(&self, value: Box<T>) -> Result<(), Box<T>> {
        let value = Box::into_raw(value);
        // Release pairs with the acquire in `get`.
        match self.pointer.compare_exchange(ptr::null_mut(), value, AcqRel, Relaxed) {
            Ok(_) => Ok(()),
            // SAFETY: it came from the box above, and was not stored.
            Err(_) => Err(unsafe { Box::from_raw(value) }),
        }
    }

    /// The value, if it is set.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire pairs with the release in `set`.
        let pointer = self.pointer.load(Acquire);
        // SAFETY: it is null or came from a box that lives as long as `self`, and is never lent mutably.
        unsafe { pointer.as_ref() }
    }
}

impl<T> Default for OnceBox<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        let pointer = self.pointer.load(Relaxed);
        if !pointer.is_null() {
            // SAFETY: it came from a box, and is dropped here only.
            drop(unsafe { Box::from_raw(pointer) });
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for OnceBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnceBox").field(&self.get()).finish()
    }
}
