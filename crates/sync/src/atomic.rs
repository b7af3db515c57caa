// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where atomics come from: `core`, or a model checker when the models are run.
//!
//! Whoever shares memory between threads takes its atomics from here, so that the code that is checked is
//! the code that runs.

#[cfg(not(any(loom, shuttle)))]
pub use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(loom)]
pub use loom::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(shuttle)]
pub use shuttle::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// Declares functions that are `const` where atomics can be made in a constant: loom's cannot.
#[doc(hidden)]
#[macro_export]
macro_rules! const_fn {
    ($($(#[$attr:meta])* $vis:vis const fn $name:ident($($args:tt)*) -> $ret:ty $body:block)*) => {$(
        #[cfg(not(loom))]
        $(#[$attr])*
        $vis const fn $name($($args)*) -> $ret $body
        #[cfg(loom)]
        $(#[$attr])*
        $vis fn $name($($args)*) -> $ret $body
    )*};
}

/// An array of atomics, which are no constants in loom.
#[cfg(not(loom))]
#[doc(hidden)]
#[macro_export]
macro_rules! array_of {
    ($element:expr) => {
        [const { $element }; _]
    };
}

/// An array of atomics, which are no constants in loom.
#[cfg(loom)]
#[doc(hidden)]
#[macro_export]
macro_rules! array_of {
    ($element:expr) => {
        core::array::from_fn(|_| $element)
    };
}
