// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the engine keeps of a domain.

use alloc::boxed::Box;

use evtchn_abi::fifo::{NR_CHANNELS, Priority};
use evtchn_abi::{DomId, NR_VIRQS, Pirq, Port, VcpuId, Virq};
use evtchn_sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use evtchn_sync::{
    Guard, Mutex, MutexGuard, Once, Page, Published, enter, no_readers, relax, wait_for_readers,
};

use crate::callback::CallbackCell;
use crate::channel::{Binding, Channel, MAX_VCPUS, QueueId, State};
use crate::config::{DomainConfig, DomainKind, Width};
use crate::error::OpError;
use crate::fifo::Fifo;
use crate::poll::PollSlot;
use crate::ports::Ports;
use crate::quarantine::Quarantine;
use crate::table::{Channels, filled};
use crate::timer::Timers;
use crate::vcpu_info::Area;

/// What the event lock of a domain guards, besides the bindings in the records.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Which ports are free.
    pub ports: Ports,
    /// Which are closed, but not free yet.
    pub quarantine: Quarantine,
    /// Where a reset goes on that gave way; `None` while there is none.
    pub reset: Option<Port>,
    /// No more ports: the domain is being destroyed.
    pub dying: bool,
    /// Where its destruction goes on, if that gave way.
    pub teardown: Option<Port>,
    /// How many times the FIFO ABI was given up with readers that may use it still.
    pub leaving: u32,
    /// How many switches to FIFO have not collected the two-level bits yet.
    pub collecting: u32,
}

/// What the engine keeps of a vCPU.
#[derive(Debug)]
pub(crate) struct Vcpu<P> {
    virqs: [AtomicU32; NR_VIRQS as usize],
    pub poll: PollSlot,
    /// Its vcpu_info, if the guest has registered one. Changed under the event lock.
    pub area: Published<Box<Area<P>>>,
    /// Its own vector for upcalls; 0 for none.
    pub upcall_vector: AtomicU8,
    pub timers: Mutex<Timers>,
}

impl<P> Vcpu<P> {
    fn new() -> Self {
        Self {
            virqs: core::array::from_fn(|_| AtomicU32::new(0)),
            poll: PollSlot::new(),
            area: Published::new(None),
            upcall_vector: AtomicU8::new(0),
            timers: Mutex::new(Timers::default()),
        }
    }

    /// The port that a VIRQ is bound to here.
    pub fn virq(&self, virq: Virq) -> Option<Port> {
        self.virqs.get(virq.0 as usize).and_then(port_in)
    }

    /// Sets a VIRQ's port, 0 for none; under the domain's event lock.
    pub fn set_virq(&self, virq: Virq, port: Port) {
        if let Some(entry) = self.virqs.get(virq.0 as usize) {
            // Release pairs with the acquire in `port_in`: the port's record was filled before.
            entry.store(port.0, Ordering::Release);
        }
    }
}

/// More PIRQs than this no domain has: their table is made at once.
pub(crate) const MAX_PIRQS: u32 = 1 << 20;

/// The PIRQ's line may be shared, as its guest said.
const SHARES: u32 = 1 << 31;

/// The port in an entry of a VIRQ or PIRQ table; 0 is none.
fn port_in(entry: &AtomicU32) -> Option<Port> {
    // Acquire pairs with the release of whoever sets the entry.
    port_number(entry.load(Ordering::Acquire))
}

/// The port that a number in an entry stands for.
pub(crate) fn port_number(entry: u32) -> Option<Port> {
    let port = entry & !SHARES;
    (port != 0).then_some(Port(port))
}

/// A domain.
#[derive(Debug)]
pub(crate) struct Domain<P> {
    pub id: DomId,
    /// The page with the vcpu_infos of the first vCPUs and, in the two-level ABI, the ports' bits.
    pub shared_info: Published<Box<P>>,
    /// What the FIFO ABI has; none while the domain is two-level.
    pub fifo: Published<Box<Fifo<P>>>,
    /// How many vCPUs are in a poll.
    pub pollers: AtomicU32,
    width: AtomicU8,
    paused: AtomicBool,
    gone: AtomicBool,
    /// Are there ports in quarantine? A hint: the list is under the event lock.
    has_quarantine: AtomicBool,
    /// An EOI of a PIRQ unmasks its port.
    auto_unmask: AtomicBool,
    /// Where to send when the domain has suspended; 0 for nowhere.
    suspend_port: AtomicU32,
    pub vcpus: Box<[Vcpu<P>]>,
    /// How the vCPUs of a hardware-assisted domain learn of events.
    pub callback: CallbackCell,
    pub event: Mutex<Events>,
    pub config: DomainConfig,
    pirqs: Once<Box<[AtomicU32]>>,
    pub channels: Channels,
}

