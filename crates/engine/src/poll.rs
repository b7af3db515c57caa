// SPDX-License-Identifier: MIT OR Apache-2.0
//! `SCHEDOP_poll`: a vCPU sleeps until one of some ports is pending; and `SCHEDOP_block`: until it gets an upcall.
//!
//! The engine does not sleep. It says whether the vCPU should, and calls
//! [`Hooks::wake_poller`] when a poll is over, [`Hooks::deliver`] for an upcall.

use evtchn_abi::{DomId, Port, SCHEDOP_POLL_MAX_PORTS, VcpuId};
use evtchn_sync::atomic::AtomicU64;
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{Guard, Page, enter};

use crate::action::Action;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

/// What a vCPU should do after `sched_poll` or `sched_block`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PollOutcome {
    /// Go on: a port is pending, or an upcall is waiting.
    Ready,
    /// Sleep until [`Hooks::deliver`] or [`Hooks::wake_poller`] is called for the vCPU, which may have happened already,
    /// another interrupt, or the timeout; then call [`Engine::finish_poll`].
    Sleep,
}

/// What a vCPU polls for: 0 nothing, [`SEVERAL`] any port, else that port.
#[derive(Debug)]
pub(crate) struct PollSlot(AtomicU64);

const NONE: u64 = 0;
const SEVERAL: u64 = 1 << 32;

impl PollSlot {
    pub fn new() -> Self {
        Self(AtomicU64::new(NONE))
    }

    fn is_polling(&self) -> bool {
        self.0.load(SeqCst) != NONE
    }

    /// Ends the poll if it waits for `port`; whether it did.
    ///
    /// A poller that narrows its poll from several ports to one at the same time is looked at again: it is still to be woken.
    fn take_if(&self, port: Port) -> bool {
        let waits = |wanted| wanted == SEVERAL || wanted == u64::from(port.0);
        self.0.fetch_update(SeqCst, SeqCst, |wanted| waits(wanted).then_some(NONE)).is_ok()
    }
}

impl<P: Page> Domain<P> {
    /// Announces a poll for any port, before any pending bit is read: pairs with the fences in `raise_bit` and
    /// `Fifo::raise_edge`. The fence here is that of the reader's entry, without which no bit is read.
    fn begin_poll(&self, vcpu: VcpuId) -> Result<(), OpError> {
        let slot = &self.vcpu(vcpu)?.poll;
        // Counted first: who ends the poll takes it from the count, which must not fall short of the polls meanwhile.
        self.pollers.fetch_add(1, SeqCst);
        if slot.0.swap(SEVERAL, SeqCst) != NONE {
            self.pollers.fetch_sub(1, SeqCst);
        }
        Ok(())
    }

    /// Ends a poll, whatever it waits for; whether there was one.
    pub fn end_poll(&self, vcpu: VcpuId) -> bool {
        let ended = self.vcpu(vcpu).is_ok_and(|vcpu| vcpu.poll.0.swap(NONE, SeqCst) != NONE);
        if ended {
            self.pollers.fetch_sub(1, SeqCst);
        }
        ended
    }

    /// Narrows a poll to one port; false if it has been ended meanwhile.
    fn narrow_poll(&self, vcpu: VcpuId, port: Option<Port>) -> Result<bool, OpError> {
        let slot = &self.vcpu(vcpu)?.poll;
        let wanted = port.map_or(SEVERAL, |port| u64::from(port.0));
        Ok(slot.0.compare_exchange(SEVERAL, wanted, SeqCst, SeqCst).is_ok())
    }

    /// The first vCPU from `from` up whose poll `port` ends, which it does here.
    fn end_one_poll(&self, from: u32, port: Port) -> Option<VcpuId> {
        let vcpus = self.vcpus.iter().enumerate().skip(from as usize);
        #[allow(clippy::cast_possible_truncation)] // vCPUs are counted in 32 bits
        let found = vcpus.filter(|(_, vcpu)| vcpu.poll.take_if(port)).map(|(id, _)| id as u32).next();
        if found.is_some() {
            self.pollers.fetch_sub(1, SeqCst);
        }
        found.map(VcpuId)
    }

    /// Is the port pending?
    ///
    /// # Errors
    /// EINVAL if the guest may not use it.
    fn poll_port(&self, port: Port, guard: &Guard<'_>) -> Result<bool, OpError> {
        if !self.channel(port)?.binding().usable() {
            return Err(OpError::WrongState);
        }
        Ok(self.is_pending(port, guard))
    }
}

impl<H: Hooks> Engine<H> {
    /// `SCHEDOP_poll`: should `vcpu` of `caller` sleep until one of `ports` is pending?
    ///
    /// With one port, an event on that port ends the sleep; with several, or none, an event on *any*
    /// port of the domain does, masked or not, as with Xen. An upcall to the vCPU always does. Ports
    /// are looked at in order, and not beyond the first that is pending.
    ///
    /// ```
    /// # use evtchn_engine::{Engine, DomainConfig, PollOutcome, test_utils::Recorder};
    /// # use evtchn_abi::{DomId, VcpuId};
    /// # let engine = Engine::new(Recorder::default());
    /// # engine.create_domain(DomId(1), DomainConfig::guest(1))?;
    /// # engine.set_shared_info(DomId(1), Some(evtchn_engine::test_utils::page()))?;
    /// let port = engine.bind_ipi(DomId(1), VcpuId(0))?;
    /// let sleep = engine.sched_poll(DomId(1), VcpuId(0), &[port])?;
    /// assert_eq!(sleep, PollOutcome::Sleep);
    /// engine.send(DomId(1), port)?; // calls `deliver` and `wake_poller`
    /// assert!(!engine.is_polling(DomId(1), VcpuId(0)));
    /// # Ok::<(), evtchn_engine::OpError>(())
    /// ```
    ///
    /// # Errors
    /// EINVAL for more than 128 ports or one that the domain may not use; ENOENT, ESRCH for a caller
    /// that does not exist.
    pub fn sched_poll(&self, caller: DomId, vcpu: VcpuId, ports: &[Port]) -> Result<PollOutcome, OpError> {
        let count = u32::try_from(ports.len()).map_err(|_| OpError::Invalid)?;
        self.sched_poll_by(&*self.domain(caller)?, vcpu, count, |index| {
            ports.get(index as usize).copied().ok_or(OpError::Fault)
        })
    }

