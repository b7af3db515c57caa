// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor side of Xen event channels.
//!
//! # Two domains
//!
//! Two guests with a channel between them: one with the two-level ABI, and one with the FIFO ABI, whose kernel is played by
//! `evtchn-guest`. The repository has the same with threads, polls, deadlines and long resets, the crate's example `two_domains`; and
//! a VMM that boots Linux on KVM, `examples/vmm`.
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::{Arc, Mutex};
//!
//! use evtchn_abi::{DomId, Errno, Gfn, Hypercall, Layout, Op, Port, VcpuId};
//! use evtchn_engine::{Caller, DomainConfig, Engine, Hooks, OpError, Outcome, Upcall};
//! use evtchn_guest::{Abi, Fifo, FifoVcpu, Frame, Frames};
//! use evtchn_sync::HeapPage;
//!
//! const DISK: DomId = DomId(1);
//! const CLIENT: DomId = DomId(2);
//! const V0: VcpuId = VcpuId(0);
//!
//! /// What the VMM has: the guests' memory, and a way to interrupt their vCPUs.
//! #[derive(Default)]
//! struct Vmm {
//!     frames: Mutex<HashMap<(DomId, Gfn), Arc<HeapPage>>>,
//!     interrupted: Mutex<Vec<(DomId, VcpuId)>>,
//! }
//!
//! impl Vmm {
//!     fn frame(&self, domain: DomId, gfn: Gfn) -> Arc<HeapPage> {
//!         self.frames.lock().unwrap().entry((domain, gfn)).or_default().clone()
//!     }
//! }
//!
//! impl Hooks for Vmm {
//!     type Page = Arc<HeapPage>; // with rust-vmm: evtchn_vm_memory::GuestPage
//!
//!     /// A vCPU is to look for events: inject the interrupt, kick its thread.
//!     fn deliver(&self, domain: DomId, vcpu: VcpuId, _kind: Upcall) {
//!         self.interrupted.lock().unwrap().push((domain, vcpu));
//!     }
//!
//!     /// A vCPU that slept in a poll is to go on.
//!     fn wake_poller(&self, _: DomId, _: VcpuId) {}
//!
//!     /// The guest names a frame for the FIFO ABI: is it its memory?
//!     fn pin(&self, domain: DomId, gfn: Gfn) -> Option<Arc<HeapPage>> {
//!         (gfn.0 < 0x1000).then(|| self.frame(domain, gfn))
//!     }
//! }
//!
//! /// A vCPU's thread, where the guest has executed the hypercall instruction.
//! fn hypercall(vcpu: &mut Caller<'_, Vmm>, op: Op, argument: &mut [u8]) -> i64 {
//!     let registers = [op.0.into(), 0, 0, 0, 0]; // the command, and the address of its argument
//!     match vcpu.hypercall(Hypercall::EVENT_CHANNEL_OP.0, registers, argument) {
//!         Outcome::Done(result) => result,
//!         Outcome::NotMine => Errno::ENOSYS.negated(),
//!         // A poll sleeps, a long reset gives way: `event_channel_op` of this guest does neither.
//!         Outcome::Block { .. } | Outcome::Again => unreachable!(),
//!     }
//! }
//!
//! /// The same, as the FIFO guest's kernel sees it: its `event_channel_op` only, all else is ENOSYS.
//! /// `evtchn_guest::InProcess` is the whole of it, ready made, for guests whose registers need not be played.
//! struct Xen<'e>(Mutex<Caller<'e, Vmm>>);
//! impl evtchn_guest::Hypercall for Xen<'_> {
//!     fn event_channel_op(&self, op: Op, argument: &mut [u8]) -> Result<(), Errno> {
//!         match hypercall(&mut self.0.lock().unwrap(), op, argument) {
//!             0 => Ok(()),
//!             error => Err(Errno(error.unsigned_abs() as u16)),
//!         }
//!     }
//! }
//!
//! let engine = Engine::new(Vmm::default());
//! for domain in [DISK, CLIENT] {
//!     engine.create_domain(domain, DomainConfig::guest(1))?;
//!     engine.set_shared_info(domain, Some(engine.hooks().frame(domain, Gfn(0))))?;
//! }
//!
//! // The disk's kernel boots: a control block, words for 1,024 ports, a port for the client.
//! let vmm = engine.hooks();
//! let xen = Xen(Mutex::new(engine.caller(DISK, V0)?));
//! let frame = |gfn| Frame { page: vmm.frame(DISK, gfn), gfn };
//! let memory = Frames {
//!     control_blocks: vec![frame(Gfn(1))],
//!     event_array: vec![frame(Gfn(2))],
//!     ..Frames::two_level(vmm.frame(DISK, Gfn(0)), &Layout::X86_64)
//! };
//! let kernel = Fifo::new(memory, [FifoVcpu::new()]);
//! kernel.online(V0, &xen).unwrap();
//! let requests = engine.alloc_unbound(DISK, DomId::SELF, CLIENT)?; // the typed door
//! kernel.cover(requests, &xen).unwrap();
//! kernel.unmask(requests, &xen).unwrap();
//!
//! // The client binds, and sends: the number of its port in the argument.
//! let mut client = engine.caller(CLIENT, V0)?;
//! let port = engine.bind_interdomain(CLIENT, DISK, requests)?;
//! vmm.interrupted.lock().unwrap().clear(); // binding tells the binder, once
//! assert_eq!(hypercall(&mut client, Op::SEND, &mut port.0.to_le_bytes()), 0);
//! assert_eq!(*vmm.interrupted.lock().unwrap(), [(DISK, V0)]);
//!
//! // The disk's kernel in its upcall.
//! let mut seen = Vec::new();
//! kernel.upcall(V0, |port| seen.push(port));
//! assert_eq!(seen, [requests]);
//!
//! drop((client, xen));
//! engine.destroy_domain(DISK)?; // closes its ports and gives its pages back
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
//! Sends, unmasks, polls and interrupts take no lock, but for that of a FIFO queue when a port is put there. Each domain has one lock, for
//! whatever opens, closes, connects or moves a port, or sets up what is shared with the guest. Locks spin and
//! serve in the order of arrival; none is held over a hook (but see [`Hooks::pirq_bind`], [`Hooks::pin`] and [`Hooks::set_deadline`]), nor while a
//! guest's memory is copied. Taking a page away, moving a port to another vCPU, resets and destruction wait, without a lock,
//! for the sends that are under way at that moment. Where threads may be descheduled at any moment, as a VMM's, the feature `std`
//! lets those that wait give their processor away. The protocol is in the project's `docs/design.md`, section 3.
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
//!
//! # Features
//!
//! None is on by default.
//!
//! | Feature | What it adds |
//! |---|---|
//! | `serde` | `Serialize` and `Deserialize` for the saved [`state`] |
//! | `std` | threads that wait for another give their processor away after a while: for VMMs, whose threads may not be running |
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
