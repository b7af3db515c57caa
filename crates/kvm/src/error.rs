// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can go wrong between a VMM and KVM.

use evtchn_engine::Upcall;
use thiserror::Error;
use vmm_sys_util::errno;

/// Why KVM did not do what it was asked for.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// KVM refused a system call: an ioctl, or to map a vCPU's `kvm_run`.
    #[error("{name} failed")]
    Ioctl {
        /// Which one.
        name: &'static str,
        /// Why.
        #[source]
        error: errno::Error,
    },
    /// KVM has no support for Xen guests, or not that part of it.
    #[error("this machine's KVM does not support Xen guests, or not all that was asked for")]
    NoXen,
    /// This upcall is an interrupt line, and how lines are connected is the VMM's to know.
    #[error("the upcall {0:?} is an interrupt line of the VMM's")]
    Line(Upcall),
    /// A global vector can only be injected by KVM's Xen support, which this machine does not have.
    #[error("an upcall by the global vector {0:#x} needs KVM's Xen support")]
    NoVector(u8),
    /// A number of a vCPU that the domain does not have.
    #[error("no vCPU {0}")]
    NoVcpu(u32),
    /// No such frame of the guest's memory, or it cannot be written.
    #[error("no page at frame {0:#x}")]
    NoPage(u64),
    /// The engine refused.
    #[error("the engine refused")]
    Engine(#[from] evtchn_engine::OpError),
}

impl Error {
    /// Turns the error of an ioctl into one that says which it was.
    pub(crate) fn ioctl(name: &'static str) -> impl FnOnce(errno::Error) -> Self {
        move |error| Self::Ioctl { name, error }
    }
}
