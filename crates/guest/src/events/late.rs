// SPDX-License-Identifier: MIT OR Apache-2.0
//! Late ends of events, and what is done against storms.
//!
//! A channel of the flow *late* is held back from an event until its end is reported. The end takes effect later if the
//! upcall has taken too long, and if the channel's events are spurious again and again. So a peer that floods the guest
//! is heard now and then.
//!
//! The delayed channels of a vCPU are a list through their records. Anybody pushes at its head; `expire` takes the whole list
//! and puts back what is not due.

use core::ops::ControlFlow;

use evtchn_abi::{Errno, VcpuId};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};

use super::state::{DELAYED, EOI, LATE, NEEDS_EOI};
use super::{Channel, ChannelId, Events, Kernel, Source, Storage};
use crate::Abi;
use crate::words::in_order;

/// How long an upcall may take, and how storms are delayed. Times are nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// When an upcall has taken so long, the ends of events are delayed; when it has taken twice as long, it stops.
    pub time: u64,
    /// After how many events the time is looked at.
    pub events: u32,
    /// For how long they are delayed.
    pub eoi_delay: u64,
    /// How many spurious events in a row are forgiven.
    pub spurious_threshold: u8,
    /// The delay after the first one that is not; each further one doubles it.
    pub spurious_delay: u64,
    /// The longest delay of this kind.
    pub longest_delay: u64,
}

impl Limits {
    /// What Linux does with 250 ticks a second: 8 ms, looked at every 256 events; 40 ms; from 4 ms to 1 s after one
    /// that is forgiven.
    pub const LINUX: Self = Self {
        time: 8_000_000,
        events: 256,
        eoi_delay: 40_000_000,
        spurious_threshold: 1,
        spurious_delay: 4_000_000,
        longest_delay: 1_000_000_000,
    };

    /// For how long a channel is delayed that has had so many spurious events in a row.
    fn penalty(&self, in_a_row: u8) -> u64 {
        let beyond = in_a_row.saturating_sub(self.spurious_threshold);
        let Some(doublings) = beyond.checked_sub(1) else { return 0 };
        let factor = 1u64.checked_shl(doublings.into()).unwrap_or(u64::MAX);
        self.spurious_delay.saturating_mul(factor).min(self.longest_delay)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::LINUX
    }
}

/// The time that one upcall takes.
pub(super) struct Watch<'a> {
    limits: &'a Limits,
    events_left: u32,
    started: Option<u64>,
    due: u64,
}

impl<'a> Watch<'a> {
    pub fn new(limits: &'a Limits) -> Self {
        Self { limits, events_left: limits.events, started: None, due: 0 }
    }

    /// When ends of events take effect that are reported now; 0 for at once.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// After each event: may the upcall go on? The time is looked at now and then.
    #[inline]
    pub fn look(&mut self, now: impl FnOnce() -> u64) -> ControlFlow<()> {
        self.events_left = self.events_left.saturating_sub(1);
        if self.events_left > 0 { ControlFlow::Continue(()) } else { self.check(now()) }
    }

