// SPDX-License-Identifier: MIT OR Apache-2.0
//! `event_channel_op` and its compat form.

use evtchn_abi::args::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, EvtchnOp, ExpandArray,
    InitControl, Reset, Send, SetPriority, Status, Unmask,
};
use evtchn_abi::{DomId, Errno, Op};
use evtchn_sync::enter;

use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::memory::{GuestMemory, copy_in};
use crate::ops::ResetOutcome;
use crate::raw::{Outcome, update, with};

/// What `init_control` tells the guest.
#[allow(clippy::cast_possible_truncation)] // 17
const LINK_BITS: u8 = evtchn_abi::fifo::LINK_BITS as u8;

impl<H: Hooks> Engine<H> {
    /// `event_channel_op` (hypercall 32): the command, and the address of its argument.
    ///
    /// An unknown command is ENOSYS, and its argument is not looked at.
    pub fn event_channel_op<M: GuestMemory + ?Sized>(
        &self,
        caller: DomId,
        command: u32,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        self.for_domain(caller, |caller| self.event_channel_op_by(caller, command, arg, memory))
    }

    /// `event_channel_op_compat` (hypercall 16): the address of a command with its argument.
    ///
    /// For paravirtual callers only, and for the commands 0 to 9; else ENOSYS.
    pub fn event_channel_op_compat<M: GuestMemory + ?Sized>(
        &self,
        caller: DomId,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        self.for_domain(caller, |caller| self.compat_by(caller, arg, memory))
    }

    pub(crate) fn event_channel_op_by<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        command: u32,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        match Op(command) {
            Op::RESET => self.raw_reset(caller, arg, memory, false),
            Op::RESET_CONT => self.raw_reset(caller, arg, memory, true),
            op => Outcome::of(self.raw_op(caller, op, arg, memory)),
        }
    }

    pub(super) fn compat_by<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        if !caller.is_pv() {
            return Outcome::Done(Errno::ENOSYS.negated());
        }
        let Ok(op) = copy_in::<EvtchnOp, M>(memory, arg) else {
            return Outcome::Done(Errno::EFAULT.negated());
        };
        if op.cmd > Op::UNMASK {
            return Outcome::Done(Errno::ENOSYS.negated());
        }
        // The union begins after the command. A wrapped address was refused by the read above.
        self.event_channel_op_by(caller, op.cmd.0, arg.wrapping_add(4), memory)
    }

    fn raw_op<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        op: Op,
        arg: u64,
        memory: &mut M,
    ) -> Result<(), OpError> {
        match op {
            Op::SEND => with(memory, arg, |a: Send| {
                let effect = self.send_as(caller, a.port, &enter());
                self.sent(caller.id, a.port, effect)
            }),
            Op::UNMASK => with(memory, arg, |a: Unmask| self.unmask_by(caller, a.port)),
            Op::CLOSE => with(memory, arg, |a: Close| self.close_by(caller, a.port)),
            Op::BIND_VCPU => with(memory, arg, |a: BindVcpu| self.bind_vcpu_by(caller, a.port, a.vcpu)),
            Op::ALLOC_UNBOUND => update(memory, arg, |a: &mut AllocUnbound| {
                a.port = self.alloc_unbound_by(caller, a.dom, a.remote_dom)?;
                Ok(())
            }),
            Op::BIND_INTERDOMAIN => update(memory, arg, |a: &mut BindInterdomain| {
                a.local_port = self.bind_interdomain_by(caller, a.remote_dom, a.remote_port)?;
                Ok(())
            }),
            Op::BIND_VIRQ => update(memory, arg, |a: &mut BindVirq| {
                a.port = self.bind_virq_by(caller, a.virq, a.vcpu)?;
                Ok(())
            }),
            Op::BIND_PIRQ => update(memory, arg, |a: &mut BindPirq| {
                a.port = self.bind_pirq_by(caller, a.pirq, a.flags)?;
                Ok(())
            }),
            Op::BIND_IPI => update(memory, arg, |a: &mut BindIpi| {
                a.port = self.bind_ipi_by(caller, a.vcpu)?;
                Ok(())
            }),
            Op::STATUS => update(memory, arg, |a: &mut Status| {
                let status = self.status_by(caller, a.dom, a.port)?;
                a.set_kind(status.kind);
                a.vcpu = status.vcpu;
                Ok(())
            }),
            Op::INIT_CONTROL => update(memory, arg, |a: &mut InitControl| {
                self.init_control_by(caller, a.vcpu, a.control_gfn, a.offset)?;
                a.link_bits = LINK_BITS;
                Ok(())
            }),
            Op::EXPAND_ARRAY => with(memory, arg, |a: ExpandArray| self.expand_array_by(caller, a.array_gfn)),
            Op::SET_PRIORITY => {
                with(memory, arg, |a: SetPriority| self.set_priority_by(caller, a.port, a.priority))
            }
            _ => Err(OpError::NotImplemented),
        }
    }

    fn raw_reset<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        arg: u64,
        memory: &mut M,
        resume: bool,
    ) -> Outcome {
        match copy_in::<Reset, M>(memory, arg).and_then(|a| self.reset_by(caller, a.dom, resume)) {
            Ok(ResetOutcome::Again) => Outcome::Again,
            Ok(ResetOutcome::Done) => Outcome::of(Ok(())),
            Err(error) => Outcome::of(Err(error)),
        }
    }
}
