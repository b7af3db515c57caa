// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest side of Xen event channels: from an upcall to the ports that have news.
//!
//! ```
//! use std::sync::Arc;
//! use evtchn_abi::{Errno, Layout, Op, Port, VcpuId};
//! use evtchn_guest::{Hypercall, SelfNotify, TwoLevel, Vcpu};
//! use evtchn_sync::{HeapPage, Page};
//!
//! struct NoXen; // a real guest executes the hypercall instruction here
//! impl Hypercall for NoXen {
//!     fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
//!         Err(Errno::ENOSYS)
//!     }
//! }
//!
//! let page = Arc::new(HeapPage::new());
//! let guest = TwoLevel::new(page.clone(), &Layout::X86_64, SelfNotify::Local, [Vcpu::new()]);
//! guest.bind_to_vcpu(Port(70), VcpuId(0));
//!
//! // What Xen does when an event arrives at port 70, which is bit 6 of word 1:
//! use std::sync::atomic::Ordering::SeqCst;
//! page.u64(2048 + 8).unwrap().fetch_or(1 << 6, SeqCst); // pending
//! page.u64(8).unwrap().fetch_or(1 << 1, SeqCst); // selector of vCPU 0
//! page.u8(0).unwrap().fetch_or(1, SeqCst); // upcall_pending of vCPU 0
//!
//! let mut seen = Vec::new();
//! assert!(guest.upcall(VcpuId(0), |port| seen.push(port)));
//! assert_eq!(seen, [Port(70)]);
//! assert_eq!(guest.unmask(Port(70), VcpuId(0), &NoXen), Ok(false)); // nothing new meanwhile
//! ```
//!
//! No locks, no allocation: everything is atomics, in the shared page and in [`Vcpu`].
//!
//! A driver that wants one event at a time masks the port in its handler and unmasks it when it is
//! done: events that arrive meanwhile stay pending and are announced by [`TwoLevel::unmask`].
//!
//! [`TwoLevel`] is the ABI that every Xen has, with 4096 ports (1024 for 32-bit guests) in one page. [`Fifo`] has up to
//! 131072, in pages that the guest adds, sixteen priorities, and keeps the order of events within each.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod fifo;
mod handlers;
mod hypercall;
mod scan;
mod two_level;
mod upcall;
mod vcpu;

pub use fifo::{Fifo, FifoVcpu};
pub use handlers::Handlers;
#[cfg(feature = "engine")]
pub use hypercall::InProcess;
pub use hypercall::{Argument, Call, Divergence, Hypercall, Recording, ReplayError, Replaying, Request};
pub use scan::Scan;
pub use two_level::{SelfNotify, TwoLevel};
pub use vcpu::Vcpu;