    /// As `sched_poll`, with the ports read one at a time.
    pub(crate) fn sched_poll_by(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
        count: u32,
        port: impl FnMut(u32) -> Result<Port, OpError>,
    ) -> Result<PollOutcome, OpError> {
        let outcome = self.run_poll(caller, vcpu, count, port);
        let sleeps = outcome == Ok(PollOutcome::Sleep);
        self.acted(caller.id, Action::Poll { vcpu, ports: count, sleeps }, outcome)
    }

    fn run_poll(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
        count: u32,
        port: impl FnMut(u32) -> Result<Port, OpError>,
    ) -> Result<PollOutcome, OpError> {
        if count > SCHEDOP_POLL_MAX_PORTS {
            return Err(OpError::Invalid);
        }
        caller.begin_poll(vcpu)?;
        let result = self.poll_ports(caller, vcpu, count, port);
        if result != Ok(PollOutcome::Sleep) {
            caller.end_poll(vcpu);
        }
        result
    }

    fn poll_ports(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
        count: u32,
        mut port: impl FnMut(u32) -> Result<Port, OpError>,
    ) -> Result<PollOutcome, OpError> {
        if self.upcall_is_deliverable(caller, vcpu) {
            return Ok(PollOutcome::Ready);
        }
        let mut single = None;
        for index in 0..count {
            let port = port(index)?; // may enter the embedder: nothing is held
            if caller.poll_port(port, &enter())? {
                return Ok(PollOutcome::Ready);
            }
            single = (count == 1).then_some(port);
        }
        let asleep = caller.narrow_poll(vcpu, single)?;
        Ok(if asleep { PollOutcome::Sleep } else { PollOutcome::Ready })
    }

    /// Would an upcall enter this vCPU at once?
    fn upcall_is_deliverable(&self, caller: &Domain<H::Page>, vcpu: VcpuId) -> bool {
        let pending = caller.pending_upcall(vcpu, &enter()).is_some();
        pending && (caller.is_pv() || self.hooks.accepts_upcall(caller.id, vcpu))
    }

    /// `SCHEDOP_block`: should `vcpu` of `caller` sleep until it gets an upcall?
    ///
    /// Lets upcalls into a paravirtual vCPU first (`evtchn_upcall_mask`). [`PollOutcome::Ready`] if one is waiting.
    ///
    /// # Errors
    /// ESRCH, ENOENT for a caller that does not exist.
    pub fn sched_block(&self, caller: DomId, vcpu: VcpuId) -> Result<PollOutcome, OpError> {
        self.sched_block_by(&*self.domain(caller)?, vcpu)
    }

    pub(crate) fn sched_block_by(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
    ) -> Result<PollOutcome, OpError> {
        let outcome = self.block(caller, vcpu);
        let sleeps = outcome == Ok(PollOutcome::Sleep);
        self.acted(caller.id, Action::Block { vcpu, sleeps }, outcome)
    }

    fn block(&self, caller: &Domain<H::Page>, vcpu: VcpuId) -> Result<PollOutcome, OpError> {
        caller.vcpu(vcpu)?;
        if caller.is_pv() {
            // Mask, then the look. An upcall that is marked after the look is delivered, and so not slept through.
            caller.clear_upcall_mask(vcpu, &enter());
        }
        let ready = self.upcall_is_deliverable(caller, vcpu);
        Ok(if ready { PollOutcome::Ready } else { PollOutcome::Sleep })
    }

    /// Ends a poll: the vCPU woke up, whatever woke it. Returns whether it was still polling.
    pub fn finish_poll(&self, domain: DomId, vcpu: VcpuId) -> bool {
        let was_polling = self.peek(domain, &enter()).map(|domain| domain.end_poll(vcpu));
        let action = |was_polling| Action::FinishPoll { vcpu, was_polling };
        self.acted_with(domain, was_polling, action).unwrap_or(false)
    }

    /// Is the vCPU in a poll that nothing has ended yet?
    #[must_use]
    pub fn is_polling(&self, domain: DomId, vcpu: VcpuId) -> bool {
        let guard = enter();
        let domain = self.peek(domain, &guard);
        domain.is_ok_and(|domain| domain.vcpu(vcpu).is_ok_and(|vcpu| vcpu.poll.is_polling()))
    }

    /// Ends the polls that an event on `port` ends. The caller is no reader and holds no lock.
    pub(crate) fn wake_pollers(&self, domain: DomId, port: Port) {
        let mut from = 0;
        loop {
            let next = self.peek(domain, &enter()).ok().and_then(|domain| domain.end_one_poll(from, port));
            let Some(vcpu) = next else { return };
            self.hooks.wake_poller(domain, vcpu);
            from = vcpu.0 + 1;
        }
    }
}