impl<P> Domain<P> {
    pub fn new(id: DomId, config: DomainConfig) -> Result<Self, OpError> {
        if config.vcpus == 0 || config.vcpus > MAX_VCPUS || config.nr_pirqs > MAX_PIRQS {
            return Err(OpError::Invalid);
        }
        let vcpus = filled(config.vcpus as usize, Vcpu::new).ok_or(OpError::OutOfMemory)?;
        let channels = Channels::new();
        let mut events = Events::default();
        events.ports.grow(&channels)?;
        events.ports.reserve_zero();
        if let Some(zero) = channels.get(Port(0)) {
            zero.set(Binding::guest(State::Reserved));
        }
        Ok(Self {
            id,
            shared_info: Published::new(None),
            fifo: Published::new(None),
            pollers: AtomicU32::new(0),
            width: AtomicU8::new(config.width as u8),
            paused: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            has_quarantine: AtomicBool::new(false),
            auto_unmask: AtomicBool::new(false),
            suspend_port: AtomicU32::new(0),
            vcpus,
            callback: CallbackCell::new(),
            event: Mutex::new(events),
            config,
            pirqs: Once::new(),
            channels,
        })
    }

    /// The port's record.
    ///
    /// # Errors
    /// EINVAL if there is none.
    #[inline]
    pub fn channel(&self, port: Port) -> Result<&Channel, OpError> {
        self.channels.get(port).ok_or(OpError::NoPort)
    }

    /// The vCPU's record.
    ///
    /// # Errors
    /// ENOENT if there is none.
    pub fn vcpu(&self, vcpu: VcpuId) -> Result<&Vcpu<P>, OpError> {
        self.vcpus.get(vcpu.0 as usize).ok_or(OpError::NoVcpu)
    }

    /// The width that the guest uses now.
    #[inline]
    pub fn width(&self) -> Width {
        if self.width.load(Ordering::Relaxed) == Width::Bits32 as u8 { Width::Bits32 } else { Width::Bits64 }
    }

    /// Changes the width, and waits until nobody uses the other one.
    pub fn set_width(&self, width: Width) {
        self.width.store(width as u8, Ordering::Relaxed);
        wait_for_readers();
    }

    pub fn is_pv(&self) -> bool {
        self.config.kind == DomainKind::Pv
    }

    /// Was the domain destroyed? Its callers may still hold it.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub fn set_gone(&self) {
        // Release pairs with `is_gone`: all its ports are closed.
        self.gone.store(true, Ordering::Release);
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub fn auto_unmask(&self) -> bool {
        self.auto_unmask.load(Ordering::Relaxed)
    }

    pub fn set_auto_unmask(&self, on: bool) {
        self.auto_unmask.store(on, Ordering::Relaxed);
    }

    pub fn suspend_port(&self) -> Option<Port> {
        let port = self.suspend_port.load(Ordering::Acquire);
        (port != 0).then_some(Port(port))
    }

    pub fn set_suspend_port(&self, port: Port) {
        self.suspend_port.store(port.0, Ordering::Release); // as in `set_virq`
    }

    /// The port of a PIRQ.
    pub fn pirq(&self, pirq: Pirq) -> Option<Port> {
        self.pirqs.get()?.get(pirq.0 as usize).and_then(port_in)
    }

    /// Makes the PIRQ table, the first time. Under the event lock.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn need_pirqs(&self) -> Result<(), OpError> {
        if self.pirqs.get().is_none() {
            let len = self.config.nr_pirqs as usize;
            let table = filled(len, || AtomicU32::new(0)).ok_or(OpError::OutOfMemory)?;
            let _ = self.pirqs.set(table);
        }
        Ok(())
    }

    /// Did the guest agree to share the PIRQ's line?
    pub fn pirq_shares(&self, pirq: Pirq) -> bool {
        let entry = self.pirqs.get().and_then(|pirqs| pirqs.get(pirq.0 as usize));
        entry.is_some_and(|entry| entry.load(Ordering::Relaxed) & SHARES != 0)
    }

    /// Sets a PIRQ's port, 0 for none, and whether its line may be shared. Under the event lock.
    pub fn set_pirq(&self, pirq: Pirq, port: Port, shares: bool) {
        if let Some(entry) = self.pirqs.get().and_then(|pirqs| pirqs.get(pirq.0 as usize)) {
            let shares = if shares { SHARES } else { 0 };
            entry.store(port.0 | shares, Ordering::Release); // as in `set_virq`
        }
    }

    /// Opens an allocated port, with the priority that every port begins with.
    pub fn open(&self, port: Port, binding: Binding, vcpu: VcpuId) {
        if let Some(channel) = self.channels.get(port) {
            channel.set_target(QueueId { vcpu, priority: Priority::DEFAULT });
            channel.set(binding);
        }
    }

    /// How many ports the ABI in use has room for, port 0 included.
    pub fn nr_ports(&self) -> u32 {
        let all = self.fifo.is_some() || self.is_sink();
        if all { NR_CHANNELS } else { self.width().layout().nr_channels() }
    }
}

