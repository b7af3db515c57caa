// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor side of Xen event channels.
//!
//! ```
//! use std::sync::Arc;
//! use evtchn_abi::{DomId, Layout, Port, VcpuId};
//! use evtchn_engine::{DomainConfig, Engine, Hooks, OpError, Upcall};
//! use evtchn_guest::{SelfNotify, TwoLevel, Vcpu};
//! use evtchn_sync::HeapPage;
//!
//! /// The embedder's side: a VMM would interrupt the vCPU here.
//! struct Vmm;
//! impl Hooks for Vmm {
//!     type Page = Arc<HeapPage>;
//!     fn deliver(&self, domain: DomId, vcpu: VcpuId, _: Upcall) {
//!         println!("domain {domain}: upcall for vCPU {vcpu}");
//!     }
//!     fn wake_poller(&self, _: DomId, _: VcpuId) {}
//! }
//!
//! let engine = Engine::new(Vmm);
//! let (front, back) = (DomId(1), DomId(2));
//! let page = Arc::new(HeapPage::new()); // shared with domain 2
//! engine.create_domain(front, DomainConfig::default())?;
//! engine.create_domain(back, DomainConfig::default())?;
//! engine.set_shared_info(back, Some(page.clone()))?;
//!
//! // Domain 2 waits for domain 1, domain 1 binds, and sends.
//! let waiting = engine.alloc_unbound(back, DomId::SELF, front)?;
//! let port = engine.bind_interdomain(front, back, waiting)?;
//! engine.send(front, port)?; // calls `deliver`
//!
//! // What domain 2's kernel does in its upcall.
//! let guest = TwoLevel::new(page, &Layout::X86_64, SelfNotify::Local, [Vcpu::new()]);
//! guest.bind_to_vcpu(waiting, VcpuId(0));
//! let mut seen = Vec::new();
//! guest.upcall(VcpuId(0), |port| seen.push(port));
//! assert_eq!(seen, [waiting]);
//! # Ok::<(), OpError>(())
//! ```
//!
//! # Two doors
//!
//! The *typed* door has a method for each operation: [`Engine::alloc_unbound`], [`Engine::send`] and
//! so on. The *raw* door, [`Engine::event_channel_op`] and [`Engine::hypercall`], takes what a guest
//! puts into its registers and reads and writes the guest's memory. Both give the answers of Xen, with
//! the checks in Xen's order; where releases of Xen differ, [`Level`] chooses.
//!
//! # What the embedder gives
//!
//! [`Hooks`]: a way to interrupt and to wake a vCPU, physical interrupts, an observer. Pages that are
//! shared with a guest are [`Page`](evtchn_sync::Page)s: atomics at checked offsets. The engine has no
//! clock, no thread and no logger.
//!
//! # What is locked
//!
//! Each domain has a lock, taken for writing by whatever opens, closes, connects or moves a port, and
//! for reading by `send`, `unmask`, `status`, polls and the raising of VIRQs and PIRQs. Creating and
//! destroying a domain wait for all running operations. The locks spin; none is held over a hook
//! (but see [`Hooks::pirq_bind`] and [`Hooks::pin`]), nor while a guest's memory is copied, so a guest can make another
//! domain wait no longer than one operation takes.
//!
//! # What a guest can make the engine allocate
//!
//! 16 bytes for each port number up to its highest, in buckets of 64, and 4 bytes for each PIRQ up to
//! its limit; both are kept until the domain is destroyed. With FIFO, some 200 bytes for each vCPU, and the
//! 128 pages that it may have pinned, until a reset. An allocation that fails is ENOMEM.
//!
//! # Both ABIs
//!
//! A domain begins with the two-level ABI. The first [`Engine::init_control`] switches it to FIFO, for which
//! the embedder gives pages of the guest's memory ([`Hooks::pin`]); a reset brings it back.
//!
//! # Saved state
//!
//! What the engine knows of a domain, or of all, as plain data: see [`state`].
//!
//! # Not here yet
//!
//! vcpu_info outside shared_info, and timers.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod caller;
mod channel;
mod config;
mod consumer;
mod deliver;
mod domain;
mod domains;
mod dump;
mod engine;
mod error;
mod fifo;
mod hooks;
mod level;
mod locks;
mod memory;
mod ops;
mod pirq;
mod poll;
mod ports;
mod quarantine;
mod raw;
mod send;
pub mod state;
mod table;
pub mod test_utils;
mod two_level;
mod validate;
mod vcpu_info;
mod virq;

pub use caller::Caller;
pub use channel::{Consumer, State};
pub use config::{DomainConfig, DomainKind, Width};
pub use dump::{DumpRow, Link};
pub use engine::Engine;
pub use error::OpError;
pub use hooks::{Hooks, Observed, PirqRefused, Upcall};
pub use level::Level;
pub use memory::{Fault, GuestMemory};
pub use ops::{PortStatus, ResetOutcome};
pub use poll::PollOutcome;
pub use raw::Outcome;
pub use state::{DomainState, MachineState, RestoreError};
