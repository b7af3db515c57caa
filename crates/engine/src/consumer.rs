// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels that Xen, that is the embedder, consumes itself: I/O requests, VM events, consoles.
//!
//! Such a port lies in a guest's port space, but the guest may only look at it. A peer binds to it as
//! to any other; what the peer sends comes to [`Hooks::consumer_event`] and touches no shared page.

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::enter;

use crate::action::Action;
use crate::channel::{Binding, Consumer, State};
use crate::deliver::Effect;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::ops::close::Closer;

impl<H: Hooks> Engine<H> {
    /// Opens a port in `dom`, consumed by the embedder, to which `remote` may bind. `caller` is the
    /// domain on whose behalf it is made.
    ///
    /// # Errors
    /// ESRCH, ENOENT if `dom` or its vCPU do not exist; EINVAL if it is dying; ENOSPC, ENOMEM; EPERM
    /// if `caller` may not act on it.
    pub fn alloc_consumer(
        &self,
        caller: DomId,
        dom: DomId,
        vcpu: VcpuId,
        remote: DomId,
        consumer: Consumer,
    ) -> Result<Port, OpError> {
        let port = self.open_consumer(caller, dom, vcpu, remote, consumer);
        self.acted_with(dom, port, Action::AllocConsumer)
    }

    fn open_consumer(
        &self,
        caller: DomId,
        dom: DomId,
        vcpu: VcpuId,
        remote: DomId,
        consumer: Consumer,
    ) -> Result<Port, OpError> {
        let caller = self.domain(caller)?;
        let domain = self.named(&caller, dom)?;
        domain.vcpu(vcpu)?;
        let mut events = domain.lock_with_room();
        let port = domain.allocate(&mut events)?;
        if let Err(denied) = self.hooks.policy().create_consumer(&caller.party(), &domain.party(), remote) {
            events.ports.undo_take(port);
            return Err(denied.into());
        }
        let binding = Binding { consumer: Some(consumer), ..Binding::guest(State::Unbound { remote }) };
        domain.open(port, binding, vcpu);
        events.ports.count_xen(true);
        Ok(port)
    }

    /// The embedder signals the peer of a channel that it consumes. Nothing happens if there is none.
    ///
    /// # Errors
    /// ESRCH, EINVAL if there is no such domain or port, or it is not the embedder's.
    pub fn notify_consumer(&self, dom: DomId, port: Port) -> Result<(), OpError> {
        let result = self.consumers_effect(dom, port).map(|effect| self.fire(effect));
        self.acted(dom, Action::NotifyConsumer(port), result)
    }

    fn consumers_effect(&self, dom: DomId, port: Port) -> Result<Effect, OpError> {
        let guard = enter();
        let binding = self.peek(dom, &guard)?.channel(port)?.binding();
        binding.consumer.ok_or(OpError::WrongState)?;
        Ok(self.route_effect(binding.state.route(binding.peer_is_consumed), &guard))
    }

    /// Closes a channel that the embedder consumes. A send that is under way may still call the consumer once.
    ///
    /// # Errors
    /// ESRCH, EINVAL if there is no such domain or port, or it is not the embedder's.
    pub fn free_consumer(&self, dom: DomId, port: Port) -> Result<(), OpError> {
        let result = self.domain(dom).and_then(|domain| {
            domain.channel(port)?.binding().consumer.ok_or(OpError::WrongState)?;
            self.close_port(&domain, port, Closer::Xen)
        });
        self.acted(dom, Action::FreeConsumer(port), result)
    }
}
