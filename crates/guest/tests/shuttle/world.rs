// SPDX-License-Identifier: MIT OR Apache-2.0
//! What both hypervisors have in common, and the one that is the engine.

use std::sync::Mutex as Quiet;
use std::sync::atomic::AtomicBool as Flag;
use std::sync::atomic::AtomicU64 as Time;
use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{DomId, Errno, Gfn, Op, Port, VcpuId};
use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
use evtchn_guest::{Hypercall, InProcess, Kernel};
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::pages::{self, Memory, Page, VCPUS};

pub const SENDER: DomId = DomId(1);
const GUEST: DomId = DomId(2);
const V0: VcpuId = VcpuId(0);

/// Runs a test in random schedules, and in such as have few preemptions at the worst places.
pub fn check(run: impl Fn() + Copy + Send + Sync + 'static) {
    let asked = std::env::var("EVTCHN_SHUTTLE_ITERATIONS").ok();
    let iterations = asked.map_or(500, |asked| asked.parse().expect("EVTCHN_SHUTTLE_ITERATIONS is a number"));
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    Runner::new(RandomScheduler::new(iterations), config.clone()).run(run);
    Runner::new(PctScheduler::new(3, iterations), config).run(run);
}

/// A number below `end`, which belongs to the schedule.
pub fn below(end: u32) -> u32 {
    shuttle::rand::thread_rng().gen_range(0..end)
}

/// One of the sender's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Far(pub u32);

impl Far {
    /// What the guest calls it.
    pub fn port(self) -> Port {
        Port(self.0 + 1)
    }
}

/// The machine below the guest.
pub trait Xen: Hypercall + Kernel + Send + Sync + Sized + 'static {
    fn new(memory: Memory, has_fifo: bool) -> Self;

    /// The sender's port number `index`, which waits for the guest.
    fn offer(&self, index: u32) -> Far;

    /// The sender sends. Nothing happens while the guest is not connected.
    fn send_to(&self, far: Far);

    /// Whether the vCPU has been interrupted since the last time.
    fn take_interrupt(&self, vcpu: VcpuId) -> bool;

    /// A vCPU goes offline, or has gone.
    fn calm(&self, calm: bool);

    /// The guest is in another place: nothing is bound, and its pages are zero.
    fn move_away(&self);

    /// How many events of a port have come twice, since Xen's unmask raises what the guest takes at the same time.
    fn doubled(&self, port: Port) -> u32;

    fn clock(&self) -> &Clock;

    /// The books balance.
    fn validate(&self);
}

/// A clock that goes on by itself, and what was asked of it. No step of the schedule.
#[derive(Default)]
pub struct Clock {
    now: Time,
    deadlines: Quiet<Vec<(VcpuId, u64)>>,
}

impl Clock {
    pub fn tick(&self) -> u64 {
        self.now.fetch_add(1, SeqCst)
    }

    pub fn ask(&self, vcpu: VcpuId, deadline: u64) {
        self.deadlines.lock().unwrap().push((vcpu, deadline));
    }

    /// Goes on to the next deadline, and says whose it is.
    pub fn next(&self) -> Option<VcpuId> {
        let mut deadlines = self.deadlines.lock().unwrap();
        let index = (0..deadlines.len()).min_by_key(|&index| deadlines[index].1)?;
        let (vcpu, deadline) = deadlines.swap_remove(index);
        self.now.fetch_max(deadline, SeqCst);
        Some(vcpu)
    }
}

/// The engine.
pub struct Real {
    engine: Engine<Vmm>,
    memory: Memory,
    has_fifo: bool,
    clock: Clock,
}

/// The engine's embedder.
pub struct Vmm {
    memory: Memory,
    interrupts: [Flag; VCPUS as usize],
}

impl Hooks for Vmm {
    type Page = Page;

    fn deliver(&self, domain: DomId, vcpu: VcpuId, _: Upcall) {
        if domain == GUEST {
            self.interrupts[vcpu.0 as usize].store(true, SeqCst);
        }
    }

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, _: DomId, gfn: Gfn) -> Option<Page> {
        pages::page(&self.memory, gfn)
    }
}

impl Real {
    fn start_guest(&self) {
        let config = DomainConfig { fifo: self.has_fifo, max_port: Some(15), ..DomainConfig::guest(VCPUS) };
        self.engine.create_domain(GUEST, config).unwrap();
        self.engine.set_shared_info(GUEST, Some(self.memory.shared_info.clone())).unwrap();
    }

    fn guest(&self) -> InProcess<&Engine<Vmm>> {
        InProcess::new(&self.engine, GUEST, V0)
    }
}

impl Xen for Real {
    fn new(memory: Memory, has_fifo: bool) -> Self {
        let interrupts = std::array::from_fn(|_| Flag::new(false));
        let engine = Engine::new(Vmm { memory: memory.clone(), interrupts });
        engine.create_domain(SENDER, DomainConfig::guest(1)).unwrap();
        let real = Self { engine, memory, has_fifo, clock: Clock::default() };
        real.start_guest();
        real
    }

    fn offer(&self, index: u32) -> Far {
        let port = self.engine.alloc_unbound(SENDER, DomId::SELF, GUEST).unwrap();
        assert_eq!(port, Far(index).port());
        Far(index)
    }

    fn send_to(&self, far: Far) {
        self.engine.send(SENDER, far.port()).unwrap();
    }

    fn take_interrupt(&self, vcpu: VcpuId) -> bool {
        self.engine.hooks().interrupts[vcpu.0 as usize].swap(false, SeqCst)
    }

    fn calm(&self, _: bool) {}

    fn move_away(&self) {
        self.engine.destroy_domain(GUEST).unwrap();
        pages::clear_shared_info(&self.memory);
        self.start_guest();
    }

    fn doubled(&self, _: Port) -> u32 {
        0
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn validate(&self) {
        self.engine.validate().unwrap();
    }
}

impl Hypercall for Real {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        self.guest().event_channel_op(op, arg)
    }
}

impl Kernel for Real {
    fn now(&self) -> u64 {
        self.clock.tick()
    }

    fn expire_at(&self, vcpu: VcpuId, deadline: u64) {
        self.clock.ask(vcpu, deadline);
    }
}
