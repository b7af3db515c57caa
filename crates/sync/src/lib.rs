// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the engine's threads share: pages, locks, and what can be read without one.
//!
//! # Pages
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
//!
//! # Readers
//!
//! A thread that only reads takes no lock: it [`enter`]s, and while it holds the [`Guard`] nothing that is
//! [`Published`] is freed. See `readers.rs` for the protocol.
//!
//! # Models
//!
//! With `--cfg loom` or `--cfg shuttle` all atomics, and so every protocol built on this crate, are those of
//! the model checker; pages are `ModelPage`s then.
//!
//! # Features
//!
//! None is on by default.
//!
//! | Feature | What it adds |
//! |---|---|
//! | `alloc` | [`Page`] for `Box` and `Arc` of one; `Published`, `OnceBox`, and [`Reader`]s without end |
//! | `std` | threads that wait for another give their processor away after a while, instead of spinning on; with `alloc` |
//!
#![cfg_attr(not(feature = "alloc"), doc = "[`Published`]: crate#features")]
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", loom, shuttle))]
extern crate std;

pub mod atomic;
mod fence;
#[cfg(not(any(loom, shuttle)))]
mod heap;
#[cfg(any(loom, shuttle))]
mod model_page;
mod mutex;
mod once;
#[cfg(feature = "alloc")]
mod once_box;
mod page;
#[cfg(feature = "alloc")]
mod published;
#[cfg(feature = "alloc")]
mod reader_rows;
mod readers;
mod relax;
mod witness;

pub use fence::{RMW_IS_FENCE, fence_after_rmw};
#[cfg(not(any(loom, shuttle)))]
pub use heap::HeapPage;
#[cfg(any(loom, shuttle))]
pub use model_page::ModelPage;
pub use mutex::{Mutex, MutexGuard};
pub use once::Once;
#[cfg(feature = "alloc")]
pub use once_box::OnceBox;
pub use page::{PAGE_SIZE, Page};
#[cfg(feature = "alloc")]
pub use published::{Owner, Published, Retired, try_box};
pub use readers::{Grace, Guard, Reader, enter, no_readers, wait_for_readers};
pub use relax::relax;
