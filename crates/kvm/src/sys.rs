// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ioctls of KVM's Xen interface, and the one field of `kvm_run` that goes with them: what kvm-ioctls does not have.

// UNSAFETY: ioctls with structures of kvm-bindings, and unions whose variant the kernel has named.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;
use std::os::raw::{c_int, c_ulong};

use kvm_bindings::{
    KVM_EXIT_XEN, KVM_EXIT_XEN_HCALL, KVMIO, kvm_irq_routing_xen_evtchn, kvm_run,
    kvm_xen_exit__bindgen_ty_1__bindgen_ty_1, kvm_xen_hvm_attr, kvm_xen_hvm_config, kvm_xen_vcpu_attr,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vmm_sys_util::errno;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

ioctl_iow_nr!(KVM_XEN_HVM_CONFIG, KVMIO, 0x7a, kvm_xen_hvm_config);
ioctl_iow_nr!(KVM_XEN_HVM_SET_ATTR, KVMIO, 0xc9, kvm_xen_hvm_attr);
ioctl_iow_nr!(KVM_XEN_VCPU_SET_ATTR, KVMIO, 0xcb, kvm_xen_vcpu_attr);
ioctl_iow_nr!(KVM_XEN_HVM_EVTCHN_SEND, KVMIO, 0xd0, kvm_irq_routing_xen_evtchn);

/// What a guest has put into its registers for a hypercall, and where its answer goes.
pub type HypercallExit = kvm_xen_exit__bindgen_ty_1__bindgen_ty_1;

/// Switches KVM's Xen support on.
pub fn configure(vm: &VmFd, config: &kvm_xen_hvm_config) -> errno::Result<()> {
    give(vm, KVM_XEN_HVM_CONFIG(), config)
}

/// Sets an attribute of a machine.
pub fn set_vm_attribute(vm: &VmFd, attribute: &kvm_xen_hvm_attr) -> errno::Result<()> {
    give(vm, KVM_XEN_HVM_SET_ATTR(), attribute)
}

/// Sets an attribute of a vCPU. Waits while another thread runs the vCPU.
pub fn set_vcpu_attribute(vcpu: &VcpuFd, attribute: &kvm_xen_vcpu_attr) -> errno::Result<()> {
    give(vcpu, KVM_XEN_VCPU_SET_ATTR(), attribute)
}

/// Has KVM raise a port of the two-level ABI.
pub fn send(vm: &VmFd, event: &kvm_irq_routing_xen_evtchn) -> errno::Result<()> {
    give(vm, KVM_XEN_HVM_EVTCHN_SEND(), event)
}

/// An ioctl whose argument the kernel reads. `T` is the type that the request's number was made with.
fn give<F: AsRawFd, T>(fd: &F, request: c_ulong, argument: &T) -> errno::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes, which is part of the request's number, and writes none. Pointers
    // in an argument (there are none: no blobs, guest addresses only) would be the caller's to keep valid.
    let result: c_int = unsafe { ioctl_with_ref(fd, request, argument) };
    if result < 0 { errno::errno_result() } else { Ok(()) }
}

/// The hypercall for which KVM has left the guest; `None` if it was for another reason.
pub fn hypercall(run: &mut kvm_run) -> Option<&mut HypercallExit> {
    if run.exit_reason != KVM_EXIT_XEN {
        return None;
    }
    // SAFETY: the exit's reason, which the kernel has written, says that this is the variant.
    let exit = unsafe { &mut run.__bindgen_anon_1.xen };
    if exit.type_ != KVM_EXIT_XEN_HCALL {
        return None;
    }
    // SAFETY: the type says that this is the variant.
    Some(unsafe { &mut exit.u.hcall })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_are_those_of_the_kernels_header() {
        let requests = [
            KVM_XEN_HVM_CONFIG(),
            KVM_XEN_HVM_SET_ATTR(),
            KVM_XEN_VCPU_SET_ATTR(),
            KVM_XEN_HVM_EVTCHN_SEND(),
        ];
        assert_eq!(requests, [0x4038_ae7a, 0x4048_aec9, 0x4048_aecb, 0x400c_aed0]);
    }

    #[test]
    fn only_a_hypercall_is_taken_for_one() {
        let mut run = kvm_run::default();
        assert!(hypercall(&mut run).is_none());
        run.exit_reason = KVM_EXIT_XEN;
        assert!(hypercall(&mut run).is_none(), "the type of the exit is 0");
        run.__bindgen_anon_1.xen.type_ = KVM_EXIT_XEN_HCALL;
        assert_eq!(hypercall(&mut run).unwrap().input, 0);
    }
}
