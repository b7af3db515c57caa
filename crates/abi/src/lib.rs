// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers and layouts of Xen event channels, and nothing else.
//!
//! ```
//! use evtchn_abi::args::BindInterdomain;
//! use evtchn_abi::{DomId, Op, Port};
//!
//! // What a guest passes to hypercall 32 to connect to port 9 of domain 3.
//! let arguments = BindInterdomain { remote_dom: DomId(3), remote_port: Port(9), ..Default::default() };
//! assert_eq!(Op::BIND_INTERDOMAIN.0, 0);
//! assert_eq!(arguments.to_bytes(), [3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
//!
//! // What Xen reads.
//! assert_eq!(BindInterdomain::from_bytes(arguments.to_bytes()), arguments);
//! ```
//!
//! # What is where
//!
//! | | |
//! |---|---|
//! | [`Op`], [`ChannelStatus`], [`args`] | the operations on event channels and their arguments |
//! | [`Hypercall`], [`SchedOp`], [`VcpuOp`], [`HvmOp`], [`PhysdevOp`], [`Domctl`] | the hypercalls around them |
//! | [`Port`], [`DomId`], [`VcpuId`], [`Virq`], [`Pirq`], [`Gfn`], [`Priority`] | the identifiers, each a type of its own |
//! | [`Errno`] | the error numbers |
//! | [`two_level`], [`fifo`], [`Layout`] | the memory that a domain shares with Xen |
//! | [`virq`], [`Feature`], [`HvmParam`], [`CallbackVia`], [`CallbackPpi`] | virtual interrupts, features, how upcalls arrive |
//! | [`ioctl`], [`privcmd`] | the devices of Linux |
//!
//! # Conventions
//!
//! * Nothing here acts or checks. Every value can come from a hostile guest, so a number that C calls an enumeration is
//!   a newtype with constants ([`Op`]`(u32)`), which holds any value.
//! * Structures are decoded from bytes and encoded to bytes, with the padding of C as a field, so that a round trip
//!   keeps every byte. Memory that somebody else writes at the same time has no structure here, only offsets.
//! * All numbers are little-endian, as on x86 and Arm.
//! * Names are those of the C headers in Rust's spelling. Structures carry their C tag as a search alias; constants of
//!   lists begin their description with their C name.
//!
//! The crate has no dependencies, does not allocate, contains no `unsafe` and cannot panic. The test `headers`
//! compares every size, offset and value with Xen's own headers.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

#[macro_use]
mod macros;

pub mod args;
mod c_struct;
mod errno;
mod features;
pub mod fifo;
mod hvm;
mod hypercall;
mod ids;
pub mod ioctl;
mod op;
pub mod privcmd;
pub mod shared_info;
pub mod two_level;
pub mod virq;

pub use c_struct::{CStruct, Field};
pub use errno::Errno;
pub use features::{CPUID_HVM_LEAF, CPUID_UPCALL_VECTOR, Feature};
pub use fifo::{EventWord, Priority};
pub use hvm::{CallbackPpi, CallbackVia, HvmParam};
pub use hypercall::{
    CallbackOp, Domctl, HvmOp, Hypercall, PhysdevOp, SCHEDOP_POLL_MAX_PORTS, SchedOp, VcpuOp, XenVersion,
};
pub use ids::{DomId, Gfn, Pirq, Port, VcpuId, Virq};
pub use op::{ChannelStatus, Op};
pub use shared_info::Layout;
pub use virq::{NR_VIRQS, VirqClass};
