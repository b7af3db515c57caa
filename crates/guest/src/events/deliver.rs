// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upcall: from a port to its handler.

use evtchn_abi::{Port, VcpuId};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};

use super::late::Watch;
use super::state::{ACTIVE, EOI, LATCHED, LATE, NEEDS_EOI, PASSED_ON, State};
use super::{Answer, Channel, ChannelId, Event, Events, Handler, Kernel, Storage, VcpuSlot};
use crate::{Abi, Scan};

/// Where an event is handled.
struct Place<'a> {
    vcpu: VcpuId,
    slot: &'a VcpuSlot,
    /// When the ends of events take effect that are reported in this upcall; 0 for at once.
    due: u64,
}

/// What becomes of an event.
enum Fate {
    /// Nobody has the port.
    Unclaimed,
    /// It is remembered.
    Latched,
    /// The handler gets it.
    Run(State),
}

impl<A: Abi, K: Kernel, S: Storage> Events<A, K, S> {
    /// Takes upcalls of this vCPU, and calls the handler of each channel that has an event. To be called when Xen interrupts, by
    /// the vCPU itself.
    ///
    /// A flood cannot hold the vCPU: when the upcall has taken [so long](super::Limits::time), the ends of events are delayed, so that the
    /// channels of the flood are masked for a while; and when it has taken twice as long it stops, with [`Scan::Stopped`]. Then the
    /// vCPU's upcall byte is set, so Xen interrupts no more where an interrupt is an edge: call this again after other work has
    /// been done, or nothing is ever heard again. The time begins after the first [so many](super::Limits::events) events.
    pub fn upcall(&self, vcpu: VcpuId) -> Scan {
        let Some(slot) = self.storage.vcpus().get(vcpu.0 as usize) else { return Scan::Idle };
        let mut watch = Watch::new(&self.limits);
        let scan = self.abi.upcall_while(vcpu, |port| {
            self.deliver(port, &Place { vcpu, slot, due: watch.due() });
            watch.look(|| self.kernel.now())
        });
        slot.epoch.fetch_add(1, SeqCst);
        scan
    }

    /// Brings an event, which has been taken, to its channel.
    fn deliver(&self, port: Port, place: &Place<'_>) {
        let Some((index, channel)) = self.holder(port) else { return unclaimed(place) };
        let mut fate = Fate::Unclaimed;
        self.update(channel, |state| {
            // The port belongs to the state: neither has changed if the step succeeds.
            if !state.is_bound() || channel.port() != port {
                fate = Fate::Unclaimed;
                return None;
            }
            if state.is_held_back() || state.has(ACTIVE) {
                fate = Fate::Latched;
                return Some(state.with(LATCHED));
            }
            // Passed on once: where Xen insists on another vCPU it is handled there.
            if channel.vcpu() != place.vcpu && !state.has(PASSED_ON) {
                fate = Fate::Latched;
                return Some(state.with(LATCHED | PASSED_ON));
            }
            fate = Fate::Run(state);
            let waits = if state.has(LATE) { EOI } else { 0 };
            Some(state.with(ACTIVE | waits).without(PASSED_ON))
        });
        match fate {
            Fate::Unclaimed => unclaimed(place),
            Fate::Latched => {}
            Fate::Run(state) => {
                let channel_id = ChannelId { index, generation: state.generation() };
                self.run(channel, state, channel_id, port, place);
            }
        }
    }

    /// Calls the handler. The channel is ACTIVE, so nobody else does.
    fn run(&self, channel: &Channel<S::Handler>, state: State, id: ChannelId, port: Port, place: &Place<'_>) {
        // Only the one that runs the handler counts.
        channel.events.store(channel.events.load(Relaxed).wrapping_add(1), Relaxed);
        if state.has(LATE) {
            // Before the handler, which may tell others to report the end.
            channel.handled_on.store(place.vcpu.0, SeqCst);
            channel.epoch.store(place.slot.epoch.load(SeqCst), SeqCst);
            channel.due.store(place.due, SeqCst);
        }
        let event = Event { channel: id, port, vcpu: place.vcpu, xen: &self.kernel };
        let answer = match channel.handler.try_lock() {
            Some(mut handler) => handler.as_mut().map_or(Answer::Spurious, |handler| handler.event(&event)),
            None => Answer::Spurious,
        };
        let is_spurious = answer == Answer::Spurious;
        if is_spurious {
            channel.spurious.fetch_add(1, Relaxed);
        }
        if state.has(LATE) {
            // `Later`: Xen, too, hears of the end when it is reported. A line that is still asserted would interrupt again.
            if answer != Answer::Later {
                self.end(id, channel, is_spurious);
            }
        } else if state.has(NEEDS_EOI) {
            self.tell_pirq(channel);
        }
        self.update(channel, |state| Some(state.without(ACTIVE)));
    }

    /// Has an event that a vCPU left, which is offline now, announced to the vCPU that the channel has.
    pub(super) fn pass_on(&self, port: Port) {
        let Some((_, channel)) = self.holder(port) else { return };
        self.update(channel, |state| {
            (state.is_bound() && channel.port() == port).then_some(state.with(LATCHED))
        });
    }
}

fn unclaimed(place: &Place<'_>) {
    place.slot.unclaimed.fetch_add(1, Relaxed);
}
