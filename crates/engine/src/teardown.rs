// SPDX-License-Identifier: MIT OR Apache-2.0
//! The death of a domain, which may take many ports, and so may give way.
//!
//! A domain that is being torn down exists until all is done: its remaining ports work, for its peers too, but it gets
//! no new ones. Ports are closed from the highest down, as a peer's reset closes them; whoever signals one meanwhile is a
//! reader, and finds the port, a closed port, or no domain.

use evtchn_abi::{DomId, Port};

use crate::action::Action;
use crate::domain::{Domain, Events};
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::ops::close::Closer;
use crate::ops::vcpu_info::drop_areas;
use crate::table::BUCKET;

/// How far a domain's destruction has come.
#[derive(Debug)]
#[must_use]
pub enum TeardownOutcome<P> {
    /// The domain is gone. Its shared_info page, if it had one.
    Done(Option<P>),
    /// It gave way, as [`Hooks::preempt`] asked: call [`Engine::tear_down`] again.
    Again,
}

impl<H: Hooks> Engine<H> {
    /// Destroys a domain: closes its ports from the highest down, those that Xen consumes included.
    ///
    /// Peers are left unbound, naming the dead id, and get no event. Global VIRQs that the domain handled go
    /// back to the default handler. While this runs the domain exists but gets no new ports (EINVAL).
    /// Returns the shared_info page; those of the FIFO ABI and registered vcpu_infos are dropped. When this
    /// returns no thread uses any of them. No deadline is wanted any more.
    ///
    /// Does not give way: see [`tear_down`](Engine::tear_down). A destruction that gave way is brought to its end.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, or another thread is destroying it.
    pub fn destroy_domain(&self, id: DomId) -> Result<Option<H::Page>, OpError> {
        let outcome = self.run_teardown(id, || false);
        outcome.map(|outcome| match outcome {
            TeardownOutcome::Done(page) => page,
            TeardownOutcome::Again => None, // it was not asked to give way
        })
    }

    /// As [`destroy_domain`](Engine::destroy_domain), but asks [`Hooks::preempt`] after every 64 ports, with the id of the
    /// dying domain, whether it should give way. Then it is to be called again.
    ///
    /// Each call closes 64 ports at least, or all, so a caller that is always preempted comes to an end too.
    ///
    /// ```
    /// # use evtchn_engine::{Engine, DomainConfig, TeardownOutcome, test_utils::Recorder};
    /// # use evtchn_abi::DomId;
    /// # let engine = Engine::new(Recorder::default());
    /// # let id = DomId(1);
    /// # engine.create_domain(id, DomainConfig::guest(1))?;
    /// let page = loop {
    ///     match engine.tear_down(id)? {
    ///         TeardownOutcome::Done(page) => break page,
    ///         TeardownOutcome::Again => { /* do what is more urgent */ }
    ///     }
    /// };
    /// # assert!(page.is_none());
    /// # Ok::<(), evtchn_engine::OpError>(())
    /// ```
    ///
    /// # Errors
    /// ESRCH if there is no such domain, or another thread is destroying it at the moment.
    pub fn tear_down(&self, id: DomId) -> Result<TeardownOutcome<H::Page>, OpError> {
        self.run_teardown(id, || self.hooks.preempt(id))
    }

    fn run_teardown(
        &self,
        id: DomId,
        give_way: impl Fn() -> bool,
    ) -> Result<TeardownOutcome<H::Page>, OpError> {
        let result = self.domain(id).and_then(|domain| {
            let from = start(&domain)?;
            if let Some(next) = self.close_below(&domain, from, give_way) {
                domain.event.lock().teardown = Some(next);
                return Ok(TeardownOutcome::Again);
            }
            Ok(TeardownOutcome::Done(self.finish(&domain)))
        });
        let done = matches!(result, Ok(TeardownOutcome::Done(_)));
        self.acted(id, Action::DestroyDomain { done }, result)
    }

    /// Closes the open ports up to `from`. If it was to give way, where to go on.
    fn close_below(
        &self,
        domain: &Domain<H::Page>,
        mut from: Port,
        give_way: impl Fn() -> bool,
    ) -> Option<Port> {
        let mut closed = 0;
        while let Some(port) = self.close_one_below(domain, from) {
            from = Port(port.0 - 1);
            closed += 1;
            if closed % BUCKET == 0 && give_way() {
                return Some(from);
            }
        }
        None
    }

    /// Closes the highest open port up to `from`, and returns it; `None` at port 0.
    fn close_one_below(&self, domain: &Domain<H::Page>, from: Port) -> Option<Port> {
        let highest = domain.event.lock().ports.previous_taken(from);
        let port = highest.filter(|&port| port != Port(0))?;
        // A port that its peer re-binds at this moment is refused once; it cannot be twice, as no
        // new ports are made. It must be closed, so try again.
        while domain.channel(port).is_ok_and(|channel| channel.state().in_use()) {
            let _ = self.close_port(domain, port, Closer::Xen);
        }
        Some(port)
    }

    /// Takes a domain without ports out of the table, and its pages away from it.
    fn finish(&self, domain: &Domain<H::Page>) -> Option<H::Page> {
        self.end_timers(domain);
        domain.set_gone();
        self.unregister(domain.id);
        drop_areas(domain);
        drop(domain.fifo.replace(None));
        domain.shared_info.replace(None).wait().map(|page| *page)
    }

    /// Takes a domain out of the table and its offices.
    fn unregister(&self, id: DomId) {
        let retired = {
            let _registry = self.registry.lock();
            self.handlers.forget(id);
            self.domains.entry(id).map(|entry| entry.replace(None))
        };
        drop(retired); // waits for readers, without the lock
    }
}

/// From now on the domain gets no new ports. Where to begin, or to go on.
fn start<P>(domain: &Domain<P>) -> Result<Port, OpError> {
    let mut events = domain.event.lock();
    let Events { dying, teardown, .. } = &mut *events;
    match (core::mem::replace(dying, true), teardown.take()) {
        (false, _) => Ok(Port(u32::MAX)),
        (true, Some(next)) => Ok(next),
        (true, None) => Err(OpError::NoDomain),
    }
}
