// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor, as its guest calls it.
#![allow(unsafe_code)]
// UNSAFETY: a hypercall can do anything to the guest's memory.

use crate::gate::Gate;

/// The Xen that this guest runs on.
///
/// With the feature `guest` it implements `evtchn_guest::Hypercall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xen(Gate);

impl Xen {
    /// The Xen behind a gate.
    ///
    /// # Safety
    /// As long as the value, or a copy of it, is used:
    /// * its user runs in the kernel mode of a Xen guest, for which the gate is the right one: the instruction is the
    ///   processor's, or the page has been filled by Xen and is mapped and executable;
    /// * the frames that its user names to Xen (control blocks, array pages, `vcpu_info`s) are set aside for what they are
    ///   named for, and seen as atomics only.
    ///
    /// In user mode, or with the wrong instruction, a call raises an exception.
    #[must_use]
    pub const unsafe fn new(gate: Gate) -> Self {
        Self(gate)
    }

    /// Makes a hypercall: its number, and its arguments; those that it does not have are 0. The result is what Xen returns,
    /// negative numbers from -4095 up being errors.
    ///
    /// An argument that is the address of something is best made by `expose_provenance`. What Xen may write
    /// there must be writable to Rust, too: from a `&mut`, or in an `UnsafeCell`.
    ///
    /// # Safety
    /// Whatever the hypercall does is sound for this program: Xen reads and writes memory as the arguments say, now or later, may
    /// take memory away, stop vCPUs, or never return. A hypercall page has entries for numbers below 128; that of `iret` (23) is not to be
    /// called.
    #[inline]
    pub unsafe fn call(&self, number: u32, args: [u64; 5]) -> i64 {
        // SAFETY: the gate leads to Xen by the promise of `new`, the rest is the caller's.
        unsafe { self.0.call(number, args) }
    }
}
