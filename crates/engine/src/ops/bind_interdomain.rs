// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_bind_interdomain`.

use evtchn_abi::{DomId, Op, Port, VcpuId};
use evtchn_sync::{Page, enter};

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
    /// EINVAL if the peer's port does not exist or does not wait for the caller.
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
        let result = self.named(caller, remote_dom).and_then(|remote| connect(caller, &remote, remote_port));
        let result = result.map(|(port, effect)| {
            self.fire(effect);
            port
        });
        self.observed_port(caller.id, Op::BIND_INTERDOMAIN, result)
    }
}

fn connect<P: Page>(
    local: &Domain<P>,
    remote: &Domain<P>,
    remote_port: Port,
) -> Result<(Port, Effect), OpError> {
    let mut locks = Pair::lock(local, remote);
    let port = local.allocate(locks.own())?;
    match accepting(remote, remote_port, local.id) {
        Ok(far) => {
            join(local, port, remote.id, remote_port, far);
            Ok((port, local.raise(port, &enter())))
        }
        Err(refused) => {
            locks.own().ports.undo_take(port);
            Err(refused)
        }
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

/// Makes both ends interdomain, the near one first: who sends from the far end finds an open port. The far end
/// keeps its vCPU, its bits and its consumer.
fn join<P: Page>(local: &Domain<P>, port: Port, remote: DomId, remote_port: Port, far: &Channel) {
    let consumer = far.binding().consumer;
    let state = State::Interdomain { remote, port: remote_port };
    let near = Binding { peer_is_consumed: consumer.is_some(), ..Binding::guest(state) };
    local.open(port, near, VcpuId(0));
    far.set(Binding { consumer, ..Binding::guest(State::Interdomain { remote: local.id, port }) });
}