impl<P: Page> Domain<P> {
    /// Locks the domain for an allocation: if it has no free port, not before those that are in quarantine are free.
    /// Nothing is held while that takes long.
    pub fn lock_with_room(&self) -> MutexGuard<'_, Events> {
        loop {
            let mut events = self.event.lock();
            if events.quarantine.is_empty() {
                return events;
            }
            self.release_soon(&mut events);
            if events.quarantine.is_empty() || self.has_free_port(&events) {
                return events;
            }
            drop(events);
            wait_for_readers();
            relax();
        }
    }

    /// Runs an operation that allocates while it holds more than the domain's lock: again, if it found no port only
    /// because of the quarantine.
    pub fn with_room<R>(&self, operation: impl Fn() -> Result<R, OpError>) -> Result<R, OpError> {
        loop {
            if self.has_quarantine.load(Ordering::Relaxed) {
                drop(self.lock_with_room());
            }
            let result = operation();
            let only_waiting = || !self.event.lock().quarantine.is_empty();
            if !matches!(result, Err(OpError::NoSpace)) || !only_waiting() {
                return result;
            }
        }
    }

    /// Takes the lowest free port. Its record stays free until [`Domain::open`].
    ///
    /// # Errors
    /// EINVAL while dying, ENOSPC, ENOMEM.
    pub fn allocate(&self, events: &mut Events) -> Result<Port, OpError> {
        if events.dying {
            return Err(OpError::Dying);
        }
        events.ports.take_lowest(self.highest_port(), &self.channels, |port| self.is_busy(port))
    }

    fn has_free_port(&self, events: &Events) -> bool {
        events.ports.find_lowest(self.highest_port(), |port| self.is_busy(port)).is_ok()
    }

    /// Waits a little for readers, so that a guest mostly gets the port that it has just closed, as from Xen.
    fn release_soon(&self, events: &mut Events) {
        let Events { ports, quarantine, collecting, .. } = events;
        quarantine.release_soon(&self.channels, |port| self.release(ports, port, *collecting));
        self.note_quarantine(events);
    }

    /// The highest port that the domain may open.
    pub fn highest_port(&self) -> u32 {
        let highest = self.nr_ports() - 1;
        self.config.max_port.map_or(highest, |max| max.min(highest))
    }

    /// Waits, without a lock, for the ports that are in quarantine.
    pub fn settle(&self) {
        wait_for_readers();
        self.release_quarantine(&mut self.event.lock());
    }

    /// Frees a port's record and number. What is bound to it has been undone by the caller.
    pub fn free(&self, events: &mut Events, port: Port, channel: &Channel) {
        if channel.binding().consumer.is_some() {
            events.ports.count_xen(false);
        }
        channel.set(Binding::FREE);
        channel.set_vcpu(VcpuId(0));
        events.ports.count_closed();
        // First the look, then the bit: who is not found by the look either has set the bit already, or sees
        // that the port is closed.
        let free_at_once = no_readers();
        self.forget_event(port, channel, events.collecting);
        if free_at_once {
            events.ports.give_back(port);
        } else {
            events.quarantine.admit(port, &self.channels);
            self.has_quarantine.store(true, Ordering::Relaxed);
        }
        self.release_quarantine(events);
    }

    /// Frees closed ports that no reader can reach any more.
    pub fn release_quarantine(&self, events: &mut Events) {
        if events.quarantine.is_empty() {
            return;
        }
        let Events { ports, quarantine, collecting, .. } = events;
        quarantine.release(&self.channels, |port| self.release(ports, port, *collecting));
        self.note_quarantine(events);
    }

    /// The hint for those who do not hold the lock.
    fn note_quarantine(&self, events: &Events) {
        self.has_quarantine.store(!events.quarantine.is_empty(), Ordering::Relaxed);
    }

    fn release(&self, ports: &mut Ports, port: Port, collecting: u32) {
        if let Some(channel) = self.channels.get(port) {
            self.forget_event(port, channel, collecting);
        }
        ports.give_back(port);
    }

    /// Takes back what was pending on a closed port, kept events included; and its two-level bit, while the bits are
    /// still to be collected after a switch to FIFO.
    fn forget_event(&self, port: Port, channel: &Channel, collecting: u32) {
        let guard = enter();
        channel.take_saved();
        self.clear_pending(port, &guard);
        if collecting != 0 {
            self.clear_pending_bit(port, &guard);
        }
    }

    /// Is the port on a queue still, though it may be closed? Then it must not be handed out: its next
    /// owner's events would come on the old queue.
    pub fn is_busy(&self, port: Port) -> bool {
        self.fifo.is_some() && self.is_linked(port, &enter())
    }

    fn is_linked(&self, port: Port, guard: &Guard<'_>) -> bool {
        self.fifo.load(guard).and_then(|fifo| fifo.peek(port)).is_some_and(|word| word.is_linked())
    }
}
