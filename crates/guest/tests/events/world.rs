// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest with a table of channels, on the engine, and a domain that sends to it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use evtchn_abi::{DomId, Errno, Gfn, Layout, Op, PhysdevOp, Port, VcpuId};
use evtchn_engine::test_utils::Recorder;
use evtchn_engine::{DomainConfig, Engine};
use evtchn_guest::{
    Answer, Auto, Event, Events, FifoVcpu, Frame, Frames, Hypercall, InProcess, Kernel, Limits, Settings,
    Table, TwoLevelVcpu,
};
use evtchn_sync::HeapPage;

pub const SENDER: DomId = DomId(1);
pub const GUEST: DomId = DomId(2);
pub const V0: VcpuId = VcpuId(0);
pub const V1: VcpuId = VcpuId(1);
const VCPUS: u32 = 2;
const CHANNELS: usize = 8;
const PORTS: usize = 64;

pub type Handler = Box<dyn FnMut(&Event<'_>) -> Answer + Send>;
type Memory = Arc<Frames<Arc<HeapPage>, Vec<Frame<Arc<HeapPage>>>>>;
type Abi = Auto<Memory, [TwoLevelVcpu; VCPUS as usize], [FifoVcpu; VCPUS as usize]>;
pub type Guest = Events<Abi, Arc<Machine>, Box<Table<Handler, CHANNELS, PORTS, { VCPUS as usize }>>>;

/// Which ABI the guest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    TwoLevel,
    Fifo,
}

pub const BOTH: [Kind; 2] = [Kind::TwoLevel, Kind::Fifo];

/// The machine as the guest's kernel sees it: hypercalls, and a clock that the test sets.
pub struct Machine {
    pub engine: Engine<Recorder>,
    pub now: AtomicU64,
    pub deadlines: Mutex<Vec<(VcpuId, u64)>>,
    calls: AtomicU32,
    ends: AtomicU32,
    interruption: Mutex<Option<(Op, Interruption)>>,
}

/// What happens just before a hypercall.
type Interruption = Box<dyn FnOnce() + Send>;

impl Machine {
    fn guest(&self) -> InProcess<&Engine<Recorder>> {
        InProcess::new(&self.engine, GUEST, V0)
    }

    fn start_guest(&self, memory: &Memory, kind: Kind) {
        let fifo = kind == Kind::Fifo;
        let config = DomainConfig { nr_pirqs: 16, fifo, ..DomainConfig::guest(VCPUS) };
        self.engine.create_domain(GUEST, config).unwrap();
        self.engine.set_shared_info(GUEST, Some(memory.shared_info.clone())).unwrap();
    }

    /// How many hypercalls the guest has made since the last time.
    pub fn take_calls(&self) -> u32 {
        self.calls.swap(0, SeqCst)
    }

    /// How many ends of physical interrupts Xen has been told of since the last time.
    pub fn take_ends(&self) -> u32 {
        self.ends.swap(0, SeqCst)
    }

    /// The next hypercall of this kind is interrupted before Xen gets it.
    pub fn interrupt(&self, op: Op, what: impl FnOnce() + Send + 'static) {
        *self.interruption.lock().unwrap() = Some((op, Box::new(what)));
    }

    pub fn take_deadlines(&self) -> Vec<(VcpuId, u64)> {
        std::mem::take(&mut self.deadlines.lock().unwrap())
    }
}

impl Hypercall for Machine {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        self.calls.fetch_add(1, SeqCst);
        let interruption = self.interruption.lock().unwrap().take_if(|(at, _)| *at == op);
        if let Some((_, interrupt)) = interruption {
            interrupt();
        }
        self.guest().event_channel_op(op, arg)
    }

    fn physdev_op(&self, op: PhysdevOp, arg: &mut [u8]) -> Result<(), Errno> {
        if op == PhysdevOp::EOI {
            self.ends.fetch_add(1, SeqCst);
        }
        self.guest().physdev_op(op, arg)
    }
}

