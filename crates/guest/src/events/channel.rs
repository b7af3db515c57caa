// SPDX-License-Identifier: MIT OR Apache-2.0
//! One channel's record.

use core::fmt;

use evtchn_abi::{DomId, Pirq, Port, Priority, VcpuId, Virq, VirqClass};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};
use evtchn_sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use evtchn_sync::{Mutex, const_fn};

use super::state::State;

/// A channel: its name for as long as it lives, while its port may change when the guest is resumed elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelId {
    pub(super) index: u32,
    pub(super) generation: u16,
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.index, f)
    }
}

/// What a channel's events come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A virtual interrupt, on the vCPU that it was bound for.
    Virq(Virq, VcpuId),
    /// Another of the guest's own vCPUs, or the same, signals this one.
    Ipi(VcpuId),
    /// A physical interrupt, which shares its line or not.
    Pirq(Pirq, Share),
    /// Another domain, which has bound or will bind to the port.
    Interdomain(DomId),
}

/// Does a physical interrupt share its line?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Share {
    /// No.
    #[default]
    No,
    /// Yes.
    Yes,
}

impl Source {
    /// Is its vCPU fixed?
    pub(super) fn is_fixed(self) -> bool {
        match self {
            Self::Ipi(_) => true,
            Self::Virq(virq, _) => virq.class() == Some(VirqClass::PerVcpu),
            Self::Pirq(..) | Self::Interdomain(_) => false,
        }
    }

    fn pack(self) -> u64 {
        let (kind, low, high) = match self {
            Self::Virq(virq, vcpu) => (0, virq.0, vcpu.0),
            Self::Ipi(vcpu) => (1, 0, vcpu.0),
            Self::Pirq(pirq, Share::No) => (2, pirq.0, 0),
            Self::Pirq(pirq, Share::Yes) => (2, pirq.0, 1),
            Self::Interdomain(domain) => (3, domain.0.into(), 0),
        };
        // vCPUs have numbers far below 2^30.
        u64::from(low) | u64::from(high) << 32 | kind << 62
    }

    #[allow(clippy::cast_possible_truncation)] // the halves of a packed word
    fn unpack(packed: u64) -> Self {
        let (low, high) = (packed as u32, (packed >> 32) as u32 & !(3 << 30));
        match packed >> 62 {
            0 => Self::Virq(Virq(low), VcpuId(high)),
            1 => Self::Ipi(VcpuId(high)),
            2 if high == 0 => Self::Pirq(Pirq(low), Share::No),
            2 => Self::Pirq(Pirq(low), Share::Yes),
            _ => Self::Interdomain(DomId(low as u16)),
        }
    }
}

/// The record of one channel.
///
/// But for `state` its fields belong to whoever the state says: who reserved it, who runs its handler, who settles it.
pub struct Channel<H> {
    state: AtomicU32,
    pub(super) handler: Mutex<Option<H>>,
    port: AtomicU32,
    vcpu: AtomicU32,
    source: AtomicU64,
    /// The priority that was asked for, to be asked for again after a resume, plus 1; 0 for none.
    priority: AtomicU8,
    /// How many events its handler got.
    pub(super) events: AtomicU64,
    /// How many of them were spurious.
    pub(super) spurious: AtomicU64,
    /// How many ends of events were delayed.
    pub(super) delays: AtomicU64,
    /// How many events in a row were spurious, as far as it matters.
    pub(super) penalty: AtomicU8,
    /// On which vCPU its last event was handled, and in which of its upcalls.
    pub(super) handled_on: AtomicU32,
    pub(super) epoch: AtomicU32,
    /// Before when the end of its event is not to take effect; 0: at once.
    pub(super) due: AtomicU64,
    /// Whether it is in a vCPU's list of delayed ones, in which, and who is behind it.
    pub(super) is_listed: AtomicBool,
    pub(super) listed_on: AtomicU32,
    pub(super) next_listed: AtomicU32,
}

