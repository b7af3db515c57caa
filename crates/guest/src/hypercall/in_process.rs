// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine in the same process as a guest's hypervisor.

use core::num::NonZeroU64;
use core::ops::Deref;

use evtchn_abi::args::{PhysdevIrqStatusQuery, Status};
use evtchn_abi::{
    DomId, Errno, Gfn, HvmOp, Hypercall as Number, Op, PhysdevOp, Pirq, Port, Priority, SchedOp, VcpuId,
    VcpuOp, Virq, fifo,
};
use evtchn_engine::{Engine, Hooks, OpError, Outcome, PollOutcome, ResetOutcome};

use super::Hypercall;

/// A vCPU of a domain of an [`Engine`] that is in the same process: for hosts that play the guest themselves, for tests, and to
/// try a guest's code without Xen.
///
/// Operations with types go in by the engine's typed door, without copying an argument; raw ones by the raw door, with the
/// argument as the guest's memory. Each of them is the vCPU's, and the engine's answers are Xen's. With a clock
/// ([`WithClock`](crate::WithClock)) it is the [`Kernel`](crate::Kernel) that [`Events`](crate::Events) want.
///
/// ```
/// use evtchn_abi::args::StatusKind;
/// use evtchn_abi::{DomId, VcpuId};
/// use evtchn_engine::test_utils::Recorder;
/// use evtchn_engine::{DomainConfig, Engine};
/// use evtchn_guest::{Hypercall, InProcess};
///
/// let engine = Engine::new(Recorder::default());
/// engine.create_domain(DomId(1), DomainConfig::guest(1))?;
/// let xen = InProcess::new(&engine, DomId(1), VcpuId(0));
///
/// let port = xen.alloc_unbound(DomId::SELF, DomId(1))?;
/// let other = xen.bind_interdomain(DomId::SELF, port)?;
/// let connected = StatusKind::Interdomain { dom: DomId(1), port: other };
/// assert_eq!(xen.status(DomId::SELF, port)?.kind(), Some(connected));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Waiting
///
/// The engine says that a vCPU is to sleep in [`poll`](Hypercall::poll) or [`block`](Hypercall::block), and its embedder lets it
/// sleep: [`with_wait`](Self::with_wait). Without that they return at once, which a guest takes for a wake-up of
/// another cause: it spins.
///
/// # What it has not
///
/// [`shutdown`](Hypercall::shutdown), [`vcpu_is_up`](Hypercall::vcpu_is_up), HVM parameters other than the callback, and
/// [`set_pirq_eoi_page`](Hypercall::set_pirq_eoi_page) are not the engine's: ENOSYS.
///
/// `E` is whatever points to the engine: `&Engine`, `Arc<Engine>`.
#[derive(Clone, Copy, Debug)]
pub struct InProcess<E, W = fn(Option<NonZeroU64>)> {
    engine: E,
    domain: DomId,
    vcpu: VcpuId,
    wait: W,
}

impl<E> InProcess<E> {
    /// The vCPU `vcpu` of `domain`. If it does not exist its calls are refused: ESRCH, ENOENT.
    #[must_use]
    pub const fn new(engine: E, domain: DomId, vcpu: VcpuId) -> Self {
        Self { engine, domain, vcpu, wait: |_| core::hint::spin_loop() }
    }
}

impl<E, W: Fn(Option<NonZeroU64>)> InProcess<E, W> {
    /// Calls `wait` where the vCPU is to sleep, with the system time in nanoseconds at which it is to wake up at the latest.
    ///
    /// It returns when [`Hooks::deliver`] or [`Hooks::wake_poller`] has been called for the vCPU, which may have happened
    /// before; earlier does no harm.
    #[must_use]
    pub fn with_wait<V: Fn(Option<NonZeroU64>)>(self, wait: V) -> InProcess<E, V> {
        let Self { engine, domain, vcpu, .. } = self;
        InProcess { engine, domain, vcpu, wait }
    }

    /// The domain that calls.
    #[must_use]
    pub const fn domain(&self) -> DomId {
        self.domain
    }

