// SPDX-License-Identifier: MIT OR Apache-2.0
//! Delivery: from "this port has an event" to what the embedder must do.
//!
//! The one place that knows which event-channel ABI a domain uses; `two_level` and `fifo` carry it out, and
//! nothing outside these three knows a bit's position. A domain without pages is in `sink`. A raise is done by a reader and returns an [`Effect`];
//! [`Engine::fire`] carries that out when it reads no more.

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{Guard, Page, RMW_IS_FENCE, fence_after_rmw};

use crate::channel::Consumer;
use crate::domain::Domain;
use crate::dump::Link;
use crate::engine::Engine;
use crate::fifo::Fifo;
use crate::hooks::{Hooks, Observed, Upcall};
use crate::sink::Sunk;

/// What a raise or an unmask changed, in one register: most raises lead to nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The vCPU whose upcall byte went from 0 to 1, or `NOBODY`.
    upcall: u32,
    flags: u8,
}

const NOBODY: u32 = u32::MAX;
const FRESH: u8 = 1;
const POLLERS: u8 = 2;
const SUNK: u8 = 4;

impl Default for Edge {
    fn default() -> Self {
        Self { upcall: NOBODY, flags: 0 }
    }
}

impl Edge {
    /// A vCPU's upcall byte went from 0 to 1, if any.
    #[inline]
    pub fn upcall(vcpu: Option<VcpuId>) -> Self {
        Self { upcall: vcpu.map_or(NOBODY, |vcpu| vcpu.0), flags: 0 }
    }

    /// The same, and the pending bit went from 0 to 1.
    #[inline]
    pub fn and_fresh(self, fresh: bool) -> Self {
        Self { flags: self.flags | if fresh { FRESH } else { 0 }, ..self }
    }

    /// The same, and some vCPU polls, perhaps for this port.
    #[inline]
    pub fn and_pollers(self, pollers: bool) -> Self {
        Self { flags: self.flags | if pollers { POLLERS } else { 0 }, ..self }
    }

    /// A port of a sink was raised.
    pub fn sunk() -> Self {
        Self { upcall: NOBODY, flags: FRESH | SUNK }
    }

    #[inline]
    pub fn fresh(self) -> bool {
        self.flags & FRESH != 0
    }

    pub fn pollers(self) -> bool {
        self.flags & POLLERS != 0
    }

    pub fn is_sunk(self) -> bool {
        self.flags & SUNK != 0
    }

    /// The vCPU that is to look.
    #[inline]
    pub fn vcpu(self) -> Option<VcpuId> {
        (self.upcall != NOBODY).then_some(VcpuId(self.upcall))
    }

    /// Has nobody to be told but the observer?
    #[inline]
    pub fn is_quiet(self) -> bool {
        self.upcall == NOBODY && self.flags & (POLLERS | SUNK) == 0
    }
}

/// What remains to be done for an event when its reader has left.
#[derive(Clone, Copy, Debug)]
#[must_use = "an effect that is not fired is a lost event"]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// A port was raised, and nobody has to be told but the observer.
    Quiet { domain: DomId, port: Port, fresh: bool },
    /// A port was raised or unmasked.
    Raised(Raised),
    /// A vCPU is to look for events.
    Told(DomId, Told),
    /// A consumer inside the embedder is called.
    Consumer(Consumer, DomId, VcpuId, Port),
    /// A port of a sink was raised.
    Sunk(Sunk),
}

/// A vCPU that is told to look for events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    vcpu: VcpuId,
    /// How; `None` if it has not said how, and then it is not told at all.
    upcall: Option<Upcall>,
    /// It was in a poll, which is over now.
    woken: bool,
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
    told: Option<Told>,
    /// Some vCPU polls, perhaps for this port.
    pollers: bool,
}

impl<P: Page> Domain<P> {
    /// Would raising the port change nothing? Only where a look can tell: see [`RMW_IS_FENCE`].
    #[inline]
    pub fn is_raised(&self, port: Port, guard: &Guard<'_>) -> bool {
        RMW_IS_FENCE
            && match self.fifo.load(guard) {
                Some(fifo) => fifo.is_raised(port),
                None => self.is_bit_pending(port, guard),
            }
    }

    /// Makes the port pending, and tells its vCPU.
    pub fn raise(&self, port: Port, guard: &Guard<'_>) -> Effect {
        let edge = self.raise_edge(port, guard);
        if edge.is_quiet() {
            return Effect::Quiet { domain: self.id, port, fresh: edge.fresh() };
        }
        self.loud_effect(port, edge)
    }

