// SPDX-License-Identifier: MIT OR Apache-2.0
//! One channel's record: what a port is bound to, and whom it notifies.
//!
//! A record is two atomics, so that it can be looked at without its domain's lock:
//!
//! ```text
//! binding (u64)  63            32 31         16 15      6 5      3 2    0
//!               | port/pirq/virq |    domid    |   zero  |consumer| state |
//! notify  (u32)  the vCPU that is told
//! ```
//!
//! Rules (see [`crate::locks`]): a binding is written only under the write lock of its domain, and a
//! binding that is or becomes interdomain only under the write locks of both. So whoever holds the
//! read lock of one end may also read the other end's record.

use core::num::NonZeroU8;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use evtchn_abi::{DomId, Pirq, Port, VcpuId, Virq};

/// What a port is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not in use; may be handed out.
    Free,
    /// Never handed out: port 0.
    Reserved,
    /// Waiting for the domain `remote` to bind to it.
    Unbound {
        /// Who may bind. Need not exist.
        remote: DomId,
    },
    /// One end of a channel whose other end is `port` of `remote`.
    Interdomain {
        /// The domain at the other end.
        remote: DomId,
        /// The other end.
        port: Port,
    },
    /// Raised by a physical interrupt.
    Pirq(Pirq),
    /// Raised by a virtual interrupt.
    Virq(Virq),
    /// Raised by its own domain, for one vCPU for ever.
    Ipi,
}

impl State {
    /// The number that Xen's debug key `e` prints as `s=`: 0 free to 6 ipi.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Reserved => 1,
            Self::Unbound { .. } => 2,
            Self::Interdomain { .. } => 3,
            Self::Pirq(_) => 4,
            Self::Virq(_) => 5,
            Self::Ipi => 6,
        }
    }

    /// Is the port handed out to somebody?
    #[must_use]
    pub const fn in_use(self) -> bool {
        !matches!(self, Self::Free | Self::Reserved)
    }
}

/// Which consumer inside the embedder a Xen-consumer channel belongs to: 1 to 7.
///
/// Xen has room for seven such consumers; the number is what the debug key `e` prints as `x=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Consumer(NonZeroU8);

impl Consumer {
    /// The consumer of this number, or `None` unless it is 1 to 7.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        match NonZeroU8::new(number) {
            Some(number) if number.get() <= 7 => Some(Self(number)),
            _ => None,
        }
    }

    /// The number, 1 to 7.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

/// A channel's binding: its state, and whether Xen itself consumes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub state: State,
    pub consumer: Option<Consumer>,
}

const CONSUMER_SHIFT: u32 = 3;
const DOMAIN_SHIFT: u32 = 16;
const VALUE_SHIFT: u32 = 32;

impl Binding {
    pub const FREE: Self = Self::guest(State::Free);

    /// A binding that the owning guest consumes.
    pub const fn guest(state: State) -> Self {
        Self { state, consumer: None }
    }

    /// May the owning guest use the port: is it handed out, and not to Xen?
    pub const fn usable(self) -> bool {
        self.state.in_use() && self.consumer.is_none()
    }

    fn pack(self) -> u64 {
        let (domain, value) = match self.state {
            State::Free | State::Reserved | State::Ipi => (0, 0),
            State::Unbound { remote } => (remote.0, 0),
            State::Interdomain { remote, port } => (remote.0, port.0),
            State::Pirq(pirq) => (0, pirq.0),
            State::Virq(virq) => (0, virq.0),
        };
        let consumer = self.consumer.map_or(0, Consumer::get);
        u64::from(self.state.number())
            | u64::from(consumer) << CONSUMER_SHIFT
            | u64::from(domain) << DOMAIN_SHIFT
            | u64::from(value) << VALUE_SHIFT
    }

    #[allow(clippy::cast_possible_truncation)] // fields are cut out of the word on purpose
    fn unpack(word: u64) -> Self {
        let remote = DomId((word >> DOMAIN_SHIFT) as u16);
        let value = (word >> VALUE_SHIFT) as u32;
        let state = match word & 7 {
            1 => State::Reserved,
            2 => State::Unbound { remote },
            3 => State::Interdomain { remote, port: Port(value) },
            4 => State::Pirq(Pirq(value)),
            5 => State::Virq(Virq(value)),
            6 => State::Ipi,
            _ => State::Free,
        };
        Self { state, consumer: Consumer::new((word >> CONSUMER_SHIFT) as u8 & 7) }
    }
}

/// One port's record. Starts free, for vCPU 0.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    binding: AtomicU64,
    notify: AtomicU32,
}

impl Channel {
    pub fn binding(&self) -> Binding {
        // Acquire pairs with `set`: who sees a binding sees the notify vCPU stored before it.
        Binding::unpack(self.binding.load(Ordering::Acquire))
    }

    pub fn state(&self) -> State {
        self.binding().state
    }

    /// Changes the binding. The caller holds the write locks that the module's rules name.
    pub fn set(&self, binding: Binding) {
        // Release pairs with the load in `binding`.
        self.binding.store(binding.pack(), Ordering::Release);
    }

    /// The vCPU that is told of an event.
    pub fn vcpu(&self) -> VcpuId {
        VcpuId(self.notify.load(Ordering::Relaxed))
    }

    /// Changes the vCPU that is told; an event raised at the same time may use either.
    pub fn set_vcpu(&self, vcpu: VcpuId) {
        self.notify.store(vcpu.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_survives_packing() {
        let states = [
            State::Free,
            State::Reserved,
            State::Unbound { remote: DomId(0xffff) },
            State::Interdomain { remote: DomId(0x7fef), port: Port(131_071) },
            State::Pirq(Pirq(u32::MAX)),
            State::Virq(Virq(23)),
            State::Ipi,
        ];
        for state in states {
            for number in 0..=8 {
                let binding = Binding { state, consumer: Consumer::new(number) };
                assert_eq!(Binding::unpack(binding.pack()), binding);
            }
        }
    }

    #[test]
    fn only_seven_consumers_exist() {
        assert!(Consumer::new(0).is_none() && Consumer::new(8).is_none());
        assert!((1..=7).all(|number| Consumer::new(number).unwrap().get() == number));
    }

    #[test]
    fn a_record_is_sixteen_bytes() {
        assert_eq!(size_of::<Channel>(), 16);
    }
}
