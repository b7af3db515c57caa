// SPDX-License-Identifier: MIT OR Apache-2.0
//! `sched_op`: the commands by which a vCPU waits for events.

use core::num::NonZeroU64;

use evtchn_abi::args::{SchedPoll, SchedPoll32};
use evtchn_abi::{Port, SchedOp, VcpuId};

use crate::config::Width;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::memory::{GuestMemory, copy_in};
use crate::poll::PollOutcome;
use crate::raw::{Outcome, at_once_if_negative};

impl<H: Hooks> Engine<H> {
    pub(super) fn sched_op_by<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
        command: u32,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        match SchedOp(command) {
            SchedOp::POLL => self.sched_op_poll(caller, vcpu, arg, memory),
            SchedOp::BLOCK => wait(self.sched_block_by(caller, vcpu), None),
            _ => Outcome::NotMine,
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
        let deadline = match poll.timeout {
            0 => None,
            time => NonZeroU64::new(at_once_if_negative(time).max(1)),
        };
        wait(outcome, deadline)
    }
}

/// What a vCPU does that may wait.
fn wait(outcome: Result<PollOutcome, OpError>, deadline: Option<NonZeroU64>) -> Outcome {
    match outcome {
        Ok(PollOutcome::Ready) => Outcome::of(Ok(())),
        Ok(PollOutcome::Sleep) => Outcome::Block { deadline },
        Err(error) => Outcome::of(Err(error)),
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
