// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where this crate's atomics come from: `core`, or loom when its models are run.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
