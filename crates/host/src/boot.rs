// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ports that Linux opens for itself at boot, in its order: so a program's first port has the number that it has on Xen.
//!
//! As recorded on a PC with one disk and one network card. Nothing is behind these ports here: there are no such devices.

use std::iter;

use evtchn_abi::{DomId, Errno, Pirq, Port, Priority, VcpuId, Virq, args};
use evtchn_guest::Hypercall;

use crate::Abi;

/// What a kernel's port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A virtual interrupt of a vCPU.
    Virq(Virq, VcpuId),
    /// Calls from the other vCPUs to this one.
    Ipi(VcpuId),
    /// An interrupt of a device.
    Pirq(Pirq),
    /// An offer to a daemon in domain 0: of the store or, in guests, of the console.
    Offer,
}

/// Calls of each kind are a port for each vCPU: to schedule, to run a function (for one, for many), to do work. Those of
/// the first two kinds are bound before `DEBUG`.
const IPIS: [usize; 2] = [2, 2];
/// ACPI.
const EARLY_LINE: Pirq = Pirq(9);
/// The mouse, the keyboard, the clock.
const LATE_LINES: [Pirq; 3] = [Pirq(12), Pirq(1), Pirq(8)];

/// How many PIRQs domain 0 has: 208 for each vCPU, as recorded, up to what the engine takes.
pub fn nr_pirqs(vcpus: u32) -> u32 {
    vcpus.saturating_mul(208).min(1 << 20)
}

/// A disk and a network card with MSI, which get the highest numbers.
fn msis(vcpus: u32) -> [Pirq; 2] {
    [1, 2].map(|from_the_end| Pirq(nr_pirqs(vcpus).saturating_sub(from_the_end)))
}

/// What the kernel of a domain with this many vCPUs holds.
pub fn held(is_dom0: bool, vcpus: u32, abi: Abi) -> Vec<Held> {
    let of_vcpus = (0..vcpus).flat_map(|vcpu| of_vcpu(VcpuId(vcpu), vcpus > 1, abi));
    if is_dom0 {
        let global = |virq| Held::Virq(virq, VcpuId(0));
        let machine = [
            Held::Offer,
            global(Virq::PCPU_STATE),
            Held::Pirq(EARLY_LINE),
            global(Virq::ARCH_0),
            global(Virq::CONSOLE),
        ];
        let lines = LATE_LINES.into_iter().chain(msis(vcpus));
        of_vcpus.chain(machine).chain(lines.map(Held::Pirq)).collect()
    } else {
        // The toolstack opened them before the kernel ran: the store, the console.
        [Held::Offer; 2].into_iter().chain(of_vcpus).collect()
    }
}

fn of_vcpu(vcpu: VcpuId, has_others: bool, abi: Abi) -> impl Iterator<Item = Held> {
    // Who waits for a lock is kicked: not where there is nobody to hold it.
    let kick = |on_boot| (has_others && on_boot == (vcpu == VcpuId(0))).then_some(Held::Ipi(vcpu));
    let debug = (abi == Abi::TwoLevel).then_some(Held::Virq(Virq::DEBUG, vcpu));
    let [first, second] = IPIS.map(|count| iter::repeat_n(Held::Ipi(vcpu), count));
    let timer = iter::once(Held::Virq(Virq::TIMER, vcpu));
    timer.chain(kick(true)).chain(first).chain(debug).chain(second).chain(kick(false))
}

impl Held {
    /// Opens the port.
    pub fn open(self, xen: &impl Hypercall) -> Result<Port, Errno> {
        match self {
            Self::Virq(virq, vcpu) => xen.bind_virq(virq, vcpu),
            Self::Ipi(vcpu) => xen.bind_ipi(vcpu),
            Self::Pirq(pirq) => xen.bind_pirq(pirq, args::BIND_PIRQ_WILL_SHARE),
            Self::Offer => xen.alloc_unbound(DomId::SELF, DomId(0)),
        }
    }

    /// The vCPU that the port belongs to.
    pub fn vcpu(self) -> VcpuId {
        match self {
            Self::Virq(_, vcpu) | Self::Ipi(vcpu) => vcpu,
            Self::Pirq(_) | Self::Offer => VcpuId(0),
        }
    }

    /// The priority that it has with FIFO, if not the default.
    pub fn priority(self) -> Option<Priority> {
        matches!(self, Self::Virq(Virq::TIMER, _)).then_some(Priority::HIGHEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first port that a program gets.
    fn first_port(is_dom0: bool, vcpus: u32, abi: Abi) -> usize {
        held(is_dom0, vcpus, abi).len() + 1
    }

    #[test]
    fn a_programs_first_port_has_the_number_that_was_recorded() {
        assert_eq!(first_port(true, 1, Abi::TwoLevel), 17);
        assert_eq!(first_port(true, 2, Abi::TwoLevel), 25);
        assert_eq!(first_port(true, 1, Abi::Fifo), 16);
        assert_eq!(first_port(true, 2, Abi::Fifo), 23);
        assert_eq!(first_port(false, 2, Abi::Fifo), 15);
    }

    #[test]
    fn the_debug_interrupts_are_where_they_were_recorded() {
        let ports = held(true, 2, Abi::TwoLevel);
        let debug = |vcpu| ports.iter().position(|&held| held == Held::Virq(Virq::DEBUG, VcpuId(vcpu)));
        assert_eq!((debug(0), debug(1)), (Some(4), Some(10)));
        assert!(!held(true, 2, Abi::Fifo).contains(&Held::Virq(Virq::DEBUG, VcpuId(0))));
    }
}
