// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_send`: the one operation that must be fast.
//!
//! What is locked today: the domain table and the sender's event lock, both for reading, and the
//! receiver's page lock for reading. Nothing is allocated. Holding the sender's event lock keeps the
//! receiver's channel as it is, because changing an interdomain channel takes both domains' locks.

use evtchn_abi::{DomId, Op, Port};

use crate::channel::State;
use crate::deliver::Effect;
use crate::domain::Domain;
use crate::engine::{Domains, Engine};
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
        let effect = self.send_effect(caller, port);
        let result = effect.map(|effect| self.fire(effect));
        self.observed(caller, Op::SEND, port, result)
    }

    #[inline]
    fn send_effect(&self, caller: DomId, port: Port) -> Result<Effect, OpError> {
        let domains = self.domains();
        let sender = domains.get(caller)?;
        let _keeps_the_binding = sender.event.read();
        let channel = sender.channel(port)?;
        let binding = channel.binding();
        if binding.consumer.is_some() {
            return Err(OpError::XenOwned);
        }
        match binding.state {
            State::Interdomain { remote, port } => signal(&domains, remote, port),
            State::Ipi => Ok(sender.raise(port, channel)),
            State::Unbound { .. } => Ok(Effect::None),
            State::Free | State::Reserved | State::Virq(_) | State::Pirq(_) => Err(OpError::WrongState),
        }
    }
}

/// Raises the far end of an interdomain channel, whose near end's domain is locked.
#[inline]
pub(crate) fn signal<P: evtchn_sync::Page>(
    domains: &Domains<P>,
    remote: DomId,
    port: Port,
) -> Result<Effect, OpError> {
    let receiver: &Domain<P> = domains.get(remote)?;
    let channel = receiver.channel(port)?;
    Ok(match channel.binding().consumer {
        Some(consumer) => Effect::Consumer(consumer, remote, channel.vcpu(), port),
        None => receiver.raise(port, channel),
    })
}
