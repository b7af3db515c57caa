// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_close`, and closing on behalf of reset, destruction and the embedder.

use evtchn_abi::{DomId, Op, Port, Virq};

use crate::channel::{Binding, Channel, State};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::locks::Pair;

/// On whose behalf a port is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closer {
    /// The owning guest, which may not close what Xen consumes.
    Guest,
    /// Xen.
    Xen,
}

/// Whether a port could be closed with the locks that were taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// Yes.
    Yes,
    /// No: its peer is in this domain, which is not locked.
    OtherPeer(DomId),
}

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_close`: closes a port.
    ///
    /// A peer becomes unbound again, naming the caller, and is not told; it keeps its bits and its
    /// vCPU. The port's pending bit is cleared, its mask bit is left as it is, and an upcall that it
    /// has caused is not taken back.
    ///
    /// # Errors
    /// EINVAL if there is no such port, it belongs to Xen, or it is closed already.
    pub fn close(&self, caller: DomId, port: Port) -> Result<(), OpError> {
        self.close_by(&*self.domain(caller)?, port)
    }

    pub(crate) fn close_by(&self, caller: &Domain<H::Page>, port: Port) -> Result<(), OpError> {
        let result = self.close_port(caller, port, Closer::Guest);
        self.observed(caller.id, Op::CLOSE, port, result)
    }

    /// Closes a port.
    ///
    /// Which domains must be locked is read before they are. If a waiting port gets its peer just
    /// then, the locks are taken again for both. A port that has got *another* peer was closed and
    /// bound anew in between, and is refused with EINVAL, as Xen does.
    pub(crate) fn close_port(
        &self,
        domain: &Domain<H::Page>,
        port: Port,
        closer: Closer,
    ) -> Result<(), OpError> {
        let seen = peer(domain.channel(port)?);
        let locked = self.named(domain, seen.unwrap_or(DomId::SELF)).map_err(|_| OpError::WrongState)?;
        let connected = match self.close_with(domain, &locked, port, closer)? {
            Closed::Yes => return Ok(()),
            Closed::OtherPeer(_) if seen.is_some() => return Err(OpError::WrongState),
            Closed::OtherPeer(remote) => self.named(domain, remote).map_err(|_| OpError::WrongState)?,
        };
        // From now on the port is connected to that peer or waits for it, whatever the peer does.
        match self.close_with(domain, &connected, port, closer)? {
            Closed::Yes => Ok(()),
            Closed::OtherPeer(_) => Err(OpError::WrongState),
        }
    }

    /// Closes a port with its domain and its presumed peer locked.
    fn close_with(
        &self,
        domain: &Domain<H::Page>,
        locked: &Domain<H::Page>,
        port: Port,
        closer: Closer,
    ) -> Result<Closed, OpError> {
        let channel = domain.channel(port)?;
        let mut locks = Pair::lock(domain, locked);
        let binding = channel.binding();
        if binding.consumer.is_some() && closer == Closer::Guest {
            return Err(OpError::XenOwned);
        }
        if !binding.state.in_use() {
            return Err(OpError::WrongState);
        }
        if let Some(remote) = peer(channel).filter(|&remote| remote != locked.id) {
            return Ok(Closed::OtherPeer(remote));
        }
        self.unload(domain, port, channel);
        self.undo(domain, locked, channel)?;
        domain.free(locks.own(), port, channel);
        Ok(Closed::Yes)
    }

    /// Takes apart what a port is bound to.
    fn undo(
        &self,
        domain: &Domain<H::Page>,
        peer: &Domain<H::Page>,
        channel: &Channel,
    ) -> Result<(), OpError> {
        match channel.state() {
            State::Interdomain { port, .. } => {
                let far = peer.channel(port)?;
                self.unload(peer, port, far);
                release(far, domain.id);
            }
            State::Virq(virq) => self.forget_virq(domain, virq, channel),
            State::Pirq(pirq) => {
                domain.set_pirq(pirq, Port(0), false);
                self.hooks.pirq_unbind(domain.id, pirq);
            }
            State::Free | State::Reserved | State::Unbound { .. } | State::Ipi => {}
        }
        Ok(())
    }

    fn forget_virq(&self, domain: &Domain<H::Page>, virq: Virq, channel: &Channel) {
        if let Some(table) = self.virq_table(domain, virq, channel.vcpu()) {
            table.set_virq(virq, Port(0));
        }
    }
}

/// The domain at the other end.
fn peer(channel: &Channel) -> Option<DomId> {
    match channel.state() {
        State::Interdomain { remote, .. } => Some(remote),
        _ => None,
    }
}

/// Returns the far end of a channel to unbound, for the domain that closes its own end.
fn release(far: &Channel, closer: DomId) {
    let consumer = far.binding().consumer;
    far.set(Binding { consumer, ..Binding::guest(State::Unbound { remote: closer }) });
}
