// SPDX-License-Identifier: MIT OR Apache-2.0
//! The raw door of `physdev_op`: the two commands that concern event channels.

use evtchn_abi::args::{PhysdevEoi, PhysdevIrqStatusQuery};
use evtchn_abi::{DomId, PhysdevOp};

use crate::domain::Domain;
use crate::engine::Engine;
use crate::hooks::Hooks;
use crate::memory::GuestMemory;
use crate::raw::{Outcome, update, with};

impl<H: Hooks> Engine<H> {
    /// `physdev_op` (hypercall 33): the command, and the address of its argument.
    ///
    /// Takes `PHYSDEVOP_eoi` and `PHYSDEVOP_irq_status_query`. All else is [`Outcome::NotMine`], such as mapping a
    /// PIRQ, which is the embedder's; so are the rules about which kinds of domain may use which command.
    pub fn physdev_op<M: GuestMemory + ?Sized>(
        &self,
        caller: DomId,
        command: u32,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        self.for_domain(caller, |caller| self.physdev_op_by(caller, command, arg, memory))
    }

    pub(crate) fn physdev_op_by<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        command: u32,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        match PhysdevOp(command) {
            PhysdevOp::EOI => Outcome::of(with(memory, arg, |a: PhysdevEoi| self.pirq_eoi_by(caller, a.irq))),
            PhysdevOp::IRQ_STATUS_QUERY => {
                Outcome::of(update(memory, arg, |a: &mut PhysdevIrqStatusQuery| {
                    let status = self.pirq_status_by(caller, a.irq)?;
                    let bit = |set, bit| if set { bit } else { 0 };
                    a.flags = bit(status.needs_eoi, PhysdevIrqStatusQuery::NEEDS_EOI)
                        | bit(status.shared, PhysdevIrqStatusQuery::SHARED);
                    Ok(())
                }))
            }
            _ => Outcome::NotMine,
        }
    }
}
