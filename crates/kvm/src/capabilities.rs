// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this machine's KVM can do for Xen guests, and switching it on.

use kvm_bindings::{
    KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL, KVM_XEN_HVM_CONFIG_EVTCHN_SEND, KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL,
    KVM_XEN_HVM_CONFIG_RUNSTATE, KVM_XEN_HVM_CONFIG_SHARED_INFO, kvm_xen_hvm_config,
};
use kvm_ioctls::{Cap, VmFd};

use crate::error::Error;
use crate::sys;

/// The MSR by which a guest asks for a hypercall page: what leaf 0x40000002 of CPUID says, and where KVM listens. It must
/// not be 0, or KVM's Xen support stays off without an error.
pub const HYPERCALL_MSR: u32 = 0x4000_0000;

/// The answer to `KVM_CHECK_EXTENSION(KVM_CAP_XEN_HVM)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct XenCapabilities(u32);

impl XenCapabilities {
    /// Asks KVM.
    #[must_use]
    pub fn of(vm: &VmFd) -> Self {
        Self::from_bits(u32::try_from(vm.check_extension_int(Cap::XenHvm)).unwrap_or(0))
    }

    /// From the bits of the answer.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits (`KVM_XEN_HVM_CONFIG_*`); 0 if there is no support.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Does it offer all that this crate needs: hypercalls as exits, the upcall from a registered vcpu_info, runstate?
    #[must_use]
    pub const fn is_sufficient(self) -> bool {
        let needed =
            KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL | KVM_XEN_HVM_CONFIG_SHARED_INFO | KVM_XEN_HVM_CONFIG_RUNSTATE;
        self.0 & needed == needed
    }

    /// Could it carry out sends of the two-level ABI in the kernel?
    #[must_use]
    pub const fn can_send(self) -> bool {
        let needed = KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL | KVM_XEN_HVM_CONFIG_EVTCHN_SEND;
        self.0 & needed == needed
    }

    /// Switches Xen support on for a machine, before its vCPUs run: hypercalls become exits, the page behind
    /// [`HYPERCALL_MSR`] is KVM's.
    ///
    /// With `sends` KVM may carry out sends itself ([`KvmDomain::offload`](crate::KvmDomain::offload)). It then also
    /// answers `SCHEDOP_poll`, looking at bits of the *two-level* ABI alone; so only for domains that have no FIFO ABI
    /// ([`DomainConfig::fifo`](evtchn_engine::DomainConfig::fifo)). Without it KVM takes a poll from kernel mode for a yield, and
    /// answers it at once.
    ///
    /// # Errors
    /// [`Error::NoXen`] if the machine cannot; [`Error::Ioctl`].
    pub fn enable(self, vm: &VmFd, sends: bool) -> Result<(), Error> {
        if !self.is_sufficient() || sends && !self.can_send() {
            return Err(Error::NoXen);
        }
        let send = if sends { KVM_XEN_HVM_CONFIG_EVTCHN_SEND } else { 0 };
        let flags = KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL | send;
        let config = kvm_xen_hvm_config { flags, msr: HYPERCALL_MSR, ..kvm_xen_hvm_config::default() };
        sys::configure(vm, &config).map_err(Error::ioctl("KVM_XEN_HVM_CONFIG"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_todays_bits_are_enough_and_none_are_not() {
        let all = XenCapabilities::from_bits(0x1ff);
        assert!(all.is_sufficient() && all.can_send());
        assert!(!XenCapabilities::default().is_sufficient());
        let without = |missing: u32| XenCapabilities::from_bits(0x1ff & !missing);
        for needed in
            [KVM_XEN_HVM_CONFIG_INTERCEPT_HCALL, KVM_XEN_HVM_CONFIG_SHARED_INFO, KVM_XEN_HVM_CONFIG_RUNSTATE]
        {
            assert!(!without(needed).is_sufficient() && without(needed).can_send(), "{needed:#x}");
        }
        for needed in [KVM_XEN_HVM_CONFIG_EVTCHN_2LEVEL, KVM_XEN_HVM_CONFIG_EVTCHN_SEND] {
            assert!(!without(needed).can_send() && without(needed).is_sufficient(), "{needed:#x}");
        }
    }
}
