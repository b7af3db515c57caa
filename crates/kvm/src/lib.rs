// SPDX-License-Identifier: MIT OR Apache-2.0
//! KVM's half of event channels for guests of Xen: what a VMM needs between [`evtchn_engine`] and KVM.
//!
//! A VMM that uses KVM, such as Cloud Hypervisor, crosvm, Firecracker or OpenVMM, can offer Xen's event channels to
//! unmodified guests: the engine decides, in user space, and KVM does what only it can, which is to interrupt a
//! vCPU. Both ABIs work, FIFO included, as KVM never raises a port by itself unless it was asked to.
//!
//! | for | there is |
//! |---|---|
//! | knowing what this machine's KVM can do, and switching it on | [`XenCapabilities`] |
//! | the leaves of CPUID | [`XenLeaves`] |
//! | the hooks of the engine, for one domain | [`KvmDomain`] |
//! | running a vCPU, and reaching its thread from others | [`VcpuDoor`], [`install_kick_handler`] |
//! | hypercalls that left the guest, and their arguments in its memory | [`Hypercall`], [`Paging`], [`Tables`] |
//! | deadlines | [`Timers`] |
//! | what KVM may be told | [`VmAttribute`], [`VcpuAttribute`], [`send_two_level`] |
//! | sends that KVM carries out in the kernel | [`KvmDomain::offload`], [`KvmDomain::offload_to`], [`routing_entry`] |
//! | machines whose KVM has no Xen support, for guests with a hypercall page | [`port_page`], [`Hypercall::of_port`] |
//!
//! # How it goes together
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use evtchn_abi::{DomId, Gfn, VcpuId};
//! use evtchn_engine::{Caller, Hooks, Observed, Outcome, Upcall};
//! use evtchn_kvm::{Error, Hypercall, KvmDomain, Paging, Tables, Timers, VcpuDoor};
//! use evtchn_vm_memory::{Arguments, GuestPage};
//! use kvm_ioctls::VcpuFd;
//!
//! struct Vmm {
//!     guest: KvmDomain, // here one
//!     timers: Timers,
//! }
//!
//! impl Hooks for Vmm {
//!     type Page = GuestPage;
//!     fn deliver(&self, _: DomId, vcpu: VcpuId, upcall: Upcall) {
//!         match self.guest.deliver(vcpu, upcall) {
//!             // A guest may choose a way that there is not. Then it gets no upcalls; it does not end the VMM.
//!             Ok(()) | Err(Error::Line(_) | Error::NoVector(_)) => {}
//!             Err(error) => eprintln!("deliver: {error}"),
//!         }
//!     }
//!     fn wake_poller(&self, _: DomId, vcpu: VcpuId) {
//!         if let Ok(vcpu) = self.guest.vcpu(vcpu) {
//!             vcpu.call_back();
//!         }
//!     }
//!     fn pin(&self, _: DomId, gfn: Gfn) -> Option<GuestPage> {
//!         self.guest.pin(gfn)
//!     }
//!     fn set_deadline(&self, domain: DomId, vcpu: VcpuId, deadline: Option<u64>) {
//!         self.timers.set(domain, vcpu, deadline);
//!     }
//!     fn observe(&self, event: Observed) {
//!         if let Err(error) = self.guest.observe(&event) {
//!             eprintln!("observe: {error}");
//!         }
//!     }
//! }
//!
//! /// A vCPU's thread.
//! fn run(vmm: &Vmm, caller: &mut Caller<'_, Vmm>, door: &VcpuDoor, fd: &mut VcpuFd) -> Result<(), Error> {
//!     loop {
//!         door.run(fd)?; // and what else a VMM does with an exit
//!         let Some(call) = Hypercall::taken(fd.get_kvm_run()) else { continue };
//!         let result = call.refusal().unwrap_or_else(|| {
//!             let registers = || fd.get_sregs().ok().map(|registers| Paging::from(&registers));
//!             let tables = Tables::new(vmm.guest.memory(), registers);
//!             let mut arguments = Arguments::new(vmm.guest.memory(), tables);
//!             match caller.hypercall(call.number, call.args, &mut arguments) {
//!                 Outcome::Done(result) => result,
//!                 _ => -38, // see the repository's examples/vmm for all of them
//!             }
//!         });
//!         Hypercall::answer(fd.get_kvm_run(), result);
//!     }
//! }
//! ```
//!
//! # What a VMM must provide beyond event channels
//!
//! Measured with Linux 6.1 and 7.2, which ask for the following before they use event channels; `examples/vmm` of the
//! repository has all of it.
//!
//! | what | answer |
//! |---|---|
//! | CPUID | the leaves of [`XenLeaves`]; KVM's own leaves must be gone |
//! | `xen_version` (17): `get_features`, `version`, `extraversion` | submap 0 with the bits 2, 8 and, if KVM keeps the time, 9 ([`Feature`](evtchn_abi::Feature)); ENOSYS for the rest will do |
//! | `memory_op` (12): `add_to_physmap`, space 0 | [`KvmDomain::set_shared_info`] with the guest's own page at that frame, which takes over what the old one held |
//! | `memory_op`: `add_to_physmap`, space 1 (grant table) | 0, or ENOSYS and no grants |
//! | `hvm_op` (34): `get_param` of console and xenstore | an error: no PV console, no xenstore |
//! | `vcpu_op` (24): `register_runstate_memory_area` | [`VcpuAttribute::Runstate`] with the translated address; ENOSYS for `register_vcpu_time_memory_area` |
//! | `sched_op` (29): `shutdown` | the end of the guest |
//! | `grant_table_op` (20): `query_size`, `set_version` | PVH guests ask; ENOSYS and no grants |
//! | `vm_assist` (21) | ENOSYS |
//!
//! # What it asks of a VMM
//!
//! * The types of rust-vmm. A VMM with its own makes them of its descriptors (`create_vmfd_from_rawfd`, `create_vcpu_from_rawfd`).
//! * Local APICs in KVM: a whole irqchip, or a split one.
//! * All vCPUs when a [`KvmDomain`] is made; those that are plugged in later wait for their start until then.
//! * Memory that stays. A VMM that plugs memory in later answers [`Hooks::pin`](evtchn_engine::Hooks::pin) by
//!   [`evtchn_vm_memory::pin`] with its map of the moment instead of [`KvmDomain::pin`], and so for arguments.
//! * `SIGRTMIN`: a handler that does nothing, its own or [`install_kick_handler`]'s. A thread of a vCPU may get the signal
//!   outside of [`VcpuDoor::run`], too, where it interrupts system calls that wait.
//!
//! # What is different from Xen
//!
//! * KVM answers `SCHEDOP_yield` and `SCHEDOP_poll` of the guest's kernel itself. Unless it may [send](XenCapabilities::enable), a
//!   poll returns at once; Linux's spinlocks bear that.
//! * An upcall by a vCPU's own vector is lost while its local APIC is off. Xen sends it again when the guest switches that on; the
//!   APIC in the kernel does not tell.
//! * KVM knows one vector for all vCPUs. A guest that has chosen a global vector and then vectors of vCPUs, too, gets both for each
//!   upcall; from Xen only the latter. Linux gives the global one up.
//! * The vcpu_info of a vCPU lies in the guest's own memory, and so does shared_info: there are no pages of Xen's to move.
#![cfg(target_arch = "x86_64")]