    /// The vCPU that calls.
    #[must_use]
    pub const fn vcpu(&self) -> VcpuId {
        self.vcpu
    }

    /// The engine.
    #[must_use]
    pub fn engine<H: Hooks>(&self) -> &Engine<H>
    where
        E: Deref<Target = Engine<H>>,
    {
        &self.engine
    }

    /// A hypercall by the raw door; its argument begins at address 0.
    fn raw<H: Hooks>(&self, number: Number, args: [u64; 3], arg: &mut [u8]) -> Result<(), Errno>
    where
        E: Deref<Target = Engine<H>>,
    {
        let [mut command, second, third] = args;
        loop {
            let args = [command, second, third, 0, 0];
            match self.engine.hypercall(self.domain, self.vcpu, number.0, args, arg) {
                Outcome::Done(result) => return Errno::from_result(result).map_or(Ok(()), Err),
                Outcome::Block { deadline } => {
                    self.sleep(deadline);
                    return Ok(());
                }
                // Each turn closes some ports.
                Outcome::Again => command = Op::RESET_CONT.0.into(),
                Outcome::NotMine => return Err(Errno::ENOSYS),
            }
        }
    }

    fn sleep<H: Hooks>(&self, deadline: Option<NonZeroU64>)
    where
        E: Deref<Target = Engine<H>>,
    {
        (self.wait)(deadline);
        self.engine.finish_poll(self.domain, self.vcpu);
    }

    fn sleep_if<H: Hooks>(&self, outcome: PollOutcome, deadline: Option<NonZeroU64>)
    where
        E: Deref<Target = Engine<H>>,
    {
        match outcome {
            PollOutcome::Ready => {}
            PollOutcome::Sleep => self.sleep(deadline),
        }
    }

    fn finish_reset<H: Hooks>(
        &self,
        dom: DomId,
        mut outcome: Result<ResetOutcome, OpError>,
    ) -> Result<(), Errno>
    where
        E: Deref<Target = Engine<H>>,
    {
        while outcome? == ResetOutcome::Again {
            outcome = self.engine.reset_cont(self.domain, dom);
        }
        Ok(())
    }
}