    fn check(&mut self, now: u64) -> ControlFlow<()> {
        self.events_left = self.limits.events;
        let started = *self.started.get_or_insert(now);
        let taken = now.saturating_sub(started);
        if taken > self.limits.time {
            self.due = now.saturating_add(self.limits.eoi_delay);
        }
        if taken > self.limits.time.saturating_mul(2) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

impl<A: Abi, K: Kernel, S: Storage> Events<A, K, S> {
    /// Reports the end of an event whose handler has answered [`Later`](super::Answer::Later), from any vCPU. Whether there was
    /// nothing to do is for [accounting](Self::stats), and delays channels that are signalled for nothing.
    ///
    /// # Errors
    /// ENOENT if there is no such channel; EINVAL if it is not of the flow [late](super::Flow::LateEoi), or no event waits for its end.
    pub fn eoi(&self, channel: ChannelId, is_spurious: bool) -> Result<(), Errno> {
        let record = self.record(channel).ok_or(Errno::ENOENT)?;
        let state = record.state();
        if !state.has(LATE) || !state.has(EOI) || state.has(DELAYED) {
            return Err(Errno::EINVAL);
        }
        if is_spurious {
            record.spurious.fetch_add(1, Relaxed);
        }
        self.end(channel, record, is_spurious);
        Ok(())
    }

    /// The end of an event of a late channel.
    pub(super) fn end(&self, id: ChannelId, channel: &Channel<S::Handler>, is_spurious: bool) {
        let penalty = self.count_spurious(channel, is_spurious);
        let mut due = channel.due.load(SeqCst);
        if penalty > 0 {
            due = due.max(self.kernel.now().saturating_add(penalty));
        }
        if due != 0 && (penalty > 0 || self.is_same_upcall(channel)) {
            self.delay(id, channel, due);
        } else {
            self.let_in(id, channel);
        }
    }

    /// Counts spurious events in a row; the delay that they cause.
    fn count_spurious(&self, channel: &Channel<S::Handler>, is_spurious: bool) -> u64 {
        let before = channel.penalty.load(Relaxed);
        let in_a_row = if is_spurious { before.saturating_add(1) } else { 0 };
        // Not counted any further when the delay has stopped growing.
        let grows = self.limits.penalty(before) < self.limits.longest_delay;
        let counted = if is_spurious && !grows { before } else { in_a_row };
        channel.penalty.store(counted, Relaxed);
        if is_spurious { self.limits.penalty(counted) } else { 0 }
    }

    /// Does the upcall go on in which the event was handled?
    fn is_same_upcall(&self, channel: &Channel<S::Handler>) -> bool {
        let slot = self.storage.vcpus().get(channel.handled_on.load(SeqCst) as usize);
        slot.is_some_and(|slot| slot.epoch.load(SeqCst) == channel.epoch.load(SeqCst))
    }

    /// Lets the channel's events in again.
    fn let_in(&self, id: ChannelId, channel: &Channel<S::Handler>) {
        if channel.state().has(NEEDS_EOI) {
            self.tell_pirq(channel);
        }
        // Closed meanwhile: there is nothing to let in.
        let _ = self.change(id, |state| Some(state.without(EOI)));
    }

    /// The same at the end of a delay. Whoever expires the same list may have been faster, and another event wait for its end by now.
    fn end_delay(&self, id: ChannelId, channel: &Channel<S::Handler>) {
        if channel.state().has(NEEDS_EOI) {
            self.tell_pirq(channel);
        }
        let _ = self.change(id, |state| state.has(DELAYED).then_some(state.without(EOI | DELAYED)));
    }

    /// Tells Xen that a physical interrupt has been handled.
    pub(super) fn tell_pirq(&self, channel: &Channel<S::Handler>) {
        if let Source::Pirq(pirq, _) = channel.source() {
            // Refused only for an interrupt that is not the guest's any more.
            let _ = self.kernel.pirq_eoi(pirq);
        }
    }

    /// Has the end of its event take effect at `due`.
    fn delay(&self, id: ChannelId, channel: &Channel<S::Handler>, due: u64) {
        let vcpu = channel.vcpu();
        channel.due.store(due, SeqCst);
        let was = self.change(id, |state| state.has(EOI).then_some(state.with(DELAYED)));
        if !was.is_ok_and(|was| was.has(EOI)) {
            return;
        }
        channel.delays.fetch_add(1, Relaxed);
        // After DELAYED: who takes it off a list looks at that afterwards.
        in_order();
        if !channel.is_listed.swap(true, SeqCst) {
            self.push(id.index, channel, vcpu);
        }
        self.kernel.expire_at(VcpuId(channel.listed_on.load(SeqCst)), due);
        // A vCPU that goes offline gives up its channels, then its list: who comes after that sees that the channel has moved.
        in_order();
        let moved_to = channel.vcpu();
        if moved_to != vcpu {
            self.move_delayed(vcpu, moved_to);
        }
    }

    /// Puts a channel, which is on no list and marked as listed, at the head of a vCPU's.
    fn push(&self, index: u32, channel: &Channel<S::Handler>, vcpu: VcpuId) {
        let Some(slot) = self.storage.vcpus().get(vcpu.0 as usize) else { return };
        channel.listed_on.store(vcpu.0, SeqCst);
        let mut head = slot.delayed.load(SeqCst);
        loop {
            channel.next_listed.store(head, SeqCst);
            match slot.delayed.compare_exchange(head, index + 1, SeqCst, SeqCst) {
                Ok(_) => return,
                Err(other) => head = other,
            }
        }
    }

    /// Lets in the events of this vCPU's delayed channels whose time has come. To be called when [`Kernel::expire_at`] asked for it;
    /// earlier or more often does no harm.
    pub fn expire(&self, vcpu: VcpuId) {
        let now = self.kernel.now();
        let next = self.take_delayed(vcpu, |id, channel| {
            let due = channel.due.load(SeqCst);
            if due <= now {
                self.end_delay(id, channel);
                return None;
            }
            Some((vcpu, due))
        });
        if let Some(next) = next {
            self.kernel.expire_at(vcpu, next);
        }
    }

    /// Gives a vCPU's delayed channels to another.
    pub(super) fn move_delayed(&self, from: VcpuId, to: VcpuId) {
        let next = self.take_delayed(from, |_, channel| Some((to, channel.due.load(SeqCst))));
        if let Some(next) = next {
            self.kernel.expire_at(to, next);
        }
    }

    /// Takes the list of a vCPU. `decide` says of each channel on which list it goes, and when it is due; the earliest of these.
    fn take_delayed(
        &self,
        vcpu: VcpuId,
        decide: impl Fn(ChannelId, &Channel<S::Handler>) -> Option<(VcpuId, u64)>,
    ) -> Option<u64> {
        let channels = self.storage.channels();
        let slot = self.storage.vcpus().get(vcpu.0 as usize)?;
        let mut next = slot.delayed.swap(0, SeqCst).checked_sub(1);
        let mut earliest = None;
        while let Some((index, channel)) = next.and_then(|index| Some((index, channels.get(index as usize)?)))
        {
            next = channel.next_listed.load(SeqCst).checked_sub(1);
            // Before the look at DELAYED: pairs with `delay`. An exchange, as there.
            channel.is_listed.swap(false, SeqCst);
            in_order();
            let state = channel.state();
            if !state.has(DELAYED) {
                continue;
            }
            let id = ChannelId { index, generation: state.generation() };
            let Some((vcpu, due)) = decide(id, channel) else { continue };
            earliest = Some(earliest.map_or(due, |earliest: u64| earliest.min(due)));
            if !channel.is_listed.swap(true, SeqCst) {
                self.push(index, channel, vcpu);
            }
        }
        earliest
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_first_spurious_event_is_forgiven_and_the_delay_doubles_up_to_a_second() {
        let penalties: std::vec::Vec<_> =
            [0, 1, 2, 3, 4, 9, 10, 255].map(|count| Limits::LINUX.penalty(count) / 1_000_000).into();
        assert_eq!(penalties, [0, 0, 4, 8, 16, 512, 1000, 1000]);
    }

    #[test]
    fn ends_are_delayed_after_the_time_and_the_upcall_stops_after_twice_the_time() {
        let limits = Limits { time: 10, events: 2, eoi_delay: 100, ..Limits::LINUX };
        let mut watch = Watch::new(&limits);
        let mut look = |now| (watch.look(|| now), watch.due());
        let goes_on = ControlFlow::Continue(());
        assert_eq!([look(0), look(1_000)], [(goes_on, 0); 2], "the first look starts the clock");
        assert_eq!([look(0), look(1_010)], [(goes_on, 0); 2]);
        assert_eq!([look(0), look(1_011)], [(goes_on, 0), (goes_on, 1_111)]);
        assert_eq!([look(0), look(1_021)], [(goes_on, 1_111), (ControlFlow::Break(()), 1_121)]);
    }
}
