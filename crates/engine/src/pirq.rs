// SPDX-License-Identifier: MIT OR Apache-2.0
//! Physical interrupts: raising them, and the guest's word that it has handled one.
//!
//! The lines are the embedder's: the engine knows which port a PIRQ has, and the hooks know the rest. A line that is
//! level-triggered goes like this:
//!
//! ```text
//! device asserts     embedder: raise_pirq       port pending, upcall
//! guest handles      guest: masks the port, clears the cause, or one of several causes
//! guest is done      guest: PHYSDEVOP_eoi       hook pirq_eoi: is the line still asserted? then the port is raised again
//! device deasserts   embedder: nothing
//! ```

use evtchn_abi::{DomId, Pirq};
use evtchn_sync::{Page, enter};

use crate::action::Action;
use crate::deliver::Effect;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

/// What `PHYSDEVOP_irq_status_query` tells of a PIRQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PirqStatus {
    /// The guest must say when it has handled the interrupt: [`Engine::pirq_eoi`].
    pub needs_eoi: bool,
    /// Other domains share the line.
    pub shared: bool,
}

impl Default for PirqStatus {
    /// Needs an EOI, and is not shared: Xen's answer for most, as an EOI too many does no harm.
    fn default() -> Self {
        Self { needs_eoi: true, shared: false }
    }
}

impl<P> Domain<P> {
    /// Is there such a PIRQ in the domain?
    ///
    /// # Errors
    /// EINVAL if not.
    fn known_pirq(&self, pirq: Pirq) -> Result<(), OpError> {
        if pirq.0 < self.config.nr_pirqs { Ok(()) } else { Err(OpError::NoPirq) }
    }
}

impl<P: Page> Domain<P> {
    /// Raises a PIRQ that is bound.
    fn raise_line(&self, pirq: Pirq) -> Option<Effect> {
        // A reader before the look: the port is not bound to something else before this is done.
        let guard = enter();
        self.pirq(pirq).map(|port| self.raise(port, &guard))
    }

    /// Unmasks the port of a PIRQ that is bound.
    fn unmask_line(&self, pirq: Pirq) -> Option<Effect> {
        let guard = enter();
        self.pirq(pirq).map(|port| self.unmask_port(port, &guard))
    }
}

impl<H: Hooks> Engine<H> {
    /// Raises a physical interrupt of a domain; whether somebody has bound it. If not, it is dropped.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn raise_pirq(&self, domain: DomId, pirq: Pirq) -> Result<bool, OpError> {
        let effect = {
            let guard = enter();
            let domain = self.peek(domain, &guard);
            domain.map(|domain| domain.pirq(pirq).map(|port| domain.raise(port, &guard)))
        };
        let bound = effect.map(|effect| self.fire_if_bound(effect));
        self.acted_with(domain, bound, |bound| Action::RaisePirq { pirq, bound })
    }

    /// `PHYSDEVOP_eoi`: the domain has handled an interrupt.
    ///
    /// First the port is unmasked, if the domain has asked for that ([`set_auto_unmask`](Engine::set_auto_unmask)). Then
    /// [`Hooks::pirq_eoi`] is told, and if it says that the line is still asserted the PIRQ is raised again.
    /// Whether the PIRQ is bound makes no difference to the answer.
    ///
    /// # Errors
    /// ESRCH if there is no such domain; EINVAL beyond its number of PIRQs.
    pub fn pirq_eoi(&self, caller: DomId, pirq: Pirq) -> Result<(), OpError> {
        self.pirq_eoi_by(&*self.domain(caller)?, pirq)
    }

    pub(crate) fn pirq_eoi_by(&self, caller: &Domain<H::Page>, pirq: Pirq) -> Result<(), OpError> {
        let result = caller.known_pirq(pirq).map(|()| self.end_interrupt(caller, pirq));
        self.acted(caller.id, Action::PirqEoi(pirq), result)
    }

    fn end_interrupt(&self, domain: &Domain<H::Page>, pirq: Pirq) {
        if domain.auto_unmask() {
            self.fire_if_bound(domain.unmask_line(pirq));
        }
        if self.hooks.pirq_eoi(domain.id, pirq) {
            self.fire_if_bound(domain.raise_line(pirq));
        }
    }

    /// `PHYSDEVOP_irq_status_query`: what the domain has to know of an interrupt, as [`Hooks::pirq_status`] says.
    ///
    /// # Errors
    /// ESRCH if there is no such domain; EINVAL beyond its number of PIRQs.
    pub fn pirq_status(&self, caller: DomId, pirq: Pirq) -> Result<PirqStatus, OpError> {
        self.pirq_status_by(&*self.domain(caller)?, pirq)
    }

    pub(crate) fn pirq_status_by(&self, caller: &Domain<H::Page>, pirq: Pirq) -> Result<PirqStatus, OpError> {
        let status = caller.known_pirq(pirq).map(|()| self.hooks.pirq_status(caller.id, pirq));
        self.acted(caller.id, Action::PirqStatus(pirq), status)
    }

    /// Is the port of a PIRQ masked? True if it is not bound. For embedders that mask the line itself rather than
    /// raise what the guest does not want to hear.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn pirq_is_masked(&self, domain: DomId, pirq: Pirq) -> Result<bool, OpError> {
        let guard = enter();
        let domain = self.peek(domain, &guard)?;
        Ok(domain.pirq(pirq).is_none_or(|port| domain.is_masked(port, &guard)))
    }

    /// Chooses whether an EOI also unmasks the PIRQ's port. A domain asks for it by `PHYSDEVOP_pirq_eoi_gmfn_v1`,
    /// which is the embedder's, as it concerns a page with a bit for each of its lines.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn set_auto_unmask(&self, domain: DomId, on: bool) -> Result<(), OpError> {
        let result = self.peek(domain, &enter()).map(|domain| domain.set_auto_unmask(on));
        self.acted(domain, Action::SetAutoUnmask(on), result)
    }
}
