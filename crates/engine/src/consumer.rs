// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels that Xen, that is the embedder, consumes itself: I/O requests, VM events, consoles.
//!
//! Such a port lies in a guest's port space, but the guest may only look at it. A peer binds to it as
//! to any other; what the peer sends comes to [`Hooks::consumer_event`] and touches no shared page.

use evtchn_abi::{DomId, Port, VcpuId};

use crate::channel::{Binding, Consumer, State};
use crate::deliver::Effect;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::ops::close::Closer;
use crate::send::signal;

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
        let domains = self.domains();
        let caller = domains.get(caller)?;
        let domain = domains.named(caller, dom)?;
        domain.vcpu(vcpu)?;
        let mut events = domain.event.write();
        let port = domain.allocate(&mut events)?;
        if !caller.may_act_on(domain) {
            events.ports.give_back(port);
            return Err(OpError::NotPermitted);
        }
        let binding = Binding { state: State::Unbound { remote }, consumer: Some(consumer) };
        domain.open(port, binding, vcpu);
        events.ports.count_xen(true);
        Ok(port)
    }

    /// The embedder signals the peer of a channel that it consumes. Nothing happens if there is none.
    ///
    /// # Errors
    /// ESRCH, EINVAL if there is no such domain or port, or it is not the embedder's.
    pub fn notify_consumer(&self, dom: DomId, port: Port) -> Result<(), OpError> {
        let effect = {
            let domains = self.domains();
            let domain = domains.get(dom)?;
            let _keeps_the_binding = domain.event.read();
            let binding = domain.channel(port)?.binding();
            binding.consumer.ok_or(OpError::WrongState)?;
            match binding.state {
                State::Interdomain { remote, port } => signal(&domains, remote, port)?,
                _ => Effect::None,
            }
        };
        self.fire(effect);
        Ok(())
    }

    /// Closes a channel that the embedder consumes.
    ///
    /// # Errors
    /// ESRCH, EINVAL if there is no such domain or port, or it is not the embedder's.
    pub fn free_consumer(&self, dom: DomId, port: Port) -> Result<(), OpError> {
        let domains = self.domains();
        let domain = domains.get(dom)?;
        domain.channel(port)?.binding().consumer.ok_or(OpError::WrongState)?;
        self.close_port(&domains, domain, port, Closer::Xen)
    }
}
