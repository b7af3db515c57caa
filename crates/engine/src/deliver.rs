// SPDX-License-Identifier: MIT OR Apache-2.0
//! Delivery: from "this port has an event" to what the embedder must do.
//!
//! The one place that knows which event-channel ABI a domain uses. A raise touches the shared page
//! under locks and returns an [`Effect`]; [`Engine::fire`] carries it out after they are dropped.
//!
//! Only the two-level ABI exists so far; another one becomes a second arm of the functions that go
//! through [`Domain::two_level`].

use core::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::Page;

use crate::channel::{Channel, Consumer};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::hooks::{Hooks, Observed, Upcall};
use crate::two_level::{Edge, TwoLevel};

/// What remains to be done for an event when the locks are dropped.
#[derive(Clone, Copy, Debug)]
#[must_use = "an effect that is not fired is a lost event"]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// A port was raised or unmasked.
    Raised(Raised),
    /// A consumer inside the embedder is called.
    Consumer(Consumer, DomId, VcpuId, Port),
}

/// What a raise or an unmask has led to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raised {
    domain: DomId,
    port: Port,
    vcpu: VcpuId,
    /// It was a raise, not an unmask.
    raise: bool,
    /// The pending bit went from 0 to 1.
    fresh: bool,
    /// The upcall byte went from 0 to 1.
    upcall: Option<Upcall>,
    /// The vCPU that gets the upcall was in a poll, which is over now.
    woken: bool,
    /// Some vCPU polls, perhaps for this port.
    pollers: bool,
}

impl<P: Page> Domain<P> {
    /// Makes the port pending, and tells its vCPU.
    #[inline]
    pub fn raise(&self, port: Port, channel: &Channel) -> Effect {
        let vcpu = channel.vcpu();
        let edge = self.two_level(|page| page.raise(port, vcpu)).unwrap_or_default();
        // After the pending bit: pairs with `sched_poll`, which announces itself and then looks at
        // pending bits.
        let pollers = edge.fresh && self.pollers.load(SeqCst) != 0;
        Effect::Raised(Raised { raise: true, pollers, ..self.raised(port, vcpu, edge) })
    }

    /// Clears the port's mask bit, and tells its vCPU of what was pending.
    pub fn unmask_port(&self, port: Port, channel: &Channel) -> Effect {
        let vcpu = channel.vcpu();
        let edge = self.two_level(|page| page.unmask(port, vcpu)).unwrap_or_default();
        Effect::Raised(self.raised(port, vcpu, edge))
    }

    /// Takes back an event that was not consumed.
    pub fn clear_pending(&self, port: Port) {
        self.two_level(|page| page.clear_pending(port));
    }

    pub fn is_pending(&self, port: Port) -> bool {
        self.two_level(|page| page.is_pending(port)).unwrap_or(false)
    }

    pub fn is_masked(&self, port: Port) -> bool {
        self.two_level(|page| page.is_masked(port)).unwrap_or(true)
    }

    /// What the debug key prints as the ABI's own state: the selector bit.
    pub fn is_selected(&self, port: Port, vcpu: VcpuId) -> bool {
        self.two_level(|page| page.is_selected(port, vcpu)).unwrap_or(false)
    }

    /// `(evtchn_upcall_pending, evtchn_upcall_mask)`; not pending if there is no page.
    pub fn upcall_state(&self, vcpu: VcpuId) -> (bool, bool) {
        self.two_level(|page| page.upcall_state(vcpu)).unwrap_or((false, true))
    }

    /// Runs `f` on the shared page, if there is one.
    #[inline]
    fn two_level<R>(&self, f: impl FnOnce(TwoLevel<'_, P>) -> R) -> Option<R> {
        let page = self.shared_info.read();
        page.as_ref().map(|page| f(TwoLevel::new(page, self.width())))
    }

    /// The consequences of an edge, with the poll of the vCPU that gets an upcall ended.
    fn raised(&self, port: Port, vcpu: VcpuId, edge: Edge) -> Raised {
        Raised {
            domain: self.id,
            port,
            vcpu,
            raise: false,
            fresh: edge.fresh,
            upcall: edge.upcall.then(|| if self.is_pv() { Upcall::PvEntry } else { Upcall::Hvm }),
            woken: edge.upcall && self.end_poll(vcpu),
            pollers: false,
        }
    }
}

impl<H: Hooks> Engine<H> {
    /// Calls the hooks that an effect asks for. No lock may be held.
    #[inline]
    pub(crate) fn fire(&self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Raised(raised) => self.fire_raised(raised),
            Effect::Consumer(consumer, domain, vcpu, port) => {
                self.hooks.consumer_event(consumer, domain, vcpu, port);
            }
        }
    }

    fn fire_raised(&self, raised: Raised) {
        let Raised { domain, port, vcpu, fresh, .. } = raised;
        if raised.raise {
            self.hooks.observe(Observed::Raised { domain, port, vcpu, fresh });
        }
        if let Some(upcall) = raised.upcall {
            self.hooks.deliver(domain, vcpu, upcall);
        }
        if raised.woken {
            self.hooks.wake_poller(domain, vcpu);
        }
        if raised.pollers {
            self.wake_pollers(domain, port);
        }
    }
}
