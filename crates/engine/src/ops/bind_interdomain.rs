// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_bind_interdomain`.

use evtchn_abi::{DomId, Op, Port, VcpuId};
use evtchn_sync::Page;

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
        let result = self.connect(caller, remote_dom, remote_port).map(|(port, effect)| {
            self.fire(effect);
            port
        });
        self.observed_port(caller, Op::BIND_INTERDOMAIN, result)
    }

    fn connect(
        &self,
        caller: DomId,
        remote_dom: DomId,
        remote_port: Port,
    ) -> Result<(Port, Effect), OpError> {
        let domains = self.domains();
        let local = domains.get(caller)?;
        let remote = domains.named(local, remote_dom)?;
        let mut locks = Pair::lock(local, remote);
        let port = local.allocate(locks.own())?;
        match accepting(remote, remote_port, local.id) {
            Ok(far) => Ok((port, join(local, port, remote.id, remote_port, far)?)),
            Err(refused) => {
                locks.own().ports.give_back(port);
                Err(refused)
            }
        }
    }
}

/// The remote record, if it waits for `caller`.
fn accepting<P>(remote: &Domain<P>, port: Port, caller: DomId) -> Result<&Channel, OpError> {
    let far = remote.channel(port)?;
    match far.state() {
        State::Unbound { remote } if remote == caller => Ok(far),
        _ => Err(OpError::NotAccepted),
    }
}

/// Makes both ends interdomain. The far end keeps its vCPU, its bits and its consumer.
fn join<P: Page>(
    local: &Domain<P>,
    port: Port,
    remote: DomId,
    remote_port: Port,
    far: &Channel,
) -> Result<Effect, OpError> {
    let near = local.channel(port)?;
    let consumer = far.binding().consumer;
    far.set(Binding { state: State::Interdomain { remote: local.id, port }, consumer });
    let state = State::Interdomain { remote, port: remote_port };
    local.open(port, Binding::guest(state), VcpuId(0));
    Ok(local.raise(port, near))
}
