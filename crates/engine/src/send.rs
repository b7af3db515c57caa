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
use crate::hooks::{Hooks, Observed};

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_send`: signals the other end of `port`.
    ///
    /// An event that is pending already is merged with this one, and one that is sent to nobody
    /// (the port is unbound) is dropped: both succeed.
    ///
    /// # Errors
    /// EINVAL if there is no such port, it is not interdomain, unbound or IPI, or it belongs to Xen; what
    /// [`Policy::send`](crate::Policy::send) answers.
    #[inline]
    pub fn send(&self, caller: DomId, port: Port) -> Result<(), OpError> {
        let effect = {
            let guard = enter();
            self.peek(caller, &guard).and_then(|caller| self.send_as(caller, port, &guard))
        };
        self.sent(caller, port, effect)
    }

    /// Sends, as a reader.
    #[inline]
    pub(crate) fn send_as(
        &self,
        caller: &Domain<H::Page>,
        port: Port,
        guard: &Guard<'_>,
    ) -> Result<Effect, OpError> {
        match self.receiver(caller, port, guard) {
            Some((receiver, port)) => Ok(receiver.raise(port, guard)),
            None => self.send_rarely(caller, port, guard),
        }
    }

    /// The other guest's port that a send raises. None for the sends that are rare.
    #[inline]
    fn receiver<'g>(
        &'g self,
        caller: &Domain<H::Page>,
        port: Port,
        guard: &'g Guard<'_>,
    ) -> Option<(&'g Domain<H::Page>, Port)> {
        let (remote, port) = caller.channels.peer(port)?;
        let receiver = self.peek(remote, guard).ok()?;
        self.hooks.policy().send(&caller.party(), &receiver.party()).ok()?;
        Some((receiver, port))
    }

    /// The port that a send finds raised already, so that it is done. Most are: this is small.
    #[inline]
    pub(crate) fn merged(
        &self,
        caller: &Domain<H::Page>,
        port: Port,
        guard: &Guard<'_>,
    ) -> Option<(DomId, Port)> {
        let (receiver, port) = self.receiver(caller, port, guard)?;
        receiver.is_raised(port, guard).then_some((receiver.id, port))
    }

    /// Sends what was not merged, as the reader that holds the guard.
    #[inline(never)]
    pub(crate) fn send_edge(
        &self,
        caller: &Domain<H::Page>,
        port: Port,
        guard: Guard<'_>,
    ) -> Result<(), OpError> {
        let effect = match self.receiver(caller, port, &guard) {
            Some((receiver, far)) => {
                let edge = receiver.raise_edge(far, &guard);
                if edge.is_quiet() {
                    let far = (receiver.id, far);
                    drop(guard);
                    return self.sent_quietly((caller.id, port), far, edge.fresh());
                }
                Ok(receiver.loud_effect(far, edge))
            }
            None => self.send_rarely(caller, port, &guard),
        };
        drop(guard);
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

    /// As `sent`, for a send of which nobody is told but the observer.
    #[inline]
    pub(crate) fn sent_quietly(
        &self,
        (caller, port): (DomId, Port),
        (domain, far): (DomId, Port),
        fresh: bool,
    ) -> Result<(), OpError> {
        self.hooks.observe(Observed::Raised { domain, port: far, fresh, upcall: None });
        self.observed(caller, Op::SEND, port, Ok(()))
    }

    /// Sends from a port whose other end is not a guest's, or is not there.
    #[cold]
    #[inline(never)]
    pub(crate) fn send_rarely(
        &self,
        sender: &Domain<H::Page>,
        port: Port,
        guard: &Guard<'_>,
    ) -> Result<Effect, OpError> {
        let channel = sender.channel(port)?;
        match channel.route()? {
            Route::Peer(remote, port) => {
                // It may have died since: then the port is unbound by now.
                let Ok(remote) = self.peek(remote, guard) else { return Ok(Effect::None) };
                self.hooks.policy().send(&sender.party(), &remote.party())?;
                Ok(remote.raise(port, guard))
            }
            Route::Itself => Ok(sender.raise(port, guard)),
            Route::Nobody => Ok(Effect::None),
            Route::Consumer(remote, port) => {
                let Ok(domain) = self.peek(remote, guard) else { return Ok(Effect::None) };
                self.hooks.policy().send(&sender.party(), &domain.party())?;
                Ok(consumer_effect(domain, port))
            }
        }
    }

    /// Signals the far end of a channel on behalf of the consumer at the near end.
    pub(crate) fn route_effect(&self, route: Option<Route>, guard: &Guard<'_>) -> Effect {
        let effect = match route {
            Some(Route::Peer(remote, port)) => self.peek(remote, guard).map(|far| far.raise(port, guard)),
            Some(Route::Consumer(remote, port)) => {
                self.peek(remote, guard).map(|far| consumer_effect(far, port))
            }
            Some(Route::Itself | Route::Nobody) | None => Ok(Effect::None),
        };
        effect.unwrap_or(Effect::None)
    }
}

/// Calls the consumer at the far end of a channel.
fn consumer_effect<P>(far: &Domain<P>, port: Port) -> Effect {
    let channel = far.channel(port).ok();
    let consumer = channel.and_then(|channel| Some((channel.binding().consumer?, channel.vcpu())));
    consumer.map_or(Effect::None, |(consumer, vcpu)| Effect::Consumer(consumer, far.id, vcpu, port))
}
