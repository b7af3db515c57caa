// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls that somebody looks at.

use core::num::NonZeroU64;

use evtchn_abi::{Errno, HvmOp, Hypercall as Number, Op, PhysdevOp, Port, SchedOp, VcpuId, VcpuOp};

use super::Hypercall;
use super::call::{Argument, Call, Request};

/// Passes every hypercall on to `X`, and shows it to a closure `F` when it has returned.
///
/// What the closure collects can be [replayed](super::Replaying).
///
/// ```
/// use std::cell::RefCell;
/// use evtchn_abi::{Errno, Op, Port};
/// use evtchn_guest::{Hypercall, Recording};
///
/// struct NoXen;
/// impl Hypercall for NoXen {
///     fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
///         Err(Errno::ENOSYS)
///     }
/// }
///
/// let calls = RefCell::new(Vec::new());
/// let xen = Recording::new(NoXen, |call| calls.borrow_mut().push(call));
/// let _ = xen.send(Port(9));
/// assert_eq!(calls.borrow()[0].to_string(), "event_channel_op send [09 00 00 00] = ENOSYS");
/// ```
///
/// The functions with types become raw ones here: `X` gets an `event_channel_op` also where it has overridden `send`.
#[derive(Clone, Copy, Debug)]
pub struct Recording<X, F> {
    inner: X,
    see: F,
}

impl<X: Hypercall, F: Fn(Call)> Recording<X, F> {
    /// Shows the hypercalls to `inner` to the closure.
    pub const fn new(inner: X, see: F) -> Self {
        Self { inner, see }
    }

    /// Who carries them out.
    pub const fn inner(&self) -> &X {
        &self.inner
    }

    /// A call with an argument that Xen may write to.
    fn with(
        &self,
        request: Request,
        arg: &mut [u8],
        run: impl FnOnce(&mut [u8]) -> Result<u32, Errno>,
    ) -> Result<u32, Errno> {
        let result = run(arg);
        (self.see)(Call { request, result, after: Argument::new(arg) });
        result
    }

    /// A call whose argument is no structure.
    fn without(&self, request: Request, result: Result<(), Errno>) -> Result<(), Errno> {
        (self.see)(Call { request, result: result.map(|()| 0), after: request.argument });
        result
    }
}

impl<X: Hypercall, F: Fn(Call)> Hypercall for Recording<X, F> {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        let request = Request::new(Number::EVENT_CHANNEL_OP, op.0, arg);
        self.with(request, arg, |arg| self.inner.event_channel_op(op, arg).map(|()| 0)).map(drop)
    }

    fn sched_op(&self, op: SchedOp, arg: &mut [u8]) -> Result<(), Errno> {
        let request = Request::new(Number::SCHED_OP, op.0, arg);
        self.with(request, arg, |arg| self.inner.sched_op(op, arg).map(|()| 0)).map(drop)
    }

    fn poll(&self, ports: &[Port], deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        self.without(Request::poll(ports, deadline), self.inner.poll(ports, deadline))
    }

    fn vcpu_op(&self, op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        let request = Request { vcpu, ..Request::new(Number::VCPU_OP, op.0, arg) };
        self.with(request, arg, |arg| self.inner.vcpu_op(op, vcpu, arg))
    }

    fn hvm_op(&self, op: HvmOp, arg: &mut [u8]) -> Result<(), Errno> {
        let request = Request::new(Number::HVM_OP, op.0, arg);
        self.with(request, arg, |arg| self.inner.hvm_op(op, arg).map(|()| 0)).map(drop)
    }

    fn physdev_op(&self, op: PhysdevOp, arg: &mut [u8]) -> Result<(), Errno> {
        let request = Request::new(Number::PHYSDEV_OP, op.0, arg);
        self.with(request, arg, |arg| self.inner.physdev_op(op, arg).map(|()| 0)).map(drop)
    }

    fn set_timer_op(&self, deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        self.without(Request::set_timer(deadline), self.inner.set_timer_op(deadline))
    }
}
