// SPDX-License-Identifier: MIT OR Apache-2.0
//! Delivery: from "this port has an event" to what the embedder must do.
//!
//! The one place that knows which event-channel ABI a domain uses; `two_level` and `fifo` carry it out, and
//! nothing outside these three knows a bit's position. A raise is done by a reader and returns an [`Effect`];
//! [`Engine::fire`] carries that out when it reads no more.

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{Guard, Page};

use crate::channel::{Channel, Consumer};
use crate::domain::Domain;
use crate::dump::Link;
use crate::engine::Engine;
use crate::fifo::Fifo;
use crate::hooks::{Hooks, Observed, Upcall};

/// What a raise or an unmask changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The pending bit went from 0 to 1.
    pub fresh: bool,
    /// The vCPU whose upcall byte went from 0 to 1.
    pub upcall: Option<VcpuId>,
}

/// What remains to be done for an event when its reader has left.
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
    /// It was a raise, not an unmask.
    raise: bool,
    /// The pending bit went from 0 to 1.
    fresh: bool,
    /// Whose upcall byte went from 0 to 1.
    upcall: Option<(VcpuId, Upcall)>,
    /// The vCPU that gets the upcall was in a poll, which is over now.
    woken: bool,
    /// Some vCPU polls, perhaps for this port.
    pollers: bool,
}

impl<P: Page> Domain<P> {
    /// Makes the port pending, and tells its vCPU.
    #[inline]
    pub fn raise(&self, port: Port, guard: &Guard<'_>) -> Effect {
        let edge = match self.fifo.load(guard) {
            Some(fifo) => {
                let pushed = fifo.raise(port, &self.channels);
                Edge {
                    fresh: pushed.fresh,
                    upcall: pushed.ready.filter(|&vcpu| self.mark_upcall(vcpu, guard)),
                }
            }
            None => self.raise_bit(port, guard),
        };
        // After the pending bit, and after the port is on its queue: pairs with `sched_poll`, which
        // announces itself and then looks at pending bits.
        let pollers = edge.fresh && self.pollers.load(SeqCst) != 0;
        self.effect(port, true, edge, pollers)
    }

    #[inline]
    fn raise_bit(&self, port: Port, guard: &Guard<'_>) -> Edge {
        let Some(bits) = self.bits(guard).filter(|bits| bits.set_pending(port)) else {
            return Edge::default();
        };
        let vcpu = self.channels.get(port).map(Channel::vcpu).unwrap_or_default();
        let upcall = !bits.is_masked(port) && self.announce(port, vcpu, guard);
        Edge { fresh: true, upcall: upcall.then_some(vcpu) }
    }

    /// Clears the port's mask bit, and tells its vCPU of what was pending.
    pub fn unmask_port(&self, port: Port, guard: &Guard<'_>) -> Effect {
        let upcall = match self.fifo.load(guard) {
            Some(fifo) => {
                let ready = fifo.unmask(port, &self.channels);
                ready.filter(|&vcpu| self.mark_upcall(vcpu, guard))
            }
            None => self.unmask_bit(port, guard),
        };
        self.effect(port, false, Edge { fresh: false, upcall }, false)
    }

    fn unmask_bit(&self, port: Port, guard: &Guard<'_>) -> Option<VcpuId> {
        let bits = self.bits(guard)?;
        let vcpu = self.channels.get(port).map(Channel::vcpu)?;
        let uncovered = bits.clear_mask(port) && bits.is_pending(port);
        (uncovered && self.announce(port, vcpu, guard)).then_some(vcpu)
    }

    /// Tells the port's vCPU of an event that is pending, as if nobody had been told of it. Only marks: the upcall is
    /// delivered by [`Domain::waiting_upcall`].
    pub fn announce_again(&self, port: Port, guard: &Guard<'_>) {
        let told = match self.fifo.load(guard) {
            Some(fifo) => fifo.announce(port, &self.channels),
            None => self.announce_bit_again(port, guard),
        };
        told.inspect(|&vcpu| {
            self.mark_upcall(vcpu, guard);
        });
    }