impl<H: Hooks, E: Deref<Target = Engine<H>>, W: Fn(Option<NonZeroU64>)> Hypercall for InProcess<E, W> {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        self.raw(Number::EVENT_CHANNEL_OP, [op.0.into(), 0, 0], arg)
    }

    fn sched_op(&self, op: SchedOp, arg: &mut [u8]) -> Result<(), Errno> {
        match op {
            SchedOp::YIELD => {
                core::hint::spin_loop();
                Ok(())
            }
            _ => self.raw(Number::SCHED_OP, [op.0.into(), 0, 0], arg),
        }
    }

    fn poll(&self, ports: &[Port], deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        let outcome = self.engine.sched_poll(self.domain, self.vcpu, ports)?;
        self.sleep_if(outcome, deadline);
        Ok(())
    }

    fn vcpu_op(&self, op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        self.raw(Number::VCPU_OP, [op.0.into(), vcpu.0.into(), 0], arg).map(|()| 0)
    }

    fn hvm_op(&self, op: HvmOp, arg: &mut [u8]) -> Result<(), Errno> {
        self.raw(Number::HVM_OP, [op.0.into(), 0, 0], arg)
    }

    fn physdev_op(&self, op: PhysdevOp, arg: &mut [u8]) -> Result<(), Errno> {
        self.raw(Number::PHYSDEV_OP, [op.0.into(), 0, 0], arg)
    }

    fn set_timer_op(&self, deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        let deadline = deadline.map(|time| past_if_negative(time.get()));
        Ok(self.engine.set_singleshot_timer(self.domain, self.vcpu, deadline)?)
    }

    fn alloc_unbound(&self, dom: DomId, remote: DomId) -> Result<Port, Errno> {
        Ok(self.engine.alloc_unbound(self.domain, dom, remote)?)
    }

    fn bind_interdomain(&self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        Ok(self.engine.bind_interdomain(self.domain, remote, remote_port)?)
    }

    fn bind_virq(&self, virq: Virq, vcpu: VcpuId) -> Result<Port, Errno> {
        Ok(self.engine.bind_virq(self.domain, virq, vcpu)?)
    }

    fn bind_pirq(&self, pirq: Pirq, flags: u32) -> Result<Port, Errno> {
        Ok(self.engine.bind_pirq(self.domain, pirq, flags)?)
    }

    fn bind_ipi(&self, vcpu: VcpuId) -> Result<Port, Errno> {
        Ok(self.engine.bind_ipi(self.domain, vcpu)?)
    }

    fn bind_vcpu(&self, port: Port, vcpu: VcpuId) -> Result<(), Errno> {
        Ok(self.engine.bind_vcpu(self.domain, port, vcpu)?)
    }

    fn close(&self, port: Port) -> Result<(), Errno> {
        Ok(self.engine.close(self.domain, port)?)
    }

    #[inline]
    fn send(&self, port: Port) -> Result<(), Errno> {
        Ok(self.engine.send(self.domain, port)?)
    }

    fn status(&self, dom: DomId, port: Port) -> Result<Status, Errno> {
        let status = self.engine.status(self.domain, dom, port)?;
        let mut answer = Status { dom, port, vcpu: status.vcpu, ..Status::default() };
        answer.set_kind(status.kind);
        Ok(answer)
    }

    #[inline]
    fn unmask(&self, port: Port) -> Result<(), Errno> {
        Ok(self.engine.unmask(self.domain, port)?)
    }

    fn reset(&self, dom: DomId) -> Result<(), Errno> {
        self.finish_reset(dom, self.engine.reset(self.domain, dom))
    }

    fn reset_cont(&self, dom: DomId) -> Result<(), Errno> {
        self.finish_reset(dom, self.engine.reset_cont(self.domain, dom))
    }

    fn init_control(&self, vcpu: VcpuId, control: Gfn, offset: u32) -> Result<u8, Errno> {
        self.engine.init_control(self.domain, vcpu, control, offset)?;
        #[allow(clippy::cast_possible_truncation)] // 17
        Ok(fifo::LINK_BITS as u8)
    }

    fn expand_array(&self, page: Gfn) -> Result<(), Errno> {
        Ok(self.engine.expand_array(self.domain, page)?)
    }

    fn set_priority(&self, port: Port, priority: Priority) -> Result<(), Errno> {
        Ok(self.engine.set_priority(self.domain, port, priority.0.into())?)
    }

    fn block(&self) -> Result<(), Errno> {
        let outcome = self.engine.sched_block(self.domain, self.vcpu)?;
        self.sleep_if(outcome, None);
        Ok(())
    }

    fn set_periodic_timer(&self, vcpu: VcpuId, period: u64) -> Result<(), Errno> {
        Ok(self.engine.set_periodic_timer(self.domain, vcpu, Some(period))?)
    }

    fn stop_periodic_timer(&self, vcpu: VcpuId) -> Result<(), Errno> {
        Ok(self.engine.set_periodic_timer(self.domain, vcpu, None)?)
    }

    fn set_upcall_vector(&self, vcpu: VcpuId, vector: u8) -> Result<(), Errno> {
        Ok(self.engine.set_upcall_vector(self.domain, vcpu, vector)?)
    }

    fn pirq_status(&self, pirq: Pirq) -> Result<PhysdevIrqStatusQuery, Errno> {
        let status = self.engine.pirq_status(self.domain, pirq)?;
        let bit = |set, bit| if set { bit } else { 0 };
        let flags = bit(status.needs_eoi, PhysdevIrqStatusQuery::NEEDS_EOI)
            | bit(status.shared, PhysdevIrqStatusQuery::SHARED);
        Ok(PhysdevIrqStatusQuery { irq: pirq, flags })
    }

    fn pirq_eoi(&self, pirq: Pirq) -> Result<(), Errno> {
        Ok(self.engine.pirq_eoi(self.domain, pirq)?)
    }
}

/// System time is signed in Xen: what is negative has passed.
const fn past_if_negative(time: u64) -> u64 {
    if time > i64::MAX as u64 { 0 } else { time }
}
