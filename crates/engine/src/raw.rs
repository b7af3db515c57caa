// SPDX-License-Identifier: MIT OR Apache-2.0
//! The raw door: hypercalls as a guest makes them, with a number and the address of an argument.
//!
//! A thin layer over the typed operations. The whole argument is copied in before anything happens;
//! operations with results copy the whole structure out again, on success only. If *that* fails the
//! answer is EFAULT and the operation is not undone: a port may stay open, as with Xen.

use core::num::NonZeroU64;

use evtchn_abi::args::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, EvtchnOp, ExpandArray,
    InitControl, Reset, SchedPoll, SchedPoll32, Send, SetPriority, Status, Unmask,
};
use evtchn_abi::{CStruct, DomId, Errno, Hypercall, Op, Port, SchedOp, VcpuId};
use evtchn_sync::enter;

use crate::config::Width;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::memory::{GuestMemory, copy_in, copy_out};
use crate::ops::ResetOutcome;
use crate::poll::PollOutcome;

/// What `init_control` tells the guest.
#[allow(clippy::cast_possible_truncation)] // 17
const LINK_BITS: u8 = evtchn_abi::fifo::LINK_BITS as u8;

/// What the embedder should do about a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// Return this to the guest: 0, or a negated error number.
    Done(i64),
    /// Put the vCPU to sleep until [`Hooks::wake_poller`], an interrupt, or the deadline; then call
    /// [`Engine::finish_poll`] and return 0.
    Block {
        /// When to stop waiting, in nanoseconds of absolute system time; `None` for never.
        deadline: Option<NonZeroU64>,
    },
    /// Call again, now with the command [`Op::RESET_CONT`] and the same argument, when whatever
    /// asked for the pause is done.
    Again,
    /// Not a hypercall that the engine knows.
    NotMine,
}

impl Outcome {
    #[inline]
    pub(crate) fn of(result: Result<(), OpError>) -> Self {
        Self::Done(result.map_or_else(|error| error.errno().negated(), |()| 0))
    }
}

impl<H: Hooks> Engine<H> {
    /// Any hypercall, by its number.
    ///
    /// Takes `event_channel_op`, its compat form, `SCHEDOP_poll`, and two commands of `physdev_op`. All else is [`Outcome::NotMine`].
    ///
    /// A thread that calls often, such as a vCPU's, does so by a [`Caller`](crate::Caller).
    pub fn hypercall<M: GuestMemory + ?Sized>(
        &self,
        caller: DomId,
        vcpu: VcpuId,
        number: u64,
        args: [u64; 5],
        memory: &mut M,
    ) -> Outcome {
        self.for_domain(caller, |caller| self.hypercall_by(caller, vcpu, number, args, memory))
    }

    pub(crate) fn hypercall_by<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
        number: u64,
        args: [u64; 5],
        memory: &mut M,
    ) -> Outcome {
        let [first, second, ..] = args;
        #[allow(clippy::cast_possible_truncation)] // commands are C ints: the upper half is ignored
        let command = first as u32;
        match Hypercall(number) {
            Hypercall::EVENT_CHANNEL_OP => self.event_channel_op_by(caller, command, second, memory),
            Hypercall::EVENT_CHANNEL_OP_COMPAT => self.compat_by(caller, first, memory),
            Hypercall::SCHED_OP if SchedOp(command) == SchedOp::POLL => {
                self.sched_op_poll(caller, vcpu, second, memory)
            }
            Hypercall::PHYSDEV_OP => self.physdev_op_by(caller, command, second, memory),
            _ => Outcome::NotMine,
        }
    }

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

    pub(crate) fn for_domain(
        &self,
        caller: DomId,
        call: impl FnOnce(&Domain<H::Page>) -> Outcome,
    ) -> Outcome {
        self.domain(caller).map_or_else(|error| Outcome::of(Err(error)), |caller| call(&caller))
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

    fn compat_by<M: GuestMemory + ?Sized>(
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

    fn sched_op_poll<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        let poll = match copy_in_poll(caller.width(), arg, memory) {
            Ok(poll) => poll,
            Err(error) => return Outcome::of(Err(error)),
        };
        let outcome = self.sched_poll_by(caller, vcpu, poll.nr_ports, |index| {
            let address = poll.ports.checked_add(u64::from(index) * 4).ok_or(OpError::Fault)?;
            let mut bytes = [0; 4];
            memory.read(address, &mut bytes)?;
            Ok(Port(u32::from_le_bytes(bytes)))
        });
        match outcome {
            Ok(PollOutcome::Ready) => Outcome::of(Ok(())),
            Ok(PollOutcome::Sleep) => Outcome::Block { deadline: NonZeroU64::new(poll.timeout) },
            Err(error) => Outcome::of(Err(error)),
        }
    }
}

fn copy_in_poll<M: GuestMemory + ?Sized>(
    width: Width,
    arg: u64,
    memory: &mut M,
) -> Result<SchedPoll, OpError> {
    match width {
        Width::Bits64 => copy_in(memory, arg),
        Width::Bits32 => copy_in::<SchedPoll32, M>(memory, arg).map(SchedPoll::from),
    }
}

/// Runs an operation without results.
pub(crate) fn with<A: CStruct, M: GuestMemory + ?Sized>(
    memory: &mut M,
    arg: u64,
    run: impl FnOnce(A) -> Result<(), OpError>,
) -> Result<(), OpError> {
    run(copy_in(memory, arg)?)
}

/// Runs an operation that puts its results into its argument.
pub(crate) fn update<A: CStruct, M: GuestMemory + ?Sized>(
    memory: &mut M,
    arg: u64,
    run: impl FnOnce(&mut A) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let mut value = copy_in(memory, arg)?;
    run(&mut value)?;
    copy_out(memory, arg, &value)
}