    fn announce_bit_again(&self, port: Port, guard: &Guard<'_>) -> Option<VcpuId> {
        let bits = self.bits(guard)?;
        let vcpu = self.channels.get(port).map(Channel::vcpu)?;
        let waits = bits.is_pending(port) && !bits.is_masked(port);
        waits.then(|| self.announce(port, vcpu, guard))?;
        Some(vcpu)
    }

    /// Marks the upcalls of vCPUs that have something on a FIFO queue.
    pub fn mark_ready_vcpus(&self, guard: &Guard<'_>) {
        let ready = self.fifo.load(guard).into_iter().flat_map(Fifo::ready);
        ready.for_each(|vcpu| {
            self.mark_upcall(vcpu, guard);
        });
    }

    /// The upcall of a vCPU whose byte is set, to be delivered once more.
    pub fn waiting_upcall(&self, vcpu: VcpuId, guard: &Guard<'_>) -> Effect {
        let (pending, _) = self.upcall_state(vcpu, guard);
        let edge = Edge { fresh: false, upcall: pending.then_some(vcpu) };
        self.effect(Port(0), false, edge, false)
    }

    /// Takes back an event that was not consumed. In the FIFO ABI the port stays on its queue: only the guest can
    /// take it off.
    pub fn clear_pending(&self, port: Port, guard: &Guard<'_>) {
        match self.fifo.load(guard) {
            Some(fifo) => fifo.clear_pending(port),
            None => {
                self.bits(guard).inspect(|bits| bits.clear_pending(port));
            }
        }
    }

    pub fn is_pending(&self, port: Port, guard: &Guard<'_>) -> bool {
        match self.fifo.load(guard) {
            Some(fifo) => fifo.peek(port).is_some_and(|word| word.is_pending()),
            None => self.bits(guard).is_some_and(|bits| bits.is_pending(port)),
        }
    }

    /// A port without a bit or word counts as masked.
    pub fn is_masked(&self, port: Port, guard: &Guard<'_>) -> bool {
        match self.fifo.load(guard) {
            Some(fifo) => fifo.peek(port).is_none_or(|word| word.is_masked()),
            None => self.bits(guard).is_none_or(|bits| bits.is_masked(port)),
        }
    }

    /// What the debug key prints as the ABI's own state.
    pub fn link(&self, port: Port, vcpu: VcpuId, guard: &Guard<'_>) -> Link {
        match self.fifo.load(guard) {
            Some(fifo) => fifo.peek(port).map_or(Link::NoWord, Link::Word),
            None => Link::Selector(self.is_selected(port, vcpu, guard)),
        }
    }

    /// The consequences of an edge, with the poll of the vCPU that gets an upcall ended.
    #[inline]
    fn effect(&self, port: Port, raise: bool, edge: Edge, pollers: bool) -> Effect {
        let kind = if self.is_pv() { Upcall::PvEntry } else { Upcall::Hvm };
        Effect::Raised(Raised {
            domain: self.id,
            port,
            raise,
            fresh: edge.fresh,
            upcall: edge.upcall.map(|vcpu| (vcpu, kind)),
            woken: edge.upcall.is_some_and(|vcpu| self.end_poll(vcpu)),
            pollers,
        })
    }
}

impl<H: Hooks> Engine<H> {
    /// Calls the hooks that an effect asks for. The caller is no reader and holds no lock.
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

    #[inline]
    fn fire_raised(&self, raised: Raised) {
        let Raised { domain, port, fresh, upcall, .. } = raised;
        if raised.raise {
            self.hooks.observe(Observed::Raised {
                domain,
                port,
                fresh,
                upcall: upcall.map(|(vcpu, _)| vcpu),
            });
        }
        if let Some((vcpu, upcall)) = upcall {
            self.hooks.deliver(domain, vcpu, upcall);
            if raised.woken {
                self.hooks.wake_poller(domain, vcpu);
            }
        }
        if raised.pollers {
            self.wake_pollers(domain, port);
        }
    }
}
