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
//! so on. The *raw* door, [`Engine::hypercall`], takes what a guest puts into its registers and reads and writes the
//! guest's memory: `event_channel_op`, and what `sched_op`, `vcpu_op`, `hvm_op` and `set_timer_op` have to do with
//! events. Both give the answers of Xen, with the checks in Xen's order; where releases of Xen differ, [`Level`]
//! chooses.
//!
//! # What the embedder gives
//!
//! [`Hooks`]: a way to interrupt and to wake a vCPU, physical interrupts, an observer. Pages that are
//! shared with a guest are [`Page`](evtchn_sync::Page)s: atomics at checked offsets. The engine has no
//! clock, no thread and no logger.
//!
//! What else an embedder may choose:
//!
//! | | Where | Without it |
//! |---|---|---|
//! | who may do what | [`Policy`], from [`Hooks::policy`] | Xen's default rules |
//! | domains without pages, for back ends and I/O threads | [`Delivery::Sink`], [`Hooks::sink_event`] | pages |
//! | channels that it carries out itself, as KVM can | [`Hooks::offload`], [`Hooks::unload`] | all sends come to the engine |
//! | channels that exist before the domains run | [`Engine::connect_static`] | |
//! | to give way in long operations | [`Hooks::preempt`], [`Engine::tear_down`] | they run to their end |
//! | level-triggered lines | [`Engine::raise_pirq`], [`Hooks::pirq_eoi`] | edges |
//! | to hear of a suspended domain | [`Engine::set_suspend_port`], [`Engine::suspended`] | VIRQ_DOM_EXC |
//! | to trace every call and event | [`Hooks::observe`] | |
//!
//! # Upcalls
//!
//! A vCPU is told of events by [`Hooks::deliver`], with the kind of [`Upcall`] that its guest has chosen; a
//! hardware-assisted guest chooses by [`Engine::set_callback`] or [`Engine::set_upcall_vector`], and hears nothing
//! before. Most kinds are levels: the embedder reads [`Engine::pending_upcall`] before it enters the vCPU, and injects
//! what that says. The byte and the selector are in shared_info, or where the guest has put them
//! ([`Engine::register_vcpu_info`]).
//!
//! # Time
//!
//! The engine asks for deadlines and is told when they have passed ([`Hooks::set_deadline`],
//! [`Engine::deadline_passed`], [`Outcome::Block`]). It never asks what time it is.
//!
//! # What is locked
//!
//! Sends, unmasks, polls and interrupts take no lock and wait for nobody. Each domain has one lock, for
//! whatever opens, closes, connects or moves a port, or sets up what is shared with the guest. Locks spin and
//! serve in the order of arrival; none is held over a hook (but see [`Hooks::pirq_bind`], [`Hooks::pin`] and [`Hooks::set_deadline`]), nor while a
//! guest's memory is copied. Taking a page away, moving a port to another vCPU, resets and destruction wait, without a lock,
//! for the sends that are under way at that moment. The protocol is in the project's `docs/design.md`, section 3.
//!
//! A thread that sends often does so by a [`Caller`], which is one vCPU of a domain with a slot of its own.
//!
//! # What a guest can make the engine allocate
//!
//! 16 bytes for each port number up to its highest, in chunks of 512; and 4 bytes for each PIRQ that it may have, with
//! the first one; both are kept until the domain is destroyed. With FIFO, some 400 bytes for each vCPU, and the
//! 128 pages that it may have pinned, until a reset. For each vCPU one page with its vcpu_info. An allocation that fails is ENOMEM.
//!
//! # Both ABIs
//!
//! A domain begins with the two-level ABI. The first [`Engine::init_control`] switches it to FIFO, for which
//! the embedder gives pages of the guest's memory ([`Hooks::pin`]); a reset brings it back.
//!
//! # Saved state
//!
//! What the engine knows of a domain, or of all, as plain data: see [`state`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod action;
mod callback;
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
mod offload;
mod ops;
mod pirq;
mod policy;
mod poll;
mod ports;
mod quarantine;
mod raw;
mod send;
mod sink;
pub mod state;
mod suspend;
mod table;
mod teardown;
#[cfg(not(any(loom, shuttle)))]
pub mod test_utils;
mod timer;
mod two_level;
mod validate;
mod vcpu_info;
mod virq;

pub use action::Action;
pub use callback::Callback;
pub use caller::Caller;
pub use channel::{Consumer, State};
pub use config::{Delivery, DomainConfig, DomainKind, Width};
pub use dump::{DumpRow, Link};
pub use engine::Engine;
pub use error::OpError;
pub use hooks::{Hooks, Observed, PirqRefused, Upcall};
pub use level::Level;
pub use memory::{Fault, GuestMemory};
pub use offload::OffloadRoute;
pub use ops::{PortStatus, ResetOutcome};
pub use pirq::PirqStatus;
pub use policy::{Denied, Party, Policy, XenPolicy};
pub use poll::PollOutcome;
pub use raw::Outcome;
pub use state::{DomainState, MachineState, RestoreError};
pub use teardown::TeardownOutcome;
pub use vcpu_info::VcpuInfoPlace;
