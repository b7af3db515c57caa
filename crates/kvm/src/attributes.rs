// SPDX-License-Identifier: MIT OR Apache-2.0
//! What KVM may be told about a Xen guest: attributes of the machine and of its vCPUs.

use std::os::fd::RawFd;

use evtchn_abi::ChannelStatus;
use kvm_bindings::{
    KVM_XEN_ATTR_TYPE_EVTCHN, KVM_XEN_ATTR_TYPE_LONG_MODE, KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG,
    KVM_XEN_ATTR_TYPE_SHARED_INFO, KVM_XEN_ATTR_TYPE_UPCALL_VECTOR, KVM_XEN_ATTR_TYPE_XEN_VERSION,
    KVM_XEN_EVTCHN_DEASSIGN, KVM_XEN_EVTCHN_RESET, KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR,
    KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR, KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID, KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO,
    KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO, kvm_xen_hvm_attr, kvm_xen_vcpu_attr,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::GuestAddress;

use crate::error::Error;
use crate::sys;

/// "No such page", as KVM has it for guest addresses and frames.
const NONE: u64 = u64::MAX;
/// The priority by which KVM means the two-level ABI, the only one it has.
pub(crate) const PRIORITY_2LEVEL: u32 = u32::MAX;

/// An attribute of a machine (`KVM_XEN_HVM_SET_ATTR`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VmAttribute {
    /// Do the guest's shared structures have the layout of 64 bits?
    LongMode(bool),
    /// The frame of shared_info. KVM writes the wall clock there; its events are set there only if it is told to send any.
    SharedInfo(Option<u64>),
    /// The vector that KVM injects into a vCPU whose `evtchn_upcall_pending` is set, without APIC and EOI; 0 for none.
    UpcallVector(u8),
    /// The answer to `XENVER_version`, which KVM then gives by itself: major << 16 | minor.
    XenVersion(u32),
    /// May KVM say in the runstate area that it is writing to it?
    RunstateUpdateFlag(bool),
    /// An `EVTCHNOP_send` of this port raises this very port and tells the vCPU, without an exit. Two-level only.
    Ipi {
        /// The port.
        port: u32,
        /// KVM's number of the vCPU.
        vcpu: u32,
    },
    /// An `EVTCHNOP_send` of this port raises another port of the same guest and tells the vCPU, without an exit. Two-level only.
    Loop {
        /// The port that sends.
        port: u32,
        /// The port that is raised.
        to: u32,
        /// KVM's number of the vCPU.
        vcpu: u32,
    },
    /// An `EVTCHNOP_send` of this port signals an eventfd, without an exit: as an irqfd of another machine, of an entry by
    /// [`routing_entry`](crate::routing_entry), it raises a port there. Two-level only, on both sides.
    Signal {
        /// The port.
        port: u32,
        /// The eventfd. KVM keeps what is behind it.
        eventfd: RawFd,
    },
    /// Takes back what was said of sends of this port.
    NoSend {
        /// The port.
        port: u32,
    },
    /// Takes back what was said of sends of all ports.
    NoSends,
}

impl VmAttribute {
    /// Tells KVM.
    ///
    /// # Errors
    /// [`Error::Ioctl`]: the kernel refuses it, or has no Xen support.
    pub fn set(self, vm: &VmFd) -> Result<(), Error> {
        sys::set_vm_attribute(vm, &self.encoded()).map_err(Error::ioctl("KVM_XEN_HVM_SET_ATTR"))
    }

    fn encoded(self) -> kvm_xen_hvm_attr {
        let mut attribute = kvm_xen_hvm_attr::default();
        let value = &mut attribute.u;
        let kind = match self {
            Self::LongMode(on) => {
                value.long_mode = on.into();
                KVM_XEN_ATTR_TYPE_LONG_MODE
            }
            Self::SharedInfo(gfn) => {
                value.shared_info.gfn = gfn.unwrap_or(NONE);
                KVM_XEN_ATTR_TYPE_SHARED_INFO
            }
            Self::UpcallVector(vector) => {
                value.vector = vector;
                KVM_XEN_ATTR_TYPE_UPCALL_VECTOR
            }
            Self::XenVersion(version) => {
                value.xen_version = version;
                KVM_XEN_ATTR_TYPE_XEN_VERSION
            }
            Self::RunstateUpdateFlag(on) => {
                value.runstate_update_flag = on.into();
                KVM_XEN_ATTR_TYPE_RUNSTATE_UPDATE_FLAG
            }
            Self::Ipi { port, vcpu } => {
                value.evtchn.send_port = port;
                value.evtchn.type_ = ChannelStatus::IPI.0;
                value.evtchn.deliver.port.port = port;
                value.evtchn.deliver.port.vcpu = vcpu;
                value.evtchn.deliver.port.priority = PRIORITY_2LEVEL;
                KVM_XEN_ATTR_TYPE_EVTCHN
            }
            Self::Loop { port, to, vcpu } => {
                value.evtchn.send_port = port;
                value.evtchn.type_ = ChannelStatus::INTERDOMAIN.0;
                value.evtchn.deliver.port.port = to;
                value.evtchn.deliver.port.vcpu = vcpu;
                value.evtchn.deliver.port.priority = PRIORITY_2LEVEL;
                KVM_XEN_ATTR_TYPE_EVTCHN
            }
            Self::Signal { port, eventfd } => {
                value.evtchn.send_port = port;
                value.evtchn.type_ = ChannelStatus::INTERDOMAIN.0;
                value.evtchn.deliver.eventfd.fd = eventfd;
                KVM_XEN_ATTR_TYPE_EVTCHN
            }
            Self::NoSend { port } => {
                value.evtchn.send_port = port;
                value.evtchn.flags = KVM_XEN_EVTCHN_DEASSIGN;
                KVM_XEN_ATTR_TYPE_EVTCHN
            }
            Self::NoSends => {
                value.evtchn.flags = KVM_XEN_EVTCHN_RESET;
                KVM_XEN_ATTR_TYPE_EVTCHN
            }
        };
        attribute.type_ = number(kind);
        attribute
    }
}

