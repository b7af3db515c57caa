// SPDX-License-Identifier: MIT OR Apache-2.0
//! Memory shared with another party, seen only as atomics; and the locks of the engine.
//!
//! A hypervisor and its guest, or two processes, look at the same page. Neither may ever hold a
//! reference to plain memory in it, because the other side writes at any moment: everything goes
//! through [`Page`], which hands out atomics at checked offsets.
//!
//! ```
//! use core::sync::atomic::Ordering;
//! use evtchn_sync::{HeapPage, Page};
//!
//! let page = HeapPage::new();
//! page.u64(2048).unwrap().fetch_or(1 << 5, Ordering::SeqCst);
//! assert_eq!(page.u8(2048).unwrap().load(Ordering::SeqCst), 1 << 5);
//! assert!(page.u64(2049).is_none()); // not aligned
//! assert!(page.u64(4096).is_none()); // outside
//! ```
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod fence;
mod heap;
mod mutex;
mod page;
mod relax;
mod rwlock;

pub use fence::fence_after_rmw;
pub use heap::HeapPage;
pub use mutex::{Mutex, MutexGuard};
pub use page::{PAGE_SIZE, Page};
pub use rwlock::{ReadGuard, RwLock, WriteGuard};
