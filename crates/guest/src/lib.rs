// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest side of Xen event channels: what a kernel, a unikernel or an RTOS links to receive events.
//!
//! * [`Events`] is a table of channels with handlers: virtual interrupts, IPIs, physical interrupts, other domains. It serves many vCPUs, holds
//!   storms back, moves channels, and binds them anew after a migration.
//! * Below it are the ABIs, [`TwoLevel`], [`Fifo`], and [`Auto`] for whichever Xen has, behind the trait [`Abi`]: for kernels with a table of
//!   their own, and for those who would rather [poll](Abi::take_pending).
//! * A [`Hypercall`] is how the guest asks Xen: the crate `evtchn-hypercall` has the instruction, [`InProcess`] is the hypervisor `evtchn-engine` in
//!   the same process, [`Recording`] and [`Replaying`] are for tests.
//! * [`Memory`] is where the shared pages are.
//!
//! No allocation, no locks that an interrupt could wait for, no unsafe code, no Xen needed to test it.
//!
//! # A kernel with the FIFO ABI
//!
//! With two vCPUs, and with `evtchn-engine` in the place of Xen. In a kernel `XEN` is the `Xen` of `evtchn-hypercall`, and the entry point of
//! the interrupt calls [`Events::upcall`].
//!
//! ```
//! use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
//! use std::sync::LazyLock;
//!
//! use evtchn_abi::{DomId, Gfn, Layout, Priority, VcpuId, Virq};
//! use evtchn_guest::{Answer, Event, Events, Fifo, FifoVcpu, Frame, Frames, Scan, Settings, Table, WithClock};
//! use evtchn_sync::HeapPage;
//! # use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
//! # use std::sync::Arc;
//! # struct Vmm;
//! # impl Hooks for Vmm {
//! #     type Page = &'static HeapPage;
//! #     fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
//! #     fn wake_poller(&self, _: DomId, _: VcpuId) {}
//! #     fn pin(&self, _: DomId, gfn: Gfn) -> Option<&'static HeapPage> {
//! #         PAGES.get(usize::try_from(gfn.0).ok()?)
//! #     }
//! # }
//! # static ENGINE: LazyLock<Engine<Vmm>> = LazyLock::new(|| Engine::new(Vmm));
//! # struct TheEngine;
//! # impl std::ops::Deref for TheEngine {
//! #     type Target = Engine<Vmm>;
//! #     fn deref(&self) -> &Engine<Vmm> { &ENGINE }
//! # }
//! # type Xen = evtchn_guest::InProcess<TheEngine>;
//! # const XEN: Xen = Xen::new(TheEngine, DomId(1), VcpuId(0));
//!
//! // The pages that the kernel shares with Xen: shared_info, control blocks, words for 1,024 ports.
//! static PAGES: [HeapPage; 3] = [const { HeapPage::new() }; 3];
//! type Pages = Frames<&'static HeapPage, &'static [Frame<&'static HeapPage>]>;
//! static MEMORY: Pages = Frames {
//!     layout: &Layout::X86_64,
//!     shared_info: &PAGES[0],
//!     vcpu_infos: &[],
//!     control_blocks: &[Frame { page: &PAGES[1], gfn: Gfn(1) }],
//!     event_array: &[Frame { page: &PAGES[2], gfn: Gfn(2) }],
//! };
//!
//! // What the events need of the kernel: hypercalls, and a clock.
//! type Machine = WithClock<Xen, fn() -> u64, fn(VcpuId, u64)>;
//! fn now() -> u64 {
//!     0 // nanoseconds, from Xen's clock
//! }
//! fn expire_at(_vcpu: VcpuId, _deadline: u64) {
//!     // Ask the timer to call EVENTS.expire(vcpu) then.
//! }
//!
//! // Up to 16 channels, on ports below 64, for two vCPUs.
//! type Handler = fn(&Event<'_>) -> Answer;
//! static TABLE: Table<Handler, 16, 64, 2> = Table::new();
//! type Abi = Fifo<&'static Pages, [FifoVcpu; 2]>;
//! static EVENTS: Events<Abi, Machine, &Table<Handler, 16, 64, 2>> = Events::new(
//!     Fifo::new(&MEMORY, [FifoVcpu::new(), FifoVcpu::new()]),
//!     WithClock::new(XEN, now, expire_at),
//!     &TABLE,
//! );
//!
//! static TICKS: AtomicU32 = AtomicU32::new(0);
//! fn tick(_: &Event<'_>) -> Answer {
//!     TICKS.fetch_add(1, SeqCst);
//!     Answer::Done
//! }
//!
//! /// A request has come from the other domain: it is served, and the answer announced.
//! fn serve(event: &Event<'_>) -> Answer {
//!     match event.notify() {
//!         Ok(()) => Answer::Done,
//!         Err(_) => Answer::Spurious, // nobody is there
//!     }
//! }
//!
//! # ENGINE.create_domain(DomId(0), DomainConfig::dom0(1))?;
//! # ENGINE.create_domain(DomId(1), DomainConfig::guest(2))?;
//! # ENGINE.set_shared_info(DomId(1), Some(&PAGES[0]))?;
//! // The kernel boots.
//! EVENTS.start();
//! EVENTS.online(VcpuId(0))?;
//! EVENTS.online(VcpuId(1))?;
//! let urgent = Settings::on(VcpuId(0)).priority(Priority::HIGHEST);
//! EVENTS.bind_virq(Virq::TIMER, urgent, tick)?;
//! // A peer that is not trusted: masked from each event until it has been handled, and slowed down if it sends for nothing.
//! let client = EVENTS.alloc_unbound(DomId(0), Settings::on(VcpuId(1)).late_eoi(), serve)?;
//!
//! // The other domain connects and sends, and time passes.
//! # let port = EVENTS.port(client).unwrap();
//! # let theirs = ENGINE.bind_interdomain(DomId(0), DomId(1), port)?;
//! # ENGINE.send(DomId(0), theirs)?;
//! # ENGINE.raise_virq(DomId(1), VcpuId(0), Virq::TIMER)?;
//! // Each vCPU is interrupted: its entry point says so.
//! for vcpu in [VcpuId(0), VcpuId(1)] {
//!     if EVENTS.upcall(vcpu) == Scan::Stopped {
//!         // A flood was cut short: call it again after other work.
//!     }
//! }
//! assert_eq!(TICKS.load(SeqCst), 1);
//! assert_eq!(EVENTS.stats(client).unwrap().events, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The same with the two-level ABI
//!
//! Only the ABI is another, and the pages are fewer:
//!
//! ```
//! # use evtchn_abi::{DomId, Layout, VcpuId, Virq};
//! # use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
//! # use std::sync::LazyLock;
//! # struct Vmm;
//! # impl Hooks for Vmm {
//! #     type Page = &'static HeapPage;
//! #     fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
//! #     fn wake_poller(&self, _: DomId, _: VcpuId) {}
//! # }
//! # static ENGINE: LazyLock<Engine<Vmm>> = LazyLock::new(|| Engine::new(Vmm));
//! # struct TheEngine;
//! # impl std::ops::Deref for TheEngine {
//! #     type Target = Engine<Vmm>;
//! #     fn deref(&self) -> &Engine<Vmm> { &ENGINE }
//! # }
//! # type Xen = evtchn_guest::InProcess<TheEngine>;
//! # const XEN: Xen = Xen::new(TheEngine, DomId(1), VcpuId(0));
//! # type Machine = evtchn_guest::WithClock<Xen, fn() -> u64, fn(VcpuId, u64)>;
//! # const MACHINE: Machine = Machine::new(XEN, || 0, |_, _| {});
//! use evtchn_guest::{Answer, Event, Events, Frame, Frames, Settings, Table, TwoLevel, TwoLevelVcpu};
//! use evtchn_sync::HeapPage;
//!
//! static SHARED_INFO: HeapPage = HeapPage::new();
//! type Pages = Frames<&'static HeapPage, [Frame<&'static HeapPage>; 0]>;
//! static MEMORY: Pages = Frames {
//!     layout: &Layout::X86_64,
//!     shared_info: &SHARED_INFO,
//!     vcpu_infos: [],
//!     control_blocks: [],
//!     event_array: [],
//! };
//!
//! type Handler = fn(&Event<'_>) -> Answer;
//! static TABLE: Table<Handler, 16, 64, 1> = Table::new();
//! type Abi = TwoLevel<&'static Pages, [TwoLevelVcpu; 1]>;
//! static EVENTS: Events<Abi, Machine, &Table<Handler, 16, 64, 1>> =
//!     Events::new(TwoLevel::new(&MEMORY, [TwoLevelVcpu::new()]), MACHINE, &TABLE);
//!
//! # ENGINE.create_domain(DomId(1), DomainConfig::guest(1))?;
//! # ENGINE.set_shared_info(DomId(1), Some(&SHARED_INFO))?;
//! EVENTS.start(); // masks every port
//! EVENTS.online(VcpuId(0))?;
//! let timer = EVENTS.bind_virq(Virq::TIMER, Settings::default(), |event| {
//!     println!("a tick on port {}", event.port);
//!     Answer::Done
//! })?;
//! # ENGINE.raise_virq(DomId(1), VcpuId(0), Virq::TIMER)?;
//! let _ = EVENTS.upcall(VcpuId(0)); // from the interrupt's entry point
//! assert_eq!(EVENTS.stats(timer).unwrap().events, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Auto`] tries FIFO and stays with two-level if Xen does not have it, as Linux does.
//!
//! # From boot to the first event
//!
//! On x86-64, with upcalls kept out until the last step. The repository's `tests/unikernel` is a kernel that does all of it, as a PVH guest
//! (`src/pvh.rs`) and as a PV guest (`src/pv.rs`).
//!
//! 1. **CPUID** says whether Xen is below, and which: `evtchn_hypercall::cpuid::Leaves`.
//! 2. **Hypercalls.** HVM, PVH: by the processor's instruction, `Gate::of_processor`. PV: through the page that the ELF note names, `Gate::page`.
//! 3. **`shared_info`** takes the place of a page of the kernel's own, 4 KiB and aligned to that ([`HeapPage`](evtchn_sync::HeapPage)); what was
//!    there is gone. HVM, PVH: `memory_op` (12), command `XENMEM_add_to_physmap` (7), space 0, with the page's frame number. PV: `start_info` has
//!    its machine address, and `update_va_mapping` (14) puts that under the page. The other pages of [`Memory`] are memory of the kernel's, and Xen
//!    is only told their frame numbers ([`Frame::gfn`]). HVM, PVH: the page's physical address / 4096. PV: the machine's frame, which is at the
//!    index of the page's own frame in the list `mfn_list` of `start_info`. An address is no constant, so with FIFO the [`Frames`] are made at
//!    boot, or the kernel has a [`Memory`] of its own, as the unikernel.
//! 4. **The callback:** an interrupt gate for a vector, and then one of the calls of the next section. For a vCPU's own vector its local APIC is
//!    switched on before.
//! 5. **Events.** [`Events::start`] (without handlers [`Abi::start`]), and for each vCPU [`Events::online`]; bind; let upcalls in: `sti`, or for PV
//!    clear `evtchn_upcall_mask` and look at `evtchn_upcall_pending`. The first [`Events::notify`] of an IPI is the first event.
//!
//! # From the interrupt to the upcall
//!
//! How Xen interrupts is the kernel's business, and there are helpers for the calls in [`Hypercall`]:
//!
//! | Guest | Set up by | The upcall |
//! |---|---|---|
//! | HVM, PVH | [`set_upcall_vector`](Hypercall::set_upcall_vector) for each vCPU | an interrupt by its own APIC, to be ended there |
//! | HVM, PVH | [`set_callback`](Hypercall::set_callback), a vector for all vCPUs | comes at each entry while the vCPU's `evtchn_upcall_pending` is set; needs no end |
//! | PV | `CALLBACKOP_register` | when `evtchn_upcall_mask` is clear; who clears it looks at `evtchn_upcall_pending` afterwards |
//! | Arm | told by the device tree | a PPI |
//!
//! The entry point calls [`Events::upcall`] of its own vCPU, with upcalls held back. [`Scan::Stopped`] says that a flood was cut short: call it again
//! after other work.
//!
//! # Without handlers
//!
//! ```
//! # use evtchn_abi::{Layout, Port, VcpuId};
//! # use evtchn_guest::{Abi, Frames, TwoLevel, TwoLevelVcpu};
//! # use evtchn_sync::{HeapPage, Page};
//! # let page = HeapPage::new();
//! # let guest = TwoLevel::new(Frames::<_, [_; 0]>::two_level(&page, &Layout::X86_64), [TwoLevelVcpu::new()]);
//! # guest.bind(Port(5), VcpuId(0));
//! # page.u64(2048).unwrap().store(1 << 5, std::sync::atomic::Ordering::SeqCst);
//! # page.u64(8).unwrap().store(1, std::sync::atomic::Ordering::SeqCst);
//! # page.u8(0).unwrap().store(1, std::sync::atomic::Ordering::SeqCst);
//! // A loop that looks now and then instead of being interrupted:
//! let mut ports = [Port(0); 32];
//! let count = guest.take_pending(VcpuId(0), &mut ports);
//! assert_eq!(ports[..count], [Port(5)]);
//! ```
//!
//! # Features
//!
//! None is on by default.
//!
//! | Feature | What it adds |
//! |---|---|
//! | `alloc` | [`Hypercall`], [`Kernel`], [`Memory`] and [`Storage`] for `Box` and `Arc` of one; [`Hypercall`] for `Rc` |
//! | `engine` | `InProcess`, which has the hypervisor `evtchn-engine` in the same process; with `alloc` |
//!
#![cfg_attr(not(feature = "engine"), doc = "[`InProcess`]: crate#features")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod abi;
mod auto;
mod events;
mod fifo;
mod hypercall;
mod info;
mod memory;
mod two_level;
mod words;

pub use abi::{Abi, Scan};
pub use auto::{Auto, Choice};
pub use events::{
    Answer, Channel, ChannelId, Event, Events, Flow, Handler, Kernel, Limits, PortSlot, Resumed, Settings,
    Share, Slices, Source, Stats, Storage, Table, VcpuSlot, WithClock,
};
pub use fifo::{Fifo, FifoVcpu};
#[cfg(feature = "engine")]
pub use hypercall::InProcess;
pub use hypercall::{Argument, Call, Divergence, Hypercall, Recording, ReplayError, Replaying, Request};
pub use memory::{Frame, Frames, Memory, Place};
pub use two_level::{TwoLevel, TwoLevelVcpu};
