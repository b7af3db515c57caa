// SPDX-License-Identifier: MIT OR Apache-2.0
//! What one open of `/dev/xen/evtchn` is: its ring of fired ports, its bindings, its restriction, and the
//! results of `read`, `write`, `ioctl` and `poll`, as logic only.
//!
//! ```
//! use evtchn_abi::Port;
//! use evtchn_device::atomic::AtomicU32;
//! use evtchn_device::{Binding, Fired, Kind, ReadStep, Ring, poll, ports_in};
//!
//! // An open file with one bound port.
//! let ring = Ring::new();
//! let slots: Vec<AtomicU32> = (0..64).map(AtomicU32::new).collect();
//! let (port, binding) = (Port(7), Binding::new(Kind::Dynamic));
//!
//! // Interrupt side: the port fires, is queued and disabled.
//! assert_eq!(binding.fired(), Fired::Queue);
//! let _wake = ring.push(&slots, port);
//! assert_eq!(ring.poll_mask(), poll::READABLE);
//!
//! // read(fd, buffer, 64): copy out, and only then consume.
//! let ReadStep::Ready(ready) = ring.read(&slots, 64) else { unreachable!() };
//! let mut buffer = Vec::new();
//! ready.copy_out(|bytes| { buffer.extend_from_slice(bytes); Ok::<_, ()>(()) }).unwrap();
//! assert_eq!(ready.consume(), 4);
//!
//! // write(fd, buffer, 4): the port is enabled again.
//! for written in ports_in(&buffer) {
//!     assert!(written == port && binding.enable()); // unmask it now
//! }
//! ```
//!
//! # Split by lock
//!
//! In a kernel three locks protect the parts of an open file, taken in this order: the **bind lock** (a mutex), the
//! **consumer lock** (a mutex), the **producer lock** (a spinlock, also taken in interrupt context). So nothing here
//! wants the whole file at once. This crate takes no lock: each call says which one its caller must hold. It also does
//! not know how bytes reach the caller, how to wait, or where the bindings are kept.
//!
//! | what | protected by |
//! |---|---|
//! | [`Restriction`], the set of [`Binding`]s, [`ioctl()`] | bind lock |
//! | [`Ring::read`], [`Ring::peek`], [`Ready`] | consumer lock |
//! | [`Ring::push`] | producer lock |
//! | [`Ring::reset`], [`copy_slots`] and putting the new slots in place | consumer and producer lock |
//! | the flags of a [`Binding`], [`Ring::poll_mask`], [`Ring::is_empty`] | nothing: atomics |
//!
//! # Results
//!
//! | call | result |
//! |---|---|
//! | open | a fresh [`Ring`] without slots, no bindings, [`Restriction::NONE`]; `ENOMEM` |
//! | read | `EBADF` if not open for reading; 0 for less than 4 bytes; `EFBIG` after overflow; `EAGAIN` or a wait if empty; `EFAULT`; else bytes |
//! | write | `EBADF` if not open for writing; 0 for less than 4 bytes; `EFAULT`; else bytes ([`transfer`]) |
//! | ioctl | see [`mod@ioctl`] |
//! | poll | [`poll::WRITABLE`], [`poll::READABLE`] or [`poll::OVERFLOWED`] |
//! | lseek, pread, pwrite | [`node::NOT_SEEKABLE`] |
//! | the last close | 0, see below |
//!
//! # Release
//!
//! The last close of a file calls [`Driver::tear_down`] for every port that is bound: mark the binding, remove the
//! handler and wait for one that runs, close the channel unless it is static or held by somebody else, drop the
//! binding. Only then may the slots and the ring go: until the last handler is gone, one may push.
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

pub mod atomic;
mod binding;
mod command;
pub mod ioctl;
pub mod node;
pub mod poll;
mod restriction;
pub mod ring;
pub mod transfer;

pub use binding::{Binding, Fired, Kind};
pub use command::{Command, Level};
pub use ioctl::{Driver, Fault, SetUpError, UserArgument, ioctl};
pub use restriction::Restriction;
pub use ring::{Pushed, ReadStep, Ready, Ring, copy_slots, grown_size};
pub use transfer::{ports_in, whole_bytes, whole_ports};
