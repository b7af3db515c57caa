// SPDX-License-Identifier: MIT OR Apache-2.0
//! The raw door: hypercalls as a guest makes them, with a number and the address of an argument.
//!
//! A thin layer over the typed operations, with a file for each hypercall. The whole argument is copied in before
//! anything happens; operations with results copy the whole structure out again, on success only. If *that* fails the
//! answer is EFAULT and the operation is not undone: a port may stay open, as with Xen.

mod event_channel_op;
mod hvm_op;
mod physdev_op;
mod sched_op;
mod set_timer_op;
mod vcpu_op;

use core::num::NonZeroU64;

use evtchn_abi::{CStruct, DomId, Hypercall, VcpuId};

use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::memory::{GuestMemory, copy_in, copy_out};

/// What the embedder should do about a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub enum Outcome {
    /// Return this to the guest: 0, or a negated error number.
    Done(i64),
    /// Put the vCPU to sleep until [`Hooks::deliver`] or [`Hooks::wake_poller`] is called for it, which may have
    /// happened already, another interrupt, or the deadline; then call [`Engine::finish_poll`] and return 0.
    Block {
        /// When to stop waiting, in nanoseconds of absolute system time; `None` for never.
        deadline: Option<NonZeroU64>,
    },
    /// Call again, now with the command [`Op::RESET_CONT`](evtchn_abi::Op::RESET_CONT) and the same argument, when
    /// whatever asked for the pause is done.
    Again,
    /// Not a hypercall that the engine knows.
    NotMine,
}

impl Outcome {
    #[inline]
    pub(crate) fn of(result: Result<(), OpError>) -> Self {
        match result {
            Ok(()) => Self::Done(0),
            Err(error) => Self::refused(error),
        }
    }

    #[cold]
    #[inline(never)]
    fn refused(error: OpError) -> Self {
        Self::Done(error.errno().negated())
    }
}

impl<H: Hooks> Engine<H> {
    /// Any hypercall, by its number. What is not in the table is [`Outcome::NotMine`].
    ///
    /// | Hypercall | Commands |
    /// |---|---|
    /// | `event_channel_op`, and its compat form | all |
    /// | `sched_op` | `poll`, `block` |
    /// | `vcpu_op` | `register_vcpu_info`; `set_` and `stop_periodic_timer`, `set_` and `stop_singleshot_timer` |
    /// | `hvm_op` | `set_param` and `get_param` of `HVM_PARAM_CALLBACK_IRQ`, as on x86; `set_evtchn_upcall_vector` |
    /// | `physdev_op` | `eoi`, `irq_status_query` |
    /// | `set_timer_op` | |
    ///
    /// What is left to the embedder after them: to fill in the clock in a vcpu_info that was registered
    /// ([`Engine::vcpu_info`] tells where it is), and to take over the width of a guest that sets its own callback
    /// ([`Engine::set_width`]), as Xen does then.
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
        let [first, second, third, ..] = args;
        let command = int(first);
        match Hypercall(number) {
            Hypercall::EVENT_CHANNEL_OP => self.event_channel_op_by(caller, command, second, memory),
            Hypercall::EVENT_CHANNEL_OP_COMPAT => self.compat_by(caller, first, memory),
            Hypercall::SCHED_OP => self.sched_op_by(caller, vcpu, command, second, memory),
            Hypercall::VCPU_OP => self.vcpu_op_by(caller, vcpu, command, VcpuId(int(second)), third, memory),
            Hypercall::HVM_OP => self.hvm_op_by(caller, command, second, memory),
            Hypercall::PHYSDEV_OP => self.physdev_op_by(caller, command, second, memory),
            Hypercall::SET_TIMER_OP => self.set_timer_op_by(caller, vcpu, first, second),
            _ => Outcome::NotMine,
        }
    }

    fn for_domain(&self, caller: DomId, call: impl FnOnce(&Domain<H::Page>) -> Outcome) -> Outcome {
        self.domain(caller).map_or_else(|error| Outcome::of(Err(error)), |caller| call(&caller))
    }
}

/// A command or a vCPU's number in a register: both are C ints, the upper half is ignored.
#[allow(clippy::cast_possible_truncation)]
pub(crate) const fn int(register: u64) -> u32 {
    register as u32
}

/// System time is signed in Xen: what is negative has passed.
pub(crate) const fn at_once_if_negative(time: u64) -> u64 {
    if time > i64::MAX as u64 { 0 } else { time }
}

/// Runs an operation without results.
fn with<A: CStruct, M: GuestMemory + ?Sized>(
    memory: &mut M,
    arg: u64,
    run: impl FnOnce(A) -> Result<(), OpError>,
) -> Result<(), OpError> {
    run(copy_in(memory, arg)?)
}

/// Runs an operation that puts its results into its argument.
fn update<A: CStruct, M: GuestMemory + ?Sized>(
    memory: &mut M,
    arg: u64,
    run: impl FnOnce(&mut A) -> Result<(), OpError>,
) -> Result<(), OpError> {
    let mut value = copy_in(memory, arg)?;
    run(&mut value)?;
    copy_out(memory, arg, &value)
}
