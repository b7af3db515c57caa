// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest can ask Xen about before it uses event channels (`features.h`, `arch-x86/cpuid.h`).

open_enum! {
    /// The number of a bit in the answer to [`XenVersion::GET_FEATURES`](crate::XenVersion::GET_FEATURES).
    struct Feature(u32), "XENFEAT_" {
        /// The guest's frame numbers are not the machine's.
        AUTO_TRANSLATED_PHYSMAP = 2, "auto_translated_physmap";
        /// Upcalls can come by an interrupt vector.
        HVM_CALLBACK_VECTOR = 8, "hvm_callback_vector";
        /// The clock in `vcpu_info` can be used by an HVM guest.
        HVM_SAFE_PVCLOCK = 9, "hvm_safe_pvclock";
        /// Physical interrupts can be bound to event channels by an HVM guest.
        HVM_PIRQS = 10, "hvm_pirqs";
        /// The domain is dom0.
        DOM0 = 11, "dom0";
    }
}

impl Feature {
    /// The bit in the answer; 0 for a number that has none in it.
    #[must_use]
    pub const fn bit(self) -> u32 {
        match 1u32.checked_shl(self.0) {
            Some(bit) => bit,
            None => 0,
        }
    }
}

/// The CPUID leaf with what an HVM guest on x86 has, counted from Xen's first leaf.
pub const CPUID_HVM_LEAF: u32 = 4;

/// Bit in EAX of [`CPUID_HVM_LEAF`]: a vCPU's own upcall vector works without the domain's, also for physical
/// interrupts that are bound to event channels.
#[doc(alias = "XEN_HVM_CPUID_UPCALL_VECTOR")]
pub const CPUID_UPCALL_VECTOR: u32 = 1 << 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_one_bit_of_the_answer() {
        assert_eq!(Feature::HVM_CALLBACK_VECTOR.bit(), 0x100);
        assert_eq!(Feature(32).bit(), 0);
    }
}