impl Kernel for Machine {
    fn now(&self) -> u64 {
        self.now.load(SeqCst)
    }

    fn expire_at(&self, vcpu: VcpuId, deadline: u64) {
        self.deadlines.lock().unwrap().push((vcpu, deadline));
    }
}

/// Everything.
pub struct World {
    pub machine: Arc<Machine>,
    pub guest: Arc<Guest>,
    memory: Memory,
    kind: Kind,
}

impl World {
    pub fn new(kind: Kind) -> Self {
        Self::with_limits(kind, Limits::LINUX)
    }

    pub fn with_limits(kind: Kind, limits: Limits) -> Self {
        let engine = Engine::new(Recorder::default());
        let frame = |gfn| Frame { page: engine.hooks().frame(GUEST, Gfn(gfn)), gfn: Gfn(gfn) };
        let memory = Arc::new(Frames {
            layout: &Layout::X86_64,
            shared_info: Arc::new(HeapPage::new()),
            vcpu_infos: vec![],
            control_blocks: vec![frame(1)],
            event_array: vec![frame(2)],
        });
        engine.create_domain(SENDER, DomainConfig::guest(1)).unwrap();
        engine.set_shared_info(SENDER, Some(Arc::new(HeapPage::new()))).unwrap();
        let machine = Machine {
            engine,
            now: AtomicU64::new(1),
            deadlines: Mutex::default(),
            calls: AtomicU32::new(0),
            ends: AtomicU32::new(0),
            interruption: Mutex::default(),
        };
        let machine = Arc::new(machine);
        machine.start_guest(&memory, kind);
        let abi = Auto::new(memory.clone(), Default::default(), Default::default());
        let guest = Events::new(abi, machine.clone(), Box::new(Table::new())).with_limits(limits);
        guest.start();
        for vcpu in [V0, V1] {
            guest.online(vcpu).unwrap();
        }
        machine.take_calls();
        Self { machine, guest: Arc::new(guest), memory, kind }
    }

    /// The guest is saved, and restored as a new domain: nothing of the old one's channels is left.
    pub fn migrate(&self) {
        self.machine.engine.destroy_domain(GUEST).unwrap();
        self.memory.shared_info.clear();
        self.machine.start_guest(&self.memory, self.kind);
    }

    /// A port of the sender's that waits for the guest.
    pub fn offer(&self) -> Port {
        self.machine.engine.alloc_unbound(SENDER, DomId::SELF, GUEST).unwrap()
    }

    pub fn send(&self, near: Port) {
        self.machine.engine.send(SENDER, near).unwrap();
    }

    /// A channel from the sender whose handler says what `answer` says, and counts: the sender's port, the channel, the count.
    pub fn channel(&self, settings: Settings, answer: Answer) -> (Port, evtchn_guest::ChannelId, Count) {
        let (count, handler) = counting(answer);
        let near = self.offer();
        let channel = self.guest.bind_interdomain(SENDER, near, settings, handler).unwrap();
        self.upcalls();
        count.take();
        (near, channel, count)
    }

    /// Both vCPUs take what there is.
    pub fn upcalls(&self) {
        for vcpu in [V0, V1] {
            let _ = self.guest.upcall(vcpu);
        }
    }

    pub fn set_time(&self, now: u64) {
        self.machine.now.store(now, SeqCst);
    }
}

/// How often a handler was called.
#[derive(Clone, Default)]
pub struct Count(Arc<AtomicU32>);

impl Count {
    pub fn take(&self) -> u32 {
        self.0.swap(0, SeqCst)
    }

    pub fn add(&self) -> u32 {
        self.0.fetch_add(1, SeqCst) + 1
    }
}

/// A handler that counts.
pub fn counting(answer: Answer) -> (Count, Handler) {
    let count = Count::default();
    let handler = count.clone();
    (
        count,
        Box::new(move |_| {
            handler.add();
            answer
        }),
    )
}
