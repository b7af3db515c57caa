// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Xen hypercall instruction for guests on x86-64.
//!
//! # A guest that is born
//!
//! ```no_run
//! # #[cfg(all(target_arch = "x86_64", feature = "guest"))] {
//! use evtchn_abi::{CallbackVia, DomId, VcpuId};
//! use evtchn_guest::Hypercall;
//! use evtchn_hypercall::cpuid::{self, Leaves};
//! use evtchn_hypercall::{Gate, Xen};
//!
//! // An HVM or PVH guest asks the processor who is below it.
//! let leaves = Leaves::find(cpuid::native).expect("not on Xen");
//! let (major, minor) = leaves.version();
//! assert!((major, minor) >= (4, 4));
//!
//! // SAFETY: on Xen, in kernel mode, and with the instruction that the processor has; frames that are given to Xen
//! // through it are set aside for that.
//! let xen = unsafe { Xen::new(Gate::of_processor().expect("an unknown processor")) };
//!
//! // From here on it is safe, and has types.
//! xen.set_callback(CallbackVia::Vector(0xf3)).unwrap();
//! let port = xen.alloc_unbound(DomId::SELF, DomId(7)).unwrap();
//! xen.send(port).unwrap();
//!
//! // Hypercalls that are not about event channels: 18 is `console_io`, its command 0 writes.
//! let text = b"up\n";
//! let address = text.as_ptr().expose_provenance() as u64;
//! // SAFETY: Xen reads three bytes there, and writes none.
//! unsafe { xen.call(18, [0, text.len() as u64, address, 0, 0]) };
//! # let _ = (port, VcpuId(0));
//! # }
//! ```
//!
//! What comes between this and the first event, `shared_info` and the callback, is in the documentation of [`evtchn_guest`]: *From boot to
//! the first event*. The repository's `tests/unikernel` is a kernel that does all of it.
//!
//! # Which way in
//!
//! | guest | [`Gate`] | who prepares it |
//! |---|---|---|
//! | HVM, PVH on Intel | [`Gate::VMCALL`] | nobody |
//! | HVM, PVH on AMD | [`Gate::VMMCALL`] | nobody |
//! | HVM, PVH, any | [`Gate::page`] | the guest tells Xen its physical address: [`HypercallPage::register`] |
//! | PV | [`Gate::page`] | Xen fills it before the guest starts, where the ELF note `HYPERCALL_PAGE` (2) says |
//!
//! A *hypercall page* is 4 KiB of code that Xen writes: a piece of 32 bytes for each hypercall, which the guest calls
//! as a function. It was the only way once. An HVM guest does better with the instruction: one indirect call less, and no page
//! that is both written by others and executed.
//!
//! # The convention
//!
//! By Xen's public `arch-x86/xen-x86_64.h`: up to six arguments in RDI, RSI, RDX, R10, R8 and R9 (ours take five), the number in
//! EAX where there is no page, the result in RAX; negative results from -4095 up are error numbers. The argument registers
//! are lost (a debugging Xen sees to it), all others are kept. A call through a page uses the stack, so it must have room for
//! some words; the compiler is told, and keeps nothing below the stack pointer meanwhile.
//!
//! # Arguments in memory
//!
//! Most hypercalls take the address of a structure that Xen reads, and may write to. To the compiler a hypercall is a function
//! that it cannot see, which reads and writes whatever memory its address has escaped to: what was stored before is there for
//! Xen, and is read again afterwards. The processor needs no fence: Xen reads on the one that the guest has written on.
//!
//! Such a structure may lie anywhere in the guest's memory, on a stack, too; it needs no alignment, and may cross from a page
//! into the next. The address is a virtual one, of the page tables that are active on the calling vCPU. What it names must be
//! *mapped there and then*, writable where Xen writes: Xen raises no page fault in the guest, but answers EFAULT; a page
//! that would be filled in or copied on its first use is not there for it. So it has no business in memory of user mode.
//!
//! # What it knows
//!
//! Nothing of event channels: numbers and registers only. With the feature `guest`, [`Xen`] implements
//! `evtchn_guest::Hypercall`. That lives here, and not there, since it is unsafe in itself: Xen reads and writes as many bytes as
//! a command's structure has, whatever the length of the slice that safe code gives, so every length is checked here; and
//! `evtchn-guest` forbids unsafe code.
//!
//! # Features
//!
//! | Feature | What it adds |
//! |---|---|
//! | `guest` | `evtchn_guest::Hypercall` for [`Xen`]; not on by default |
//!
#![cfg_attr(feature = "guest", doc = "[`evtchn_guest`]: evtchn_guest#from-boot-to-the-first-event")]
#![cfg_attr(not(feature = "guest"), doc = "[`evtchn_guest`]: crate#features")]
#![no_std]

#[cfg(target_arch = "x86_64")]
pub mod cpuid;
#[cfg(target_arch = "x86_64")]
mod gate;
#[cfg(all(target_arch = "x86_64", feature = "guest"))]
mod guest;
#[cfg(target_arch = "x86_64")]
mod page;
#[cfg(target_arch = "x86_64")]
mod xen;

#[cfg(target_arch = "x86_64")]
pub use gate::Gate;
#[cfg(target_arch = "x86_64")]
pub use page::HypercallPage;
#[cfg(target_arch = "x86_64")]
pub use xen::Xen;
