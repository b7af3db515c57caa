// SPDX-License-Identifier: MIT OR Apache-2.0
//! Delivery: from "this port has an event" to what the embedder must do.
//!
//! The one place that knows which event-channel ABI a domain uses: [`Abi`] is the strategy, `two_level`
//! and `fifo` carry it out, and nothing outside these three knows a bit's position. A raise touches the
//! shared pages under locks and returns an [`Effect`]; [`Engine::fire`] carries it out after they are
//! dropped.

use alloc::boxed::Box;
use core::sync::atomic::Ordering::SeqCst;

use evtchn_abi::fifo::NR_CHANNELS;
use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::Page;

use crate::channel::{Channel, Consumer, QueueId};
use crate::config::Width;
use crate::domain::Domain;
use crate::dump::Link;
use crate::engine::Engine;
use crate::fifo::{Fifo, Pushed};
use crate::hooks::{Hooks, Observed, Upcall};
use crate::two_level::{Edge, TwoLevel};
use crate::vcpu_info;

/// By which ABI events reach a domain.
#[derive(Debug)]
pub(crate) enum Abi<P> {
    /// Bits in shared_info. Every domain begins with it.
    TwoLevel,
    /// Words and queues, from the first control block until a reset.
    Fifo(Box<Fifo<P>>),
}

/// The pages that a domain shares with Xen, and what they are used for. Guarded by the page lock.
#[derive(Debug)]
pub(crate) struct Pages<P> {
    pub shared_info: Option<P>,
    pub abi: Abi<P>,
}

impl<P> Default for Pages<P> {
    fn default() -> Self {
        Self { shared_info: None, abi: Abi::TwoLevel }
    }
}

impl<P> Pages<P> {
    pub fn fifo(&self) -> Option<&Fifo<P>> {
        match &self.abi {
            Abi::TwoLevel => None,
            Abi::Fifo(fifo) => Some(fifo),
        }
    }

    pub fn fifo_mut(&mut self) -> Option<&mut Fifo<P>> {
        match &mut self.abi {
            Abi::TwoLevel => None,
            Abi::Fifo(fifo) => Some(fifo),
        }
    }

    /// How many ports the ABI has room for, port 0 included.
    pub fn nr_ports(&self, width: Width) -> u32 {
        match self.abi {
            Abi::TwoLevel => width.layout().nr_channels(),
            Abi::Fifo(_) => NR_CHANNELS,
        }
    }
}

impl<P: Page> Pages<P> {
    #[inline]
    fn raise(&self, port: Port, channel: &Channel, target: QueueId, width: Width) -> Edge {
        match &self.abi {
            Abi::TwoLevel => self.bits(width).map(|bits| bits.raise(port, target.vcpu)).unwrap_or_default(),
            Abi::Fifo(fifo) => self.marked(fifo.raise(port, channel, target), width),
        }
    }

    fn unmask(&self, port: Port, channel: &Channel, target: QueueId, width: Width) -> Edge {
        match &self.abi {
            Abi::TwoLevel => self.bits(width).map(|bits| bits.unmask(port, target.vcpu)).unwrap_or_default(),
            Abi::Fifo(fifo) => self.marked(fifo.unmask(port, channel, target), width),
        }
    }

    fn clear_pending(&self, port: Port, width: Width) {
        match &self.abi {
            Abi::TwoLevel => {
                self.bits(width).inspect(|bits| bits.clear_pending(port));
            }
            Abi::Fifo(fifo) => fifo.clear_pending(port),
        }
    }

    fn is_pending(&self, port: Port, width: Width) -> bool {
        match &self.abi {
            Abi::TwoLevel => self.is_bit_pending(port, width),
            Abi::Fifo(fifo) => fifo.peek(port).is_some_and(|word| word.is_pending()),
        }
    }

    /// A port without a bit or word counts as masked.
    fn is_masked(&self, port: Port, width: Width) -> bool {
        match &self.abi {
            Abi::TwoLevel => self.bits(width).is_none_or(|bits| bits.is_masked(port)),
            Abi::Fifo(fifo) => fifo.peek(port).is_none_or(|word| word.is_masked()),
        }
    }

    /// Is the two-level pending bit set, whichever ABI is in use?
    pub fn is_bit_pending(&self, port: Port, width: Width) -> bool {
        self.bits(width).is_some_and(|bits| bits.is_pending(port))
    }

    /// Is the port on a queue still, though it may be closed? Then it must not be handed out: its next
    /// owner's events would come on the old queue.
    pub fn is_busy(&self, port: Port) -> bool {
        self.fifo().and_then(|fifo| fifo.peek(port)).is_some_and(|word| word.is_linked())
    }

    fn link(&self, port: Port, vcpu: VcpuId, width: Width) -> Link {
        match &self.abi {
            Abi::TwoLevel => {
                Link::Selector(self.bits(width).is_some_and(|bits| bits.is_selected(port, vcpu)))
            }
            Abi::Fifo(fifo) => fifo.peek(port).map_or(Link::NoWord, Link::Word),
        }
    }

    /// The shared page as two-level bits.
    #[inline]
    fn bits(&self, width: Width) -> Option<TwoLevel<'_, P>> {
        self.shared_info.as_ref().map(|page| TwoLevel::new(page, width))
    }

    /// Marks the upcall that a READY bit asks for.
    fn marked(&self, pushed: Pushed, width: Width) -> Edge {
        let mark = |vcpu| {
            let page = self.shared_info.as_ref();
            page.is_some_and(|page| vcpu_info::mark_upcall(page, width.layout(), vcpu))
        };
        Edge { fresh: pushed.fresh, upcall: pushed.ready.is_some_and(mark) }
    }
}

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
        let pages = self.pages.read();
        // Under the lock: `bind_vcpu` changes it under the lock for writing, so no event goes to the old vCPU afterwards.
        let target = channel.target();
        let edge = pages.raise(port, channel, target, self.width());
        drop(pages);
        // After the pending bit, and after the port is on its queue: pairs with `sched_poll`, which
        // announces itself and then looks at pending bits.
        let pollers = edge.fresh && self.pollers.load(SeqCst) != 0;
        Effect::Raised(Raised { raise: true, pollers, ..self.raised(port, target.vcpu, edge) })
    }

    /// Clears the port's mask bit, and tells its vCPU of what was pending.
    pub fn unmask_port(&self, port: Port, channel: &Channel) -> Effect {
        let pages = self.pages.read();
        // As in `raise`.
        let target = channel.target();
        let edge = pages.unmask(port, channel, target, self.width());
        drop(pages);
        Effect::Raised(self.raised(port, target.vcpu, edge))
    }

    /// Takes back an event that was not consumed.
    pub fn clear_pending(&self, port: Port) {
        self.pages.read().clear_pending(port, self.width());
    }

    pub fn is_pending(&self, port: Port) -> bool {
        self.pages.read().is_pending(port, self.width())
    }

    pub fn is_masked(&self, port: Port) -> bool {
        self.pages.read().is_masked(port, self.width())
    }

    /// What the debug key prints as the ABI's own state.
    pub fn link(&self, port: Port, vcpu: VcpuId) -> Link {
        self.pages.read().link(port, vcpu, self.width())
    }

    /// `(evtchn_upcall_pending, evtchn_upcall_mask)`; not pending if there is no page.
    pub fn upcall_state(&self, vcpu: VcpuId) -> (bool, bool) {
        let pages = self.pages.read();
        let page = pages.shared_info.as_ref();
        page.map_or((false, true), |page| vcpu_info::upcall_state(page, self.width().layout(), vcpu))
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
