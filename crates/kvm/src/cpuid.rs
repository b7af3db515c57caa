// SPDX-License-Identifier: MIT OR Apache-2.0
//! The CPUID leaves by which a guest knows that it runs on Xen.

use evtchn_abi::CPUID_UPCALL_VECTOR;
use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use crate::capabilities::HYPERCALL_MSR;

/// The first of the leaves. Where KVM's own would be: the guest looks here first.
pub const BASE: u32 = 0x4000_0000;
/// The leaves of hypervisors, Xen's and KVM's alike.
const HYPERVISORS: std::ops::RangeInclusive<u32> = BASE..=0x4000_ffff;
/// "XenVMMXenVMM", in ebx, ecx and edx.
const SIGNATURE: [u32; 3] =
    [u32::from_le_bytes(*b"XenV"), u32::from_le_bytes(*b"MMXe"), u32::from_le_bytes(*b"nVMM")];
/// In ecx of leaf 1: there is a hypervisor.
const HYPERVISOR_BIT: u32 = 1 << 31;
/// In eax of the leaf for HVM guests: ebx has the vCPU's number.
const VCPU_ID_PRESENT: u32 = 1 << 3;

/// What a vCPU is told of Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XenLeaves {
    /// Xen's version, major and minor: that of the engine's [`Level`](evtchn_engine::Level).
    pub version: (u16, u16),
    /// The vCPU's number.
    pub vcpu: u32,
    /// May the guest choose a vector for each vCPU (`HVMOP_set_evtchn_upcall_vector`)? Linux does if it may.
    pub vcpu_vector: bool,
}

impl XenLeaves {
    /// The leaves.
    #[must_use]
    pub fn entries(self) -> [kvm_cpuid_entry2; 5] {
        let leaf = |number, [eax, ebx, ecx, edx]: [u32; 4]| kvm_cpuid_entry2 {
            function: BASE + number,
            eax,
            ebx,
            ecx,
            edx,
            ..kvm_cpuid_entry2::default()
        };
        let [b, c, d] = SIGNATURE;
        let version = u32::from(self.version.0) << 16 | u32::from(self.version.1);
        let features = VCPU_ID_PRESENT | if self.vcpu_vector { CPUID_UPCALL_VECTOR } else { 0 };
        [
            leaf(0, [BASE + 4, b, c, d]),
            leaf(1, [version, 0, 0, 0]),
            leaf(2, [1, HYPERCALL_MSR, 0, 0]), // one page
            leaf(3, [0; 4]),                   // time: nothing beyond what is in vcpu_info
            leaf(4, [features, self.vcpu, 0, 0]),
        ]
    }

    /// Puts the leaves in the place of KVM's own, and says that there is a hypervisor.
    ///
    /// `None` if there is no room for them (256 leaves).
    #[must_use]
    pub fn apply(self, cpuid: &CpuId) -> Option<CpuId> {
        let others = cpuid.as_slice().iter().filter(|entry| !HYPERVISORS.contains(&entry.function));
        let mut entries: Vec<kvm_cpuid_entry2> = others.copied().chain(self.entries()).collect();
        for entry in entries.iter_mut().filter(|entry| entry.function == 1) {
            entry.ecx |= HYPERVISOR_BIT;
        }
        CpuId::from_entries(&entries).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAVES: XenLeaves = XenLeaves { version: (4, 20), vcpu: 3, vcpu_vector: true };

    #[test]
    fn the_signature_is_xens() {
        let [first, ..] = LEAVES.entries();
        let text: Vec<u8> =
            [first.ebx, first.ecx, first.edx].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(text, b"XenVMMXenVMM");
        assert_eq!(first.eax, 0x4000_0004);
    }

    #[test]
    fn the_version_and_the_msr_of_the_hypercall_page_are_told() {
        let [_, version, page, ..] = LEAVES.entries();
        assert_eq!((version.function, version.eax), (0x4000_0001, 4 << 16 | 20));
        assert_eq!((page.function, page.eax, page.ebx), (0x4000_0002, 1, 0x4000_0000));
    }

    #[test]
    fn the_leaf_for_hvm_guests_has_the_vcpu_and_the_vector_only_if_wanted() {
        assert_eq!((LEAVES.entries()[4].eax, LEAVES.entries()[4].ebx), (0x48, 3));
        let without = XenLeaves { vcpu_vector: false, ..LEAVES };
        assert_eq!(without.entries()[4].eax, 0x08);
    }

    #[test]
    fn kvms_own_leaves_go_and_the_rest_stays() {
        let entry = |function| kvm_cpuid_entry2 { function, ..kvm_cpuid_entry2::default() };
        let given = [0, 1, 7, 0x4000_0000, 0x4000_0001, 0x8000_0000].map(entry);
        let cpuid = LEAVES.apply(&CpuId::from_entries(&given).unwrap()).unwrap();
        let functions: Vec<u32> = cpuid.as_slice().iter().map(|entry| entry.function).collect();
        let xen = (0..5).map(|leaf| BASE + leaf);
        assert_eq!(functions, [0, 1, 7, 0x8000_0000].into_iter().chain(xen).collect::<Vec<_>>());
        assert_eq!(cpuid.as_slice()[1].ecx, 1 << 31);
    }
}
