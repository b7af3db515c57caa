// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_bind_interdomain`.

use evtchn_abi::{DomId, Op, Port, VcpuId};
use evtchn_sync::enter;

use crate::channel::{Binding, Channel, State};
use crate::deliver::Effect;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::locks::Pair;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_bind_interdomain`: opens a port of the caller and connects it to `remote_port` of
    /// `remote_dom`, which must be waiting for the caller.
    ///
    /// The new port is raised, because what the peer sent before this was dropped; the peer's is not.
    ///
    /// # Errors
    /// ESRCH if the peer's domain does not exist; EINVAL if the caller is dying; ENOSPC, ENOMEM;
    /// EINVAL if the peer's port does not exist or does not wait for the caller; what
    /// [`Policy::bind`](crate::Policy::bind) answers.
    pub fn bind_interdomain(
        &self,
        caller: DomId,
        remote_dom: DomId,
        remote_port: Port,
    ) -> Result<Port, OpError> {
        self.bind_interdomain_by(&*self.domain(caller)?, remote_dom, remote_port)
    }

    pub(crate) fn bind_interdomain_by(
        &self,
        caller: &Domain<H::Page>,
        remote_dom: DomId,
        remote_port: Port,
    ) -> Result<Port, OpError> {
        let result = self
            .named(caller, remote_dom)
            .and_then(|remote| caller.with_room(|| self.connect(caller, &remote, remote_port)));
        let result = result.map(|(port, effect)| {
            self.fire(effect);
            port
        });
        self.observed_port(caller.id, Op::BIND_INTERDOMAIN, result)
    }

    fn connect(
        &self,
        local: &Domain<H::Page>,
        remote: &Domain<H::Page>,
        remote_port: Port,
    ) -> Result<(Port, Effect), OpError> {
        let mut locks = Pair::lock(local, remote);
        let port = local.allocate(locks.own())?;
        let permitted = accepting(remote, remote_port, local.id).and_then(|far| {
            self.hooks.policy().bind(&local.party(), &remote.party())?;
            Ok(far)
        });
        match permitted {
            Ok(far) => Ok((port, self.join(local, port, remote, remote_port, far))),
            Err(refused) => {
                locks.own().ports.undo_take(port);
                Err(refused)
            }
        }
    }

    /// Connects a taken port of `local` with a port of `remote` that waits, both locked, and raises it. The near end is
    /// made interdomain first: who sends from the far end finds an open port. The far end keeps its vCPU, its bits and
    /// its consumer.
    pub(crate) fn join(
        &self,
        local: &Domain<H::Page>,
        port: Port,
        remote: &Domain<H::Page>,
        remote_port: Port,
        far: &Channel,
    ) -> Effect {
        let consumer = far.binding().consumer;
        let state = State::Interdomain { remote: remote.id, port: remote_port };
        let near = Binding { peer_is_consumed: consumer.is_some(), ..Binding::guest(state) };
        local.open(port, near, VcpuId(0));
        far.set(Binding { consumer, ..Binding::guest(State::Interdomain { remote: local.id, port }) });
        self.load(remote, remote_port, far);
        if let Some(near) = local.channels.get(port) {
            self.load(local, port, near);
        }
        local.raise(port, &enter())
    }
}

/// The remote record, if it waits for `caller`.
pub(crate) fn accepting<P>(remote: &Domain<P>, port: Port, caller: DomId) -> Result<&Channel, OpError> {
    let far = remote.channel(port)?;
    match far.state() {
        State::Unbound { remote } if remote == caller => Ok(far),
        _ => Err(OpError::NotAccepted),
    }
}