mod attributes;
mod capabilities;
mod cpuid;
mod domain;
mod error;
mod hypercall;
mod kick;
mod offload;
mod page;
mod paging;
mod sys;
mod timers;
mod vcpu;

use kvm_bindings::kvm_irq_routing_xen_evtchn;
use kvm_ioctls::VmFd;

pub use attributes::{VcpuAttribute, VmAttribute};
pub use capabilities::{HYPERCALL_MSR, XenCapabilities};
pub use cpuid::{BASE as CPUID_BASE, XenLeaves};
pub use domain::{Interface, KvmDomain, NewVcpu};
pub use error::Error;
pub use hypercall::Hypercall;
pub use kick::install_kick_handler;
pub use offload::routing_entry;
pub use page::{ENTRIES as HYPERCALL_PAGE_ENTRIES, port_page};
pub use paging::{Paging, Tables};
pub use timers::Timers;
pub use vcpu::VcpuDoor;

/// Has KVM raise a port of a guest with the two-level ABI and tell a vCPU, past the engine: for a device whose route KVM
/// has been given. KVM must know shared_info and the vcpu_info.
///
/// # Errors
/// [`Error::Ioctl`].
pub fn send_two_level(vm: &VmFd, port: u32, vcpu: u32) -> Result<(), Error> {
    let event = kvm_irq_routing_xen_evtchn { port, vcpu, priority: attributes::PRIORITY_2LEVEL };
    sys::send(vm, &event).map_err(Error::ioctl("KVM_XEN_HVM_EVTCHN_SEND"))
}
