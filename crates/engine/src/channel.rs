// SPDX-License-Identifier: MIT OR Apache-2.0
//! One channel's record: what a port is bound to, and whom it notifies.
//!
//! A record is three atomics, so that it can be looked at without its domain's lock:
//!
//! ```text
//! binding (u64)  63            32 31         16 15     7 6    5      3 2    0
//!               | port/pirq/virq |    domid    |  zero  |peer|consumer| state |
//! notify  (u32)  31 ........... 4 3 ..... 0
//!               |      vCPU      |priority|     the queue that the next event goes to
//! last    (u32)  31    30 ...... 4 3 ..... 0
//!               |saved|  vCPU     |priority|    the queue that the port was linked on last
//! ```
//!
//! `peer` says that the other end is consumed by Xen, so that a send need not look at the record there. The
//! two-level ABI uses the vCPU of `notify` alone. A free port's upper half links it into the quarantine, if it is there.
//!
//! Rules (see [`crate::locks`]): a binding is written only under the event lock of its domain, and a
//! binding that is or becomes interdomain only under the event locks of both. It is read without any: one load
//! gives all that a send needs.

use core::num::NonZeroU8;

use evtchn_abi::fifo::Priority;
use evtchn_abi::{DomId, Pirq, Port, VcpuId, Virq};
use evtchn_sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::error::OpError;

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

    /// What a signal from this end leads to; `None` if the state has no other end.
    pub(crate) const fn route(self, peer_is_consumed: bool) -> Option<Route> {
        match self {
            Self::Interdomain { remote, port } if peer_is_consumed => Some(Route::Consumer(remote, port)),
            Self::Interdomain { remote, port } => Some(Route::Peer(remote, port)),
            Self::Ipi => Some(Route::Itself),
            Self::Unbound { .. } => Some(Route::Nobody),
            Self::Free | Self::Reserved | Self::Pirq(_) | Self::Virq(_) => None,
        }
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
    /// The other end is consumed by Xen.
    pub peer_is_consumed: bool,
}

/// What a send on a port leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The other end is raised.
    Peer(DomId, Port),
    /// The other end's consumer is called.
    Consumer(DomId, Port),
    /// The port itself is raised.
    Itself,
    /// Nobody is there yet: the event is dropped.
    Nobody,
}

const STATE_MASK: u64 = 7;
const INTERDOMAIN: u64 = 3;
const CONSUMER_SHIFT: u32 = 3;
const PEER_IS_CONSUMED: u64 = 1 << 6;
/// State, consumer and peer flag.
const KIND_MASK: u64 = 0x7f;
const DOMAIN_SHIFT: u32 = 16;
const VALUE_SHIFT: u32 = 32;

impl Binding {
    pub const FREE: Self = Self::guest(State::Free);

    /// A binding that the owning guest consumes.
    pub const fn guest(state: State) -> Self {
        Self { state, consumer: None, peer_is_consumed: false }
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
            | if self.peer_is_consumed { PEER_IS_CONSUMED } else { 0 }
            | u64::from(domain) << DOMAIN_SHIFT
            | u64::from(value) << VALUE_SHIFT
    }

    #[allow(clippy::cast_possible_truncation)] // fields are cut out of the word on purpose
    fn unpack(word: u64) -> Self {
        let remote = DomId((word >> DOMAIN_SHIFT) as u16);
        let value = (word >> VALUE_SHIFT) as u32;
        let state = match word & STATE_MASK {
            1 => State::Reserved,
            2 => State::Unbound { remote },
            3 => State::Interdomain { remote, port: Port(value) },
            4 => State::Pirq(Pirq(value)),
            5 => State::Virq(Virq(value)),
            6 => State::Ipi,
            _ => State::Free,
        };
        let consumer = Consumer::new((word >> CONSUMER_SHIFT) as u8 & 7);
        Self { state, consumer, peer_is_consumed: word & PEER_IS_CONSUMED != 0 }
    }

    /// What a send by the owning guest leads to.
    fn route(self) -> Result<Route, OpError> {
        if self.consumer.is_some() {
            return Err(OpError::XenOwned);
        }
        self.state.route(self.peer_is_consumed).ok_or(OpError::WrongState)
    }
}

