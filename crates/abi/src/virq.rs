// SPDX-License-Identifier: MIT OR Apache-2.0
//! The virtual interrupts and who can have them (`xen.h`).

use crate::Virq;

/// How many VIRQ numbers there are. Higher numbers are answered with EINVAL.
pub const NR_VIRQS: u32 = 24;

open_enum! {
    impl Virq(u32), "VIRQ_" {
        /// A timer of the vCPU has expired.
        TIMER = 0, "TIMER";
        /// Somebody asked for debug output.
        DEBUG = 1, "DEBUG";
        /// Input at the emergency console.
        CONSOLE = 2, "CONSOLE";
        /// A domain shut down, died or changed its state.
        DOM_EXC = 3, "DOM_EXC";
        /// The trace buffer has records.
        TBUF = 4, "TBUF";
        /// A domain was paused for the debugger.
        DEBUGGER = 6, "DEBUGGER";
        /// The profiler has samples.
        XENOPROF = 7, "XENOPROF";
        /// The console ring has bytes.
        CON_RING = 8, "CON_RING";
        /// A physical processor came or went.
        PCPU_STATE = 9, "PCPU_STATE";
        /// A memory event.
        MEM_EVENT = 10, "MEM_EVENT";
        /// An Argo message for the domain.
        ARGO = 11, "ARGO";
        /// Xen is short of memory.
        ENOMEM = 12, "ENOMEM";
        /// The performance counters have something to say.
        XENPMU = 13, "XENPMU";
        /// The machine's own, number 0; on x86 a machine check.
        ARCH_0 = 16, "ARCH_0";
        /// The machine's own, number 1.
        ARCH_1 = 17, "ARCH_1";
        /// The machine's own, number 2.
        ARCH_2 = 18, "ARCH_2";
        /// The machine's own, number 3.
        ARCH_3 = 19, "ARCH_3";
        /// The machine's own, number 4.
        ARCH_4 = 20, "ARCH_4";
        /// The machine's own, number 5.
        ARCH_5 = 21, "ARCH_5";
        /// The machine's own, number 6.
        ARCH_6 = 22, "ARCH_6";
        /// The machine's own, number 7.
        ARCH_7 = 23, "ARCH_7";
    }
}

/// How often a VIRQ can be bound, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VirqClass {
    /// Once for each vCPU; the channel stays with its vCPU.
    PerVcpu,
    /// Once for each domain, at vCPU 0; the channel may be moved.
    PerDomain,
    /// Like [`PerDomain`](Self::PerDomain), but raised in one domain only, the VIRQ's handler.
    Global,
}

impl Virq {
    /// The class, as Xen has it since release 4.21; `None` for a number of [`NR_VIRQS`] or more.
    ///
    /// ```
    /// use evtchn_abi::{Virq, VirqClass};
    ///
    /// assert_eq!(Virq::TIMER.class(), Some(VirqClass::PerVcpu));
    /// assert_eq!(Virq::ARGO.class(), Some(VirqClass::PerDomain));
    /// assert_eq!(Virq::ARGO.class_before_4_21(), Some(VirqClass::Global));
    /// assert_eq!(Virq(24).class(), None);
    /// ```
    #[must_use]
    pub const fn class(self) -> Option<VirqClass> {
        match self {
            Self::TIMER | Self::DEBUG | Self::XENOPROF | Self::XENPMU => Some(VirqClass::PerVcpu),
            Self::ARGO => Some(VirqClass::PerDomain),
            Self(number) if number < NR_VIRQS => Some(VirqClass::Global),
            _ => None,
        }
    }

    /// The class, as Xen had it before release 4.21, which knew two: [`ARGO`](Self::ARGO) was handled as global.
    #[must_use]
    pub const fn class_before_4_21(self) -> Option<VirqClass> {
        match self.class() {
            Some(VirqClass::PerDomain) => Some(VirqClass::Global),
            class => class,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_virqs_are_per_vcpu_and_one_is_per_domain() {
        let count = |class| (0..NR_VIRQS).filter(|&n| Virq(n).class() == Some(class)).count();
        assert_eq!(count(VirqClass::PerVcpu), 4);
        assert_eq!(count(VirqClass::PerDomain), 1);
        assert_eq!(count(VirqClass::Global), 19);
    }

    #[test]
    fn numbers_without_a_name_are_global() {
        for number in [5, 14, 15] {
            assert_eq!(Virq(number).name(), None);
            assert_eq!(Virq(number).class(), Some(VirqClass::Global));
        }
    }

    #[test]
    fn before_4_21_only_argo_differed() {
        for number in 0..=NR_VIRQS {
            let virq = Virq(number);
            assert_eq!(virq.class() == virq.class_before_4_21(), virq != Virq::ARGO);
        }
    }
}
