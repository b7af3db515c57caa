// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls answered from a recording.

use core::fmt;
use core::num::NonZeroU64;

use evtchn_abi::{Errno, HvmOp, Hypercall as Number, Op, PhysdevOp, Port, SchedOp, VcpuId, VcpuOp};
use evtchn_sync::Mutex;

use super::Hypercall;
use super::call::{Call, Request};

/// Answers hypercalls as they were answered when they were [recorded](super::Recording), as long as they are the same
/// ones in the same order.
///
/// The first one that differs is kept for [`finish`](Self::finish); it and all later ones are answered with ENOSYS.
///
/// ```
/// use std::cell::RefCell;
/// use evtchn_abi::{Errno, Op, Port, VcpuId};
/// use evtchn_guest::{Hypercall, Recording, Replaying};
///
/// # struct Xen;
/// # impl Hypercall for Xen {
/// #     fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
/// #         if op == Op::BIND_IPI { arg[4] = 5; }
/// #         Ok(())
/// #     }
/// # }
/// fn guest(xen: &impl Hypercall) -> Result<(), Errno> {
///     let port = xen.bind_ipi(VcpuId(0))?;
///     xen.send(port)
/// }
///
/// let calls = RefCell::new(Vec::new());
/// guest(&Recording::new(Xen, |call| calls.borrow_mut().push(call)))?;
///
/// let calls = calls.into_inner();
/// let replay = Replaying::new(&calls);
/// guest(&replay)?;
/// assert_eq!(replay.finish(), Ok(()));
///
/// let replay = Replaying::new(&calls);
/// assert_eq!(replay.send(Port(5)), Err(Errno::ENOSYS));
/// assert_eq!(
///     replay.finish().unwrap_err().to_string(),
///     "call 0: expected event_channel_op bind_ipi [00 00 00 00 00 00 00 00], \
///      came event_channel_op send [05 00 00 00]",
/// );
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug)]
pub struct Replaying<'a> {
    calls: &'a [Call],
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many calls have been answered.
    done: usize,
    divergence: Option<Divergence>,
}

impl<'a> Replaying<'a> {
    /// Answers from these calls.
    #[must_use]
    pub fn new(calls: &'a [Call]) -> Self {
        Self { calls, state: Mutex::new(State::default()) }
    }

    /// Were all calls made, and no other?
    ///
    /// # Errors
    /// Where the guest went another way, or what it has not done.
    #[allow(clippy::result_large_err)] // two requests; asked once
    pub fn finish(&self) -> Result<(), ReplayError> {
        let state = self.state.lock();
        if let Some(divergence) = state.divergence {
            return Err(ReplayError::Diverged(divergence));
        }
        match self.calls.get(state.done) {
            Some(call) => {
                let of = self.calls.len();
                Err(ReplayError::Unfinished { done: state.done, of, next: call.request })
            }
            None => Ok(()),
        }
    }

    fn answer(&self, came: Request, arg: &mut [u8]) -> Result<u32, Errno> {
        let mut state = self.state.lock();
        if state.divergence.is_some() {
            return Err(Errno::ENOSYS);
        }
        match self.calls.get(state.done) {
            Some(call) if call.request == came => {
                state.done += 1;
                call.after.write_to(arg);
                call.result
            }
            other => {
                let expected = other.map(|call| call.request);
                state.divergence = Some(Divergence { index: state.done, expected, came });
                Err(Errno::ENOSYS)
            }
        }
    }
}

impl Hypercall for Replaying<'_> {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        self.answer(Request::new(Number::EVENT_CHANNEL_OP, op.0, arg), arg).map(drop)
    }

    fn sched_op(&self, op: SchedOp, arg: &mut [u8]) -> Result<(), Errno> {
        self.answer(Request::new(Number::SCHED_OP, op.0, arg), arg).map(drop)
    }

    fn poll(&self, ports: &[Port], deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        self.answer(Request::poll(ports, deadline), &mut []).map(drop)
    }

    fn vcpu_op(&self, op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        self.answer(Request { vcpu, ..Request::new(Number::VCPU_OP, op.0, arg) }, arg)
    }

    fn hvm_op(&self, op: HvmOp, arg: &mut [u8]) -> Result<(), Errno> {
        self.answer(Request::new(Number::HVM_OP, op.0, arg), arg).map(drop)
    }

    fn physdev_op(&self, op: PhysdevOp, arg: &mut [u8]) -> Result<(), Errno> {
        self.answer(Request::new(Number::PHYSDEV_OP, op.0, arg), arg).map(drop)
    }

    fn set_timer_op(&self, deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        self.answer(Request::set_timer(deadline), &mut []).map(drop)
    }
}

/// The first hypercall that was not the recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Its place in the recording, counted from 0.
    pub index: usize,
    /// What was recorded there; `None` if the recording has ended.
    pub expected: Option<Request>,
    /// What the guest asked instead.
    pub came: Request,
}

/// How a guest has not done what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError {
    /// It made another hypercall.
    Diverged(Divergence),
    /// It stopped before the end.
    Unfinished {
        /// How many hypercalls it made.
        done: usize,
        /// How many were recorded.
        of: usize,
        /// The one that did not come.
        next: Request,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diverged(Divergence { index, expected: Some(expected), came }) => {
                write!(f, "call {index}: expected {expected}, came {came}")
            }
            Self::Diverged(Divergence { index, expected: None, came }) => {
                write!(f, "call {index}: expected no more, came {came}")
            }
            Self::Unfinished { done, of, next } => {
                write!(f, "ended after {done} of {of} calls: expected {next}")
            }
        }
    }
}

impl core::error::Error for ReplayError {}