/// One of a vCPU's sixteen queues of the FIFO ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId {
    pub vcpu: VcpuId,
    pub priority: Priority,
}

/// More vCPUs than this no domain has, as in Xen.
pub(crate) const MAX_VCPUS: u32 = 1 << 13;

const PRIORITY_MASK: u32 = 0xf;
const VCPU_SHIFT: u32 = 4;
const QUEUE_MASK: u32 = (MAX_VCPUS - 1) << VCPU_SHIFT | PRIORITY_MASK;
const SAVED: u32 = 1 << 31;

impl QueueId {
    fn pack(self) -> u32 {
        (self.vcpu.0 << VCPU_SHIFT | u32::from(self.priority.0)) & QUEUE_MASK
    }

    #[allow(clippy::cast_possible_truncation)] // the field is cut out of the word on purpose
    fn unpack(word: u32) -> Self {
        let vcpu = VcpuId((word & QUEUE_MASK) >> VCPU_SHIFT);
        Self { vcpu, priority: Priority((word & PRIORITY_MASK) as u8) }
    }
}

/// One port's record. Starts free, for vCPU 0.
#[derive(Debug)]
pub(crate) struct Channel {
    binding: AtomicU64,
    notify: AtomicU32,
    last: AtomicU32,
}

impl Default for Channel {
    fn default() -> Self {
        Self { binding: AtomicU64::new(0), notify: AtomicU32::new(0), last: AtomicU32::new(0) }
    }
}

impl Channel {
    pub fn binding(&self) -> Binding {
        // Acquire pairs with `set`: who sees a binding sees the notify vCPU stored before it.
        Binding::unpack(self.binding.load(Ordering::Acquire))
    }

    pub fn state(&self) -> State {
        self.binding().state
    }

    /// What a send by the owning guest leads to.
    ///
    /// # Errors
    /// EINVAL if the port cannot be sent on, or belongs to Xen.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // fields are cut out of the word on purpose
    pub fn route(&self) -> Result<Route, OpError> {
        // Acquire pairs with `set`.
        let word = self.binding.load(Ordering::Acquire);
        if word & KIND_MASK == INTERDOMAIN {
            return Ok(Route::Peer(DomId((word >> DOMAIN_SHIFT) as u16), Port((word >> VALUE_SHIFT) as u32)));
        }
        Binding::unpack(word).route()
    }

    /// Changes the binding. The caller holds the event locks that the module's rules name.
    pub fn set(&self, binding: Binding) {
        // Release pairs with the loads in `binding` and `route`. That senders of before use the old one is the
        // quarantine's business.
        self.binding.store(binding.pack(), Ordering::Release);
    }

    /// Makes a free port the one before `next` in the quarantine.
    pub fn set_next_in_quarantine(&self, next: Option<Port>) {
        let next = next.map_or(0, |port| port.0);
        self.binding.store(Binding::FREE.pack() | u64::from(next) << VALUE_SHIFT, Ordering::Release);
    }

    /// The port after this one in the quarantine.
    #[allow(clippy::cast_possible_truncation)] // the field is cut out of the word on purpose
    pub fn next_in_quarantine(&self) -> Option<Port> {
        let next = (self.binding.load(Ordering::Relaxed) >> VALUE_SHIFT) as u32;
        (next != 0).then_some(Port(next))
    }

    /// The vCPU that is told of an event, and the priority: one load, so they belong together.
    pub fn target(&self) -> QueueId {
        QueueId::unpack(self.notify.load(Ordering::Relaxed))
    }

    /// The vCPU that is told of an event.
    pub fn vcpu(&self) -> VcpuId {
        self.target().vcpu
    }

    /// Changes both; an event raised at the same time may use either. Under the event lock,
    /// as the next two.
    pub fn set_target(&self, target: QueueId) {
        self.notify.store(target.pack(), Ordering::Relaxed);
    }

    /// Changes the vCPU that is told.
    pub fn set_vcpu(&self, vcpu: VcpuId) {
        self.set_target(QueueId { vcpu, ..self.target() });
    }

    /// Changes the priority of events linked from now on.
    pub fn set_priority(&self, priority: Priority) {
        self.set_target(QueueId { priority, ..self.target() });
    }

