// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_send`: the one operation that must be fast.
//!
//! It takes no lock and allocates nothing: its thread becomes a reader, reads the sender's binding, and raises
//! the port that it names. A port that was closed meanwhile is not handed out again before the reader is gone.

use evtchn_abi::{DomId, Op, Port};
use evtchn_sync::{Guard, enter};

use crate::channel::Route;
use crate::deliver::Effect;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_send`: signals the other end of `port`.
    ///
    /// An event that is pending already is merged with this one, and one that is sent to nobody
    /// (the port is unbound) is dropped: both succeed.
    ///
    /// # Errors
    /// EINVAL if there is no such port, it is not interdomain, unbound or IPI, or it belongs to Xen.
    #[inline]
    pub fn send(&self, caller: DomId, port: Port) -> Result<(), OpError> {
        let effect = {
            let guard = enter();
            self.peek(caller, &guard).and_then(|caller| self.send_effect(caller, port, &guard))
        };
        self.sent(caller, port, effect)
    }

    pub(crate) fn send_by(&self, caller: &Domain<H::Page>, port: Port) -> Result<(), OpError> {
        let effect = self.send_effect(caller, port, &enter());
        self.sent(caller.id, port, effect)
    }

    /// Does what the reader that has sent could not do.
    #[inline]
    pub(crate) fn sent(
        &self,
        caller: DomId,
        port: Port,
        effect: Result<Effect, OpError>,
    ) -> Result<(), OpError> {
        let result = effect.map(|effect| self.fire(effect));
        self.observed(caller, Op::SEND, port, result)
    }

    #[inline]
    pub(crate) fn send_effect(
        &self,
        sender: &Domain<H::Page>,
        port: Port,
        guard: &Guard<'_>,
    ) -> Result<Effect, OpError> {
        let channel = sender.channel(port)?;
        match channel.route()? {
            Route::Peer(remote, port) => Ok(self.peer_effect(remote, port, guard)),
            Route::Itself => Ok(sender.raise(port, guard)),
            Route::Nobody => Ok(Effect::None),
            Route::Consumer(remote, port) => Ok(self.consumer_effect(remote, port, guard)),
        }
    }

    /// Raises the far end of a channel. A domain that was destroyed since the binding was read gets no event, as a port
    /// that was closed.
    #[inline]
    fn peer_effect(&self, remote: DomId, port: Port, guard: &Guard<'_>) -> Effect {
        self.peek(remote, guard).map_or(Effect::None, |peer| peer.raise(port, guard))
    }

    /// Calls the consumer at the far end of a channel.
    fn consumer_effect(&self, remote: DomId, port: Port, guard: &Guard<'_>) -> Effect {
        let far = self.peek(remote, guard).and_then(|domain| domain.channel(port));
        let consumer = far.ok().and_then(|far| Some((far.binding().consumer?, far.vcpu())));
        consumer.map_or(Effect::None, |(consumer, vcpu)| Effect::Consumer(consumer, remote, vcpu, port))
    }

    /// Signals the far end of a channel on behalf of the consumer at the near end.
    pub(crate) fn route_effect(&self, route: Option<Route>, guard: &Guard<'_>) -> Effect {
        match route {
            Some(Route::Peer(remote, port)) => self.peer_effect(remote, port, guard),
            Some(Route::Consumer(remote, port)) => self.consumer_effect(remote, port, guard),
            Some(Route::Itself | Route::Nobody) | None => Effect::None,
        }
    }
}
