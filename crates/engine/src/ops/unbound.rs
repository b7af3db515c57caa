// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_alloc_unbound`.

use evtchn_abi::{DomId, Op, Port, VcpuId};

use crate::channel::{Binding, State};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_alloc_unbound`: opens a port in `dom` to which `remote` may bind.
    ///
    /// `remote` is not looked up: it may be dead, unborn, or `dom` itself. `DomId::SELF` as `remote`
    /// means the caller, also when `dom` is another domain.
    ///
    /// # Errors
    /// ESRCH if `dom` does not exist; EINVAL if it is dying; ENOSPC, ENOMEM; and only then EPERM if
    /// the caller may not act on it.
    pub fn alloc_unbound(&self, caller: DomId, dom: DomId, remote: DomId) -> Result<Port, OpError> {
        self.alloc_unbound_by(&*self.domain(caller)?, dom, remote)
    }

    pub(crate) fn alloc_unbound_by(
        &self,
        caller: &Domain<H::Page>,
        dom: DomId,
        remote: DomId,
    ) -> Result<Port, OpError> {
        let result = self.alloc_unbound_inner(caller, dom, remote);
        self.observed_port(caller.id, Op::ALLOC_UNBOUND, result)
    }

    fn alloc_unbound_inner(
        &self,
        caller: &Domain<H::Page>,
        dom: DomId,
        remote: DomId,
    ) -> Result<Port, OpError> {
        let domain = self.named(caller, dom)?;
        let mut events = domain.lock_with_room();
        let port = domain.allocate(&mut events)?;
        let remote = if remote == DomId::SELF { caller.id } else { remote };
        if let Err(denied) = self.hooks.policy().create(&caller.party(), &domain.party(), remote) {
            events.ports.undo_take(port);
            return Err(denied.into());
        }
        domain.open(port, Binding::guest(State::Unbound { remote }), VcpuId(0));
        Ok(port)
    }
}