    /// The queue that the port was linked on last. Survives a close, as the queue's tail does.
    pub fn last_queue(&self) -> QueueId {
        // SeqCst: see `fifo::Fifo::link`, which relies on the order of this and the event word.
        QueueId::unpack(self.last.load(Ordering::SeqCst))
    }

    /// Changes it. Only under the locks of the queue that it was and the queue that it becomes.
    pub fn set_last_queue(&self, queue: QueueId) {
        // Not a plain store: a sender that holds neither lock may set the saved flag.
        let put = |last| Some(last & SAVED | queue.pack());
        let _ = self.last.fetch_update(Ordering::SeqCst, Ordering::SeqCst, put);
    }

    /// Keeps an event for which there is no array page yet.
    pub fn save_event(&self) {
        self.last.fetch_or(SAVED, Ordering::SeqCst);
    }

    /// Takes a kept event away; whether there was one.
    pub fn take_saved(&self) -> bool {
        self.last.fetch_and(!SAVED, Ordering::SeqCst) & SAVED != 0
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
                let consumer = Consumer::new(number);
                for peer_is_consumed in [false, true] {
                    let binding = Binding { state, consumer, peer_is_consumed };
                    assert_eq!(Binding::unpack(binding.pack()), binding);
                }
            }
        }
    }

    #[test]
    fn a_port_in_quarantine_is_free_and_knows_the_next() {
        let channel = Channel::default();
        channel.set_next_in_quarantine(Some(Port(131_071)));
        assert_eq!((channel.state(), channel.next_in_quarantine()), (State::Free, Some(Port(131_071))));
        channel.set_next_in_quarantine(None);
        assert_eq!((channel.state(), channel.next_in_quarantine()), (State::Free, None));
    }

    #[test]
    fn the_route_of_a_send_is_that_of_its_binding() {
        let channel = Channel::default();
        let route = |state, peer_is_consumed| {
            channel.set(Binding { state, consumer: None, peer_is_consumed });
            channel.route()
        };
        let joined = State::Interdomain { remote: DomId(7), port: Port(131_071) };
        assert_eq!(route(joined, false), Ok(Route::Peer(DomId(7), Port(131_071))));
        assert_eq!(route(joined, true), Ok(Route::Consumer(DomId(7), Port(131_071))));
        assert_eq!(route(State::Ipi, false), Ok(Route::Itself));
        assert_eq!(route(State::Unbound { remote: DomId(3) }, false), Ok(Route::Nobody));
        for state in [State::Free, State::Reserved, State::Pirq(Pirq(3)), State::Virq(Virq(3))] {
            assert_eq!(route(state, false), Err(OpError::WrongState));
        }
        channel.set(Binding { state: joined, consumer: Consumer::new(1), peer_is_consumed: false });
        assert_eq!(channel.route(), Err(OpError::XenOwned));
    }

    #[test]
    fn only_seven_consumers_exist() {
        assert!(Consumer::new(0).is_none() && Consumer::new(8).is_none());
        assert!((1..=7).all(|number| Consumer::new(number).unwrap().get() == number));
    }

    #[test]
    fn a_records_vcpu_priority_queue_and_flag_are_independent() {
        let channel = Channel::default();
        let queue = |vcpu, priority| QueueId { vcpu: VcpuId(vcpu), priority: Priority(priority) };
        assert_eq!((channel.target(), channel.last_queue()), (queue(0, 0), queue(0, 0)));
        channel.set_priority(Priority::LOWEST);
        channel.set_vcpu(VcpuId(MAX_VCPUS - 1));
        assert_eq!(channel.target(), queue(MAX_VCPUS - 1, 15));
        channel.save_event();
        channel.set_last_queue(queue(MAX_VCPUS - 1, 15));
        assert_eq!(channel.last_queue(), queue(MAX_VCPUS - 1, 15));
        channel.set_last_queue(queue(3, 0));
        assert_eq!(channel.last_queue(), queue(3, 0));
        assert!(channel.take_saved() && !channel.take_saved());
        assert_eq!(channel.last_queue(), queue(3, 0));
    }

    #[test]
    fn a_record_is_sixteen_bytes() {
        assert_eq!(size_of::<Channel>(), 16);
    }
}