/// An attribute of a vCPU (`KVM_XEN_VCPU_SET_ATTR`). To set one waits while another thread runs the vCPU: see
/// [`VcpuDoor::post`](crate::VcpuDoor::post).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VcpuAttribute {
    /// Where its vcpu_info is: KVM keeps the time in it, and looks at its `evtchn_upcall_pending`.
    VcpuInfo(Option<GuestAddress>),
    /// A second place for the time.
    TimeInfo(Option<GuestAddress>),
    /// Where its runstate area is. Must not cross into a page that is not there.
    Runstate(Option<GuestAddress>),
    /// The number by which the guest calls it.
    VcpuId(u32),
    /// Its own vector, for the events that KVM itself raises; 0 for none.
    UpcallVector(u8),
}

impl VcpuAttribute {
    /// Tells KVM.
    ///
    /// # Errors
    /// [`Error::Ioctl`]: the kernel refuses it, or has no Xen support.
    pub fn set(self, vcpu: &VcpuFd) -> Result<(), Error> {
        sys::set_vcpu_attribute(vcpu, &self.encoded()).map_err(Error::ioctl("KVM_XEN_VCPU_SET_ATTR"))
    }

    fn encoded(self) -> kvm_xen_vcpu_attr {
        let mut attribute = kvm_xen_vcpu_attr::default();
        let value = &mut attribute.u;
        let kind = match self {
            Self::VcpuInfo(place) => {
                value.gpa = place.map_or(NONE, |place| place.0);
                KVM_XEN_VCPU_ATTR_TYPE_VCPU_INFO
            }
            Self::TimeInfo(place) => {
                value.gpa = place.map_or(NONE, |place| place.0);
                KVM_XEN_VCPU_ATTR_TYPE_VCPU_TIME_INFO
            }
            Self::Runstate(place) => {
                value.gpa = place.map_or(NONE, |place| place.0);
                KVM_XEN_VCPU_ATTR_TYPE_RUNSTATE_ADDR
            }
            Self::VcpuId(id) => {
                value.vcpu_id = id;
                KVM_XEN_VCPU_ATTR_TYPE_VCPU_ID
            }
            Self::UpcallVector(vector) => {
                value.vector = vector;
                KVM_XEN_VCPU_ATTR_TYPE_UPCALL_VECTOR
            }
        };
        attribute.type_ = number(kind);
        attribute
    }
}

/// The kinds are small numbers, which the bindings have as `u32` and the structures as `u16`.
#[allow(clippy::cast_possible_truncation)]
fn number(kind: u32) -> u16 {
    kind as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_those_of_the_kernels_header() {
        let machine = [
            VmAttribute::LongMode(true),
            VmAttribute::SharedInfo(None),
            VmAttribute::UpcallVector(0xf3),
            VmAttribute::Ipi { port: 1, vcpu: 0 },
            VmAttribute::NoSend { port: 1 },
            VmAttribute::NoSends,
            VmAttribute::XenVersion(0),
            VmAttribute::RunstateUpdateFlag(true),
        ];
        assert_eq!(machine.map(|attribute| attribute.encoded().type_), [0, 1, 2, 3, 3, 3, 4, 5]);
        let vcpu = [
            VcpuAttribute::VcpuInfo(None),
            VcpuAttribute::TimeInfo(None),
            VcpuAttribute::Runstate(None),
            VcpuAttribute::VcpuId(0),
            VcpuAttribute::UpcallVector(0x40),
        ];
        assert_eq!(vcpu.map(|attribute| attribute.encoded().type_), [0, 1, 2, 6, 8]);
    }
}
