// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_reset` and its private continuation, `EVTCHNOP_reset_cont`.

use evtchn_abi::{DomId, Op, Port};
use evtchn_sync::Page;

use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::ops::close::Closer;
use crate::table::BUCKET;

/// How far a reset has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetOutcome {
    /// All ports are closed.
    Done,
    /// It gave way, as [`Hooks::preempt`] asked: call [`Engine::reset_cont`] with the same argument.
    Again,
}

/// What closing one more port, or some, has led to.
enum Step {
    /// Go on with this port.
    Next(Port),
    /// Nothing is left to close.
    End,
}

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_reset`: closes all ports of `dom` except those that Xen consumes.
    ///
    /// Gives way when [`Hooks::preempt`] says so, and remembers where. A caller that never continues
    /// blocks its own next reset, and nothing else.
    ///
    /// A domain that uses the FIFO ABI is two-level again afterwards, and its pages are dropped.
    ///
    /// # Errors
    /// ESRCH if `dom` does not exist; EPERM if the caller may not act on it; EINVAL if it is another
    /// domain and not paused; EBUSY if a reset is in progress; EAGAIN if ports were opened meanwhile.
    pub fn reset(&self, caller: DomId, dom: DomId) -> Result<ResetOutcome, OpError> {
        self.reset_by(&*self.domain(caller)?, dom, false)
    }

    /// `EVTCHNOP_reset_cont`: goes on with a reset that gave way.
    ///
    /// # Errors
    /// As [`reset`](Engine::reset), but EBUSY if *no* reset is in progress.
    pub fn reset_cont(&self, caller: DomId, dom: DomId) -> Result<ResetOutcome, OpError> {
        self.reset_by(&*self.domain(caller)?, dom, true)
    }

    pub(crate) fn reset_by(
        &self,
        caller: &Domain<H::Page>,
        dom: DomId,
        resume: bool,
    ) -> Result<ResetOutcome, OpError> {
        let result = self.named(caller, dom).and_then(|domain| self.run_reset(caller, &domain, resume));
        self.observed(caller.id, if resume { Op::RESET_CONT } else { Op::RESET }, Port(0), result)
    }

    fn run_reset(
        &self,
        caller: &Domain<H::Page>,
        domain: &Domain<H::Page>,
        resume: bool,
    ) -> Result<ResetOutcome, OpError> {
        self.hooks.policy().reset(&caller.party(), &domain.party())?;
        let mut from = start_reset(caller, domain, resume)?;
        while let Step::Next(next) = self.reset_bucket(domain, from) {
            from = next;
            if self.hooks.preempt(caller.id) {
                suspend_reset(domain, from);
                return Ok(ResetOutcome::Again);
            }
        }
        finish_reset(domain)
    }

    /// Closes the open ports from `from` to the end of its bucket.
    fn reset_bucket(&self, domain: &Domain<H::Page>, from: Port) -> Step {
        let Some(first) = next_open(domain, from) else { return Step::End };
        let end = first.0 - first.0 % BUCKET + BUCKET;
        for port in first.0..end {
            // What cannot be closed, because it belongs to Xen or is not open, stays as it is.
            let _ = self.close_port(domain, Port(port), Closer::Guest);
        }
        Step::Next(Port(end))
    }
}

/// The next port in use, unless only ports of Xen's are left.
fn next_open<P>(domain: &Domain<P>, from: Port) -> Option<Port> {
    let events = domain.event.lock();
    let some_left = events.ports.active() > events.ports.xen();
    some_left.then(|| events.ports.next_taken(from)).flatten()
}

/// Checks, marks the reset as running, and says where it begins.
fn start_reset<P>(caller: &Domain<P>, domain: &Domain<P>, resume: bool) -> Result<Port, OpError> {
    if caller.id != domain.id && !domain.is_paused() {
        return Err(OpError::NotPaused);
    }
    let mut events = domain.event.lock();
    if resume != events.reset.is_some() {
        return Err(OpError::ResetPhase);
    }
    let from = events.reset.unwrap_or(Port(1));
    events.reset = Some(from);
    Ok(from)
}

/// Remembers where to go on. The *next* port, so that a caller that is always preempted still ends.
fn suspend_reset<P>(domain: &Domain<P>, next: Port) {
    domain.event.lock().reset = Some(next);
}

/// Ends a reset. If all is closed the domain is two-level again, whoever asked for it.
fn finish_reset<P: Page>(domain: &Domain<P>) -> Result<ResetOutcome, OpError> {
    let mut events = domain.event.lock();
    events.reset = None;
    if events.ports.active() > events.ports.xen() {
        return Err(OpError::OpenedMeanwhile);
    }
    events.leaving += 1;
    let fifo = domain.fifo.replace(None);
    drop(events);
    drop(fifo); // waits for readers, without the lock
    domain.event.lock().leaving -= 1;
    Ok(ResetOutcome::Done)
}
