// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the engine keeps of a domain.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use evtchn_abi::fifo::Priority;
use evtchn_abi::{DomId, NR_VIRQS, Pirq, Port, VcpuId, Virq};
use evtchn_sync::{Page, RwLock};

use crate::channel::{Binding, Channel, MAX_VCPUS, QueueId, State};
use crate::config::{DomainConfig, DomainKind, Width};
use crate::deliver::Pages;
use crate::error::OpError;
use crate::poll::PollSlot;
use crate::ports::Ports;
use crate::table::Channels;

/// What the event lock of a domain guards, besides the bindings in the records.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Which ports are free.
    pub ports: Ports,
    /// Where a reset goes on that gave way; `None` while there is none.
    pub reset: Option<Port>,
    /// No more ports: the domain is being destroyed.
    pub dying: bool,
    pirqs: Vec<Port>,
}

impl Events {
    /// The port of a PIRQ.
    pub fn pirq(&self, pirq: Pirq) -> Option<Port> {
        self.pirqs.get(pirq.0 as usize).copied().filter(|&port| port != Port(0))
    }

    /// Makes room for a PIRQ, whose number was checked against the domain's limit.
    pub fn reserve_pirq(&mut self, pirq: Pirq) -> Result<(), OpError> {
        let len = pirq.0 as usize + 1;
        if len > self.pirqs.len() {
            let more = len - self.pirqs.len();
            self.pirqs.try_reserve(more).map_err(|_| OpError::OutOfMemory)?;
            self.pirqs.resize(len, Port(0));
        }
        Ok(())
    }

    /// Sets a PIRQ's port; port 0 for none.
    pub fn set_pirq(&mut self, pirq: Pirq, port: Port) {
        if let Some(entry) = self.pirqs.get_mut(pirq.0 as usize) {
            *entry = port;
        }
    }
}

/// What the engine keeps of a vCPU.
#[derive(Debug)]
pub(crate) struct Vcpu {
    virqs: [AtomicU32; NR_VIRQS as usize],
    pub poll: PollSlot,
}

impl Vcpu {
    fn new() -> Self {
        Self { virqs: [const { AtomicU32::new(0) }; NR_VIRQS as usize], poll: PollSlot::new() }
    }

    /// The port that a VIRQ is bound to here. Stable under the domain's event lock.
    pub fn virq(&self, virq: Virq) -> Option<Port> {
        let port = self.virqs.get(virq.0 as usize)?.load(Ordering::Relaxed);
        (port != 0).then_some(Port(port))
    }

    /// Sets a VIRQ's port, 0 for none; under the domain's event lock for writing.
    pub fn set_virq(&self, virq: Virq, port: Port) {
        if let Some(entry) = self.virqs.get(virq.0 as usize) {
            entry.store(port.0, Ordering::Relaxed);
        }
    }
}

/// A domain.
#[derive(Debug)]
pub(crate) struct Domain<P> {
    pub id: DomId,
    pub config: DomainConfig,
    pub vcpus: Box<[Vcpu]>,
    pub channels: Channels,
    pub event: RwLock<Events>,
    /// What is shared with the guest, and how.
    pub pages: RwLock<Pages<P>>,
    /// How many vCPUs are in a poll.
    pub pollers: AtomicU32,
    paused: AtomicBool,
    width: AtomicU8,
}

impl<P> Domain<P> {
    pub fn new(id: DomId, config: DomainConfig) -> Result<Self, OpError> {
        if config.vcpus == 0 || config.vcpus > MAX_VCPUS {
            return Err(OpError::Invalid);
        }
        let mut vcpus = Vec::new();
        vcpus.try_reserve_exact(config.vcpus as usize).map_err(|_| OpError::OutOfMemory)?;
        vcpus.resize_with(config.vcpus as usize, Vcpu::new);
        let channels = Channels::new();
        let mut events = Events::default();
        events.ports.grow(&channels)?;
        events.ports.reserve_zero();
        if let Some(zero) = channels.get(Port(0)) {
            zero.set(Binding::guest(State::Reserved));
        }
        Ok(Self {
            id,
            vcpus: vcpus.into_boxed_slice(),
            channels,
            event: RwLock::new(events),
            pages: RwLock::new(Pages::default()),
            pollers: AtomicU32::new(0),
            paused: AtomicBool::new(false),
            width: AtomicU8::new(config.width as u8),
            config,
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
    pub fn vcpu(&self, vcpu: VcpuId) -> Result<&Vcpu, OpError> {
        self.vcpus.get(vcpu.0 as usize).ok_or(OpError::NoVcpu)
    }

    /// The width that the guest uses now.
    pub fn width(&self) -> Width {
        if self.width.load(Ordering::Relaxed) == Width::Bits32 as u8 { Width::Bits32 } else { Width::Bits64 }
    }

    pub fn set_width(&self, width: Width) {
        self.width.store(width as u8, Ordering::Relaxed);
    }

    pub fn is_pv(&self) -> bool {
        self.config.kind == DomainKind::Pv
    }

    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// The rule for operations that name a domain: oneself, one's device-model target, or any domain
    /// for a control domain.
    pub fn may_act_on(&self, other: &Self) -> bool {
        self.id == other.id || self.config.privileged || self.config.target == Some(other.id)
    }

    /// Opens an allocated port, with the priority that every port begins with.
    pub fn open(&self, port: Port, binding: Binding, vcpu: VcpuId) {
        if let Some(channel) = self.channels.get(port) {
            channel.set_target(QueueId { vcpu, priority: Priority::DEFAULT });
            channel.set(binding);
        }
    }
}

impl<P: Page> Domain<P> {
    /// Takes the lowest free port. Its record stays free until [`Domain::open`].
    ///
    /// # Errors
    /// EINVAL while dying, ENOSPC, ENOMEM.
    pub fn allocate(&self, events: &mut Events) -> Result<Port, OpError> {
        if events.dying {
            return Err(OpError::Dying);
        }
        let pages = self.pages.read();
        let highest = pages.nr_ports(self.width()) - 1;
        let highest = self.config.max_port.map_or(highest, |max| max.min(highest));
        events.ports.take_lowest(highest, &self.channels, |port| pages.is_busy(port))
    }

    /// Frees a port's record and number. What is bound to it has been undone by the caller.
    pub fn free(&self, events: &mut Events, port: Port, channel: &Channel) {
        if channel.binding().consumer.is_some() {
            events.ports.count_xen(false);
        }
        channel.set(Binding::FREE);
        channel.set_vcpu(VcpuId(0));
        channel.take_saved();
        self.clear_pending(port);
        events.ports.give_back(port);
    }
}
