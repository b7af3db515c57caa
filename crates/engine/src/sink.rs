// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sinks: domains without pages, whose events go to the embedder one by one.
//!
//! A sink has no pending bits, so nothing merges and nothing is masked: each raise is one call of
//! [`Hooks::sink_event`]. What a raise finds without a page comes here, off the path of sends
//! to domains that have one.

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::Page;
use evtchn_sync::atomic::Ordering::SeqCst;

use crate::channel::Channel;
use crate::config::Delivery;
use crate::deliver::{Edge, Effect};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::hooks::{Hooks, Observed};

/// An event for a sink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sunk {
    domain: DomId,
    port: Port,
    /// The vCPU that the port notifies.
    vcpu: VcpuId,
    /// Some vCPU polls, perhaps for this port.
    pollers: bool,
}

impl<P> Domain<P> {
    pub fn is_sink(&self) -> bool {
        self.config.delivery == Delivery::Sink
    }
}

impl<P: Page> Domain<P> {
    /// Raises a port of a domain that has no page. Unless it is a sink, the event is lost.
    #[cold]
    pub fn raise_without_page(&self) -> Edge {
        // A poll that is announced later than this look has not seen the event, as in a guest that had cleared it.
        if !self.is_sink() {
            return Edge::default();
        }
        Edge::sunk().and_pollers(self.pollers.load(SeqCst) != 0)
    }

    /// What follows for a port of a sink.
    pub fn sunk_effect(&self, port: Port, edge: Edge) -> Effect {
        let vcpu = self.channels.get(port).map(Channel::vcpu).unwrap_or_default();
        Effect::Sunk(Sunk { domain: self.id, port, vcpu, pollers: edge.pollers() })
    }
}

impl<H: Hooks> Engine<H> {
    #[cold]
    pub(crate) fn fire_sunk(&self, event: Sunk) {
        let Sunk { domain, port, vcpu, pollers } = event;
        self.hooks.observe(Observed::Raised { domain, port, fresh: true, upcall: None });
        self.hooks.sink_event(domain, port, vcpu);
        if pollers {
            self.wake_pollers(domain, port);
        }
    }
}
