// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a toolstack learns that a domain has suspended.

use evtchn_abi::{DomId, Port, Virq};
use evtchn_sync::enter;

use crate::action::Action;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `XEN_DOMCTL_subscribe`: names the port of `domain` on which a send tells that the domain has suspended; port 0 for
    /// none.
    ///
    /// It is the domain's own end of a channel to the toolstack. It is not looked at before
    /// [`suspended`](Engine::suspended), and survives closes and resets, as in Xen.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn set_suspend_port(&self, domain: DomId, port: Port) -> Result<(), OpError> {
        let result = self.peek(domain, &enter()).map(|domain| domain.set_suspend_port(port));
        self.acted(domain, Action::SetSuspendPort(port), result)
    }

    /// The domain has suspended, and its vCPUs are stopped: sends on its suspend port, as the domain; if it has none,
    /// raises `VIRQ_DOM_EXC`.
    ///
    /// A port that cannot be sent on any more tells nobody, as in Xen.
    ///
    /// ```
    /// # use evtchn_engine::{Engine, DomainConfig, test_utils::Recorder};
    /// # use evtchn_abi::{DomId, Port};
    /// # let engine = Engine::new(Recorder::default());
    /// # let (toolstack, guest) = (DomId(0), DomId(1));
    /// # engine.create_domain(toolstack, DomainConfig::dom0(1))?;
    /// # engine.create_domain(guest, DomainConfig::guest(1))?;
    /// let port = engine.alloc_unbound(toolstack, guest, DomId::SELF)?;
    /// let local = engine.bind_interdomain(toolstack, guest, port)?;
    /// engine.set_suspend_port(guest, port)?;
    /// // ... the guest says that it wants to suspend, by `SCHEDOP_shutdown` ...
    /// engine.suspended(guest)?; // raises `local`
    /// # Ok::<(), evtchn_engine::OpError>(())
    /// ```
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn suspended(&self, domain: DomId) -> Result<(), OpError> {
        let result = self.peek(domain, &enter()).map(|domain| domain.suspend_port());
        let port = self.acted(domain, Action::Suspended, result)?;
        // Whom it reaches does not matter to the domain.
        let _ = match port {
            Some(port) => self.send(domain, port),
            None => self.raise_global_virq(Virq::DOM_EXC).map(drop),
        };
        Ok(())
    }
}
