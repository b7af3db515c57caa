// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels that the embedder may carry out itself, such as KVM in the kernel.
//!
//! A route leads to a port, and each port has at most one: from its peer, or from itself for an IPI. So whether it is
//! loaded is kept in the record of the port that it leads *to*, and changes under the event lock of that port's domain:
//!
//! * It is offered when all of the change that makes it is done.
//! * It is unloaded before anything changes that it is made of. A port that is closed is taken off both its
//!   routes first, and its number is free only later.
//!
//! The hooks are called under that lock, or those of both domains, so what is loaded and what is bound never differ for
//! those who look under it. Sends take no lock, so a hook that takes its time delays only those who open, close and move.

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::enter;

use crate::channel::{Channel, State};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::hooks::Hooks;

/// Where a send leads: what an embedder needs to carry it out itself.
///
/// For an IPI sender and receiver are one port. The receiver uses the two-level ABI, and its bits are in its
/// shared_info.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OffloadRoute {
    /// The domain that sends.
    pub sender: DomId,
    /// The port that it names.
    pub sender_port: Port,
    /// The domain that is signalled.
    pub receiver: DomId,
    /// The port that becomes pending.
    pub receiver_port: Port,
    /// The vCPU that is told.
    pub vcpu: VcpuId,
}

impl OffloadRoute {
    /// Is it an IPI, not an interdomain channel?
    #[must_use]
    pub fn is_ipi(&self) -> bool {
        self.sender == self.receiver && self.sender_port == self.receiver_port
    }
}

impl<H: Hooks> Engine<H> {
    /// Offers the route that leads to a port, if one does that others can carry out. The port's domain is locked.
    pub(crate) fn load(&self, domain: &Domain<H::Page>, port: Port, channel: &Channel) {
        let fits = !domain.fifo.is_some() && !domain.is_sink();
        let route = route_to(domain, port, channel).filter(|route| fits && !self.is_sink(route.sender));
        if route.is_some_and(|route| self.hooks.offload(&route)) {
            channel.set_loaded(true);
        }
    }

    /// Takes back the route that leads to a port, before it changes. The port's domain is locked.
    pub(crate) fn unload(&self, domain: &Domain<H::Page>, port: Port, channel: &Channel) {
        if channel.is_loaded()
            && let Some(route) = route_to(domain, port, channel)
        {
            self.hooks.unload(&route);
            channel.set_loaded(false);
        }
    }

    /// Takes back all routes that lead to ports of a domain, which is locked.
    pub(crate) fn unload_all(&self, domain: &Domain<H::Page>) {
        for port in (1..domain.channels.valid()).map(Port) {
            domain.channels.get(port).inspect(|channel| self.unload(domain, port, channel));
        }
    }

    fn is_sink(&self, id: DomId) -> bool {
        self.peek(id, &enter()).is_ok_and(Domain::is_sink)
    }
}

/// The route that leads to a port; none to or from those that Xen consumes.
fn route_to<P>(domain: &Domain<P>, port: Port, channel: &Channel) -> Option<OffloadRoute> {
    let binding = channel.binding();
    let (sender, sender_port) = match binding.state {
        State::Ipi => (domain.id, port),
        State::Interdomain { remote, port } => (remote, port),
        _ => return None,
    };
    let between_guests = binding.consumer.is_none() && !binding.peer_is_consumed;
    between_guests.then(|| OffloadRoute {
        sender,
        sender_port,
        receiver: domain.id,
        receiver_port: port,
        vcpu: channel.vcpu(),
    })
}