    /// As `raise`, but leaves the consequences to `loud_effect`.
    pub fn raise_edge(&self, port: Port, guard: &Guard<'_>) -> Edge {
        let edge = match self.fifo.load(guard) {
            Some(fifo) => {
                let edge = fifo.raise(port, &self.channels);
                let told = edge.vcpu().filter(|&vcpu| self.mark_upcall(vcpu, guard));
                Edge::upcall(told).and_fresh(edge.fresh())
            }
            None => match self.shared_info.load(guard) {
                Some(page) => self.raise_bit(page, port, guard),
                None => return self.raise_without_page(),
            },
        };
        // After the pending bit, and after the port is on its queue, so that who is woken finds it there.
        edge.and_pollers(edge.fresh() && self.has_pollers())
    }

    /// The consequences of a raise that somebody is to be told of.
    #[cold]
    #[inline(never)]
    pub fn loud_effect(&self, port: Port, edge: Edge) -> Effect {
        if edge.is_sunk() { self.sunk_effect(port, edge) } else { self.effect(port, true, edge) }
    }

    /// Does some vCPU poll? Asked by whoever has made a port pending, and pairs with `begin_poll`, which announces
    /// itself, fences, and looks at pending bits.
    #[inline]
    fn has_pollers(&self) -> bool {
        fence_after_rmw();
        self.pollers.load(SeqCst) != 0
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
        self.effect(port, false, Edge::upcall(upcall))
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
        let edge = Edge::upcall(pending.then_some(vcpu));
        self.effect(Port(0), false, edge)
    }

    /// Takes back an event that was not consumed. In the FIFO ABI the port stays on its queue: only the guest can
    /// take it off.
    pub fn clear_pending(&self, port: Port, guard: &Guard<'_>) {
        match self.fifo.load(guard) {
            Some(fifo) => fifo.clear_pending(port),
            None => self.clear_pending_bit(port, guard),
        }
    }

    pub fn is_pending(&self, port: Port, guard: &Guard<'_>) -> bool {
        match self.fifo.load(guard) {
            Some(fifo) => fifo.peek(port).is_some_and(|word| word.is_pending()),
            None => self.is_bit_pending(port, guard),
        }
    }

    /// A port without a bit or word counts as masked.
    pub fn is_masked(&self, port: Port, guard: &Guard<'_>) -> bool {
        match self.fifo.load(guard) {
            Some(fifo) => fifo.peek(port).is_none_or(|word| word.is_masked()),
            None => self.is_bit_masked(port, guard),
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
    pub fn effect(&self, port: Port, raise: bool, edge: Edge) -> Effect {
        Effect::Raised(Raised {
            domain: self.id,
            port,
            raise,
            fresh: edge.fresh(),
            told: edge.vcpu().map(|vcpu| self.tell(vcpu)),
            pollers: edge.pollers(),
        })
    }

    /// Tells a vCPU to look for events, which ends its poll. After its upcall byte is set.
    ///
    /// Out of line: most raises are merged, or find the byte set.
    #[inline(never)]
    pub fn tell(&self, vcpu: VcpuId) -> Told {
        let upcall = self.upcall_kind(vcpu);
        Told { vcpu, upcall, woken: upcall.is_some() && self.end_poll(vcpu) }
    }
}

impl<H: Hooks> Engine<H> {
    /// Calls the hooks that an effect asks for. The caller is no reader and holds no lock.
    #[inline]
    pub(crate) fn fire(&self, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Quiet { domain, port, fresh } => {
                self.hooks.observe(Observed::Raised { domain, port, fresh, upcall: None });
            }
            Effect::Raised(raised) => self.fire_raised(raised),
            Effect::Told(domain, told) => self.fire_told(domain, told),
            Effect::Consumer(consumer, domain, vcpu, port) => {
                self.hooks.consumer_event(consumer, domain, vcpu, port);
            }
            Effect::Sunk(event) => self.fire_sunk(event),
        }
    }

    fn fire_raised(&self, raised: Raised) {
        let Raised { domain, port, fresh, told, .. } = raised;
        if raised.raise {
            self.hooks.observe(Observed::Raised { domain, port, fresh, upcall: told.map(|told| told.vcpu) });
        }
        if let Some(told) = told {
            self.fire_told(domain, told);
        }
        if raised.pollers {
            self.wake_pollers(domain, port);
        }
    }

    #[inline(never)]
    fn fire_told(&self, domain: DomId, told: Told) {
        if let Some(upcall) = told.upcall {
            self.hooks.deliver(domain, told.vcpu, upcall);
        }
        if told.woken {
            self.hooks.wake_poller(domain, told.vcpu);
        }
    }
}