impl<H> Channel<H> {
    const_fn! {
        /// A record that is free.
        #[must_use]
        pub const fn new() -> Self {
            Self {
                state: AtomicU32::new(0),
                handler: Mutex::new(None),
                port: AtomicU32::new(0),
                vcpu: AtomicU32::new(0),
                source: AtomicU64::new(0),
                priority: AtomicU8::new(0),
                events: AtomicU64::new(0),
                spurious: AtomicU64::new(0),
                delays: AtomicU64::new(0),
                penalty: AtomicU8::new(0),
                handled_on: AtomicU32::new(0),
                epoch: AtomicU32::new(0),
                due: AtomicU64::new(0),
                is_listed: AtomicBool::new(false),
                listed_on: AtomicU32::new(0),
                next_listed: AtomicU32::new(0),
            }
        }
    }

    /// SeqCst throughout: what a step found out about the memory that is shared with Xen must not be older than the step.
    #[inline]
    pub(super) fn state(&self) -> State {
        State(self.state.load(SeqCst))
    }

    /// Changes the state if it is still `from`; what it is otherwise.
    #[inline]
    pub(super) fn change(&self, from: State, to: State) -> Result<(), State> {
        self.state.compare_exchange(from.0, to.0, SeqCst, SeqCst).map(drop).map_err(State)
    }

    pub(super) fn set(&self, flags: u32) {
        self.state.fetch_or(flags, SeqCst);
    }

    pub(super) fn clear(&self, flags: u32) {
        self.state.fetch_and(!flags, SeqCst);
    }

    /// For who has reserved the record, or frees it.
    pub(super) fn put(&self, state: State) {
        self.state.store(state.0, SeqCst);
    }

    #[inline]
    pub(super) fn port(&self) -> Port {
        Port(self.port.load(SeqCst))
    }

    pub(super) fn set_port(&self, port: Port) {
        self.port.store(port.0, SeqCst);
    }

    #[inline]
    pub(super) fn vcpu(&self) -> VcpuId {
        VcpuId(self.vcpu.load(SeqCst))
    }

    pub(super) fn set_vcpu(&self, vcpu: VcpuId) {
        self.vcpu.store(vcpu.0, SeqCst);
    }

    pub(super) fn source(&self) -> Source {
        Source::unpack(self.source.load(SeqCst))
    }

    pub(super) fn set_source(&self, source: Source) {
        self.source.store(source.pack(), SeqCst);
    }

    pub(super) fn priority(&self) -> Option<Priority> {
        self.priority.load(SeqCst).checked_sub(1).map(Priority)
    }

    pub(super) fn set_priority(&self, priority: Option<Priority>) {
        self.priority.store(priority.map_or(0, |priority| priority.0.saturating_add(1)), SeqCst);
    }

    /// Makes the record another channel's.
    pub(super) fn begin(&self, source: Source, vcpu: VcpuId, priority: Option<Priority>) {
        self.set_source(source);
        self.set_vcpu(vcpu);
        self.set_priority(priority);
        for count in [&self.events, &self.spurious, &self.delays, &self.due] {
            count.store(0, Relaxed);
        }
        self.penalty.store(0, Relaxed);
    }
}

/// Without the handler: who looked at it would hold the lock, and an upcall that comes meanwhile could not call it.
impl<H> fmt::Debug for Channel<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("state", &self.state())
            .field("port", &self.port())
            .field("vcpu", &self.vcpu())
            .field("source", &self.source())
            .finish_non_exhaustive()
    }
}

impl<H> Default for Channel<H> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_source_survives_packing() {
        let sources = [
            Source::Virq(Virq(23), VcpuId(0)),
            Source::Virq(Virq::TIMER, VcpuId(8191)),
            Source::Ipi(VcpuId(3)),
            Source::Pirq(Pirq(u32::MAX), Share::No),
            Source::Pirq(Pirq(0), Share::Yes),
            Source::Interdomain(DomId(0)),
            Source::Interdomain(DomId(0xffff)),
        ];
        assert!(sources.iter().all(|&source| Source::unpack(source.pack()) == source));
    }
}
