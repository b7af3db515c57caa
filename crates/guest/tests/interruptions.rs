// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every operation of a table of channels, interrupted at every access to memory that is shared with Xen and at every hypercall,
//! by every other: as an interrupt on the same vCPU does, a thread that is scheduled in between, or another vCPU.
//!
//! Afterwards the channel must be as its user left it: an event that was sent last has been handled after it was sent, one more is
//! handled too, and a closed channel's handler has not run again.
//!
//! Not between two accesses to a channel's own state word: those orders are for a model checker.
#![allow(missing_docs)]

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use evtchn_abi::{DomId, Errno, Gfn, Layout, Op, Port, Priority, VcpuId};
use evtchn_engine::test_utils::Recorder;
use evtchn_engine::{DomainConfig, Engine};
use evtchn_guest::{
    Abi as _, Answer, Auto, ChannelId, Event, Events, FifoVcpu, Flow, Frame, Frames, Hypercall, InProcess,
    Kernel, Settings, Table, TwoLevelVcpu,
};
use evtchn_sync::atomic::{AtomicU8 as PageU8, AtomicU32 as PageU32, AtomicU64 as PageU64};
use evtchn_sync::{HeapPage, Page};

const SENDER: DomId = DomId(1);
const GUEST: DomId = DomId(2);
const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);

/// Interrupts at a step that was chosen before.
#[derive(Default)]
struct Steps {
    left: AtomicU32,
    interruption: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Steps {
    fn step(&self) {
        if self.left.load(SeqCst) > 0 && self.left.fetch_sub(1, SeqCst) == 1 {
            let interruption = self.interruption.lock().unwrap().take();
            interruption.unwrap()();
        }
    }
}

/// A page whose every access is a step.
struct Stepped(Arc<HeapPage>, Arc<Steps>);

impl Page for Stepped {
    fn u8(&self, offset: usize) -> Option<&PageU8> {
        self.1.step();
        self.0.u8(offset)
    }

    fn u32(&self, offset: usize) -> Option<&PageU32> {
        self.1.step();
        self.0.u32(offset)
    }

    fn u64(&self, offset: usize) -> Option<&PageU64> {
        self.1.step();
        self.0.u64(offset)
    }

    fn wrote(&self, _: usize) {
        self.1.step();
    }
}

struct Machine {
    engine: Engine<Recorder>,
    steps: Arc<Steps>,
    now: AtomicU64,
}

impl Hypercall for Machine {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        self.steps.step();
        let answer = InProcess::new(&self.engine, GUEST, V0).event_channel_op(op, arg);
        self.steps.step();
        answer
    }
}

impl Kernel for Machine {
    fn now(&self) -> u64 {
        self.now.load(SeqCst)
    }

    fn expire_at(&self, _: VcpuId, _: u64) {}
}

type Handler = Box<dyn FnMut(&Event<'_>) -> Answer + Send>;
type Memory = Arc<Frames<Stepped, Vec<Frame<Stepped>>>>;
type Guest =
    Events<Auto<Memory, [TwoLevelVcpu; 2], [FifoVcpu; 2]>, Arc<Machine>, Box<Table<Handler, 4, 64, 2>>>;

/// A connection from the other domain, and what its handler knows.
#[derive(Default)]
struct Connection {
    near: AtomicU32,
    sent: AtomicU32,
    /// How much had been sent when the handler ran last.
    seen: AtomicU32,
    is_running: AtomicBool,
    is_closed: AtomicBool,
    /// Its handler must not be called any more.
    is_over: AtomicBool,
}

#[derive(Clone)]
struct World {
    machine: Arc<Machine>,
    guest: Arc<Guest>,
    flow: Flow,
    current: Arc<Mutex<(ChannelId, Arc<Connection>)>>,
    vcpu_1_is_online: Arc<AtomicBool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Nothing,
    Mask,
    Unmask,
    MoveTo0,
    MoveTo1,
    Eoi,
    SpuriousEoi,
    Expire,
    Offline1,
    Online1,
    Raise,
    Upcall0,
    Upcall1,
    Unbind,
    Rebind,
    Prioritise,
}

use Act::*;

const ACTS: [Act; 16] = [
    Nothing,
    Mask,
    Unmask,
    MoveTo0,
    MoveTo1,
    Eoi,
    SpuriousEoi,
    Expire,
    Offline1,
    Online1,
    Raise,
    Upcall0,
    Upcall1,
    Unbind,
    Rebind,
    Prioritise,
];

impl World {
    fn new(fifo: bool, flow: Flow) -> Self {
        let engine = Engine::new(Recorder::default());
        let steps = Arc::new(Steps::default());
        let shared_info = Arc::new(HeapPage::new());
        let frame = |gfn| Frame {
            page: Stepped(engine.hooks().frame(GUEST, Gfn(gfn)), steps.clone()),
            gfn: Gfn(gfn),
        };
        let memory = Arc::new(Frames {
            layout: &Layout::X86_64,
            shared_info: Stepped(shared_info.clone(), steps.clone()),
            vcpu_infos: vec![],
            control_blocks: vec![frame(1)],
            event_array: vec![frame(2)],
        });
        engine.create_domain(SENDER, DomainConfig::guest(1)).unwrap();
        engine.set_shared_info(SENDER, Some(Arc::new(HeapPage::new()))).unwrap();
        engine.create_domain(GUEST, DomainConfig { fifo, ..DomainConfig::guest(2) }).unwrap();
        engine.set_shared_info(GUEST, Some(shared_info)).unwrap();
        let machine = Arc::new(Machine { engine, steps, now: AtomicU64::new(1) });
        let abi = Auto::new(memory, Default::default(), Default::default());
        let guest = Arc::new(Events::new(abi, machine.clone(), Box::new(Table::new())));
        guest.start();
        guest.online(V0).unwrap();
        guest.online(V1).unwrap();
        let first = bind(&machine, &guest, flow);
        let current = Arc::new(Mutex::new(first));
        Self { machine, guest, flow, current, vcpu_1_is_online: Arc::new(AtomicBool::new(true)) }
    }

    fn current(&self) -> (ChannelId, Arc<Connection>) {
        self.current.lock().unwrap().clone()
    }

    /// Does something; what it answers is for other tests.
    fn act(&self, act: Act) {
        let (channel, connection) = self.current();
        let guest = &self.guest;
        match act {
            Nothing => {}
            Mask => drop(guest.mask(channel)),
            Unmask => drop(guest.unmask(channel)),
            MoveTo0 => drop(guest.move_to(channel, V0)),
            MoveTo1 if self.vcpu_1_is_online.load(SeqCst) => drop(guest.move_to(channel, V1)),
            MoveTo1 => {}
            Eoi => drop(guest.eoi(channel, false)),
            SpuriousEoi => drop(guest.eoi(channel, true)),
            Expire => {
                self.machine.now.fetch_add(2_000_000_000, SeqCst);
                [V0, V1].into_iter().for_each(|vcpu| guest.expire(vcpu));
            }
            Offline1 => {
                if self.vcpu_1_is_online.swap(false, SeqCst) {
                    // A channel that is being moved is reported, and moved by its mover.
                    let _ = guest.offline(V1, V0);
                }
            }
            Online1 => {
                guest.online(V1).unwrap();
                self.vcpu_1_is_online.store(true, SeqCst);
            }
            Raise => {
                if !connection.is_closed.load(SeqCst) {
                    connection.sent.fetch_add(1, SeqCst);
                    // It is not connected any more if the channel has been closed.
                    let _ = self.machine.engine.send(SENDER, Port(connection.near.load(SeqCst)));
                }
            }
            Upcall0 => drop(guest.upcall(V0)),
            Upcall1 if self.vcpu_1_is_online.load(SeqCst) => drop(guest.upcall(V1)),
            Upcall1 => {}
            Unbind => {
                // An upcall that has been interrupted may be about to call it.
                let was_running = guest.is_running(channel);
                if guest.unbind(channel).is_ok() {
                    connection.is_closed.store(true, SeqCst);
                    connection.is_over.store(!was_running, SeqCst);
                }
            }
            Rebind => {
                self.act(Unbind);
                let new = bind(&self.machine, &self.guest, self.flow);
                *self.current.lock().unwrap() = new;
            }
            Prioritise => drop(guest.set_priority(channel, Priority(3))),
        }
    }

    /// Whatever held events back is over.
    fn settle(&self) {
        self.act(Online1);
        self.act(Unmask);
        for _ in 0..4 {
            [Expire, Upcall0, Upcall1, Eoi].into_iter().for_each(|act| self.act(act));
        }
    }

    fn check(&self, what: &str) {
        self.settle();
        let (channel, connection) = self.current();
        if connection.is_closed.load(SeqCst) {
            assert_eq!((self.guest.port(channel), self.guest.is_running(channel)), (None, false), "{what}");
            return;
        }
        let counts = || (connection.seen.load(SeqCst), connection.sent.load(SeqCst));
        assert_eq!(counts().0, counts().1, "{what}: the last event was lost");
        self.act(Raise);
        self.settle();
        assert_eq!(counts().0, counts().1, "{what}: it hears nothing any more");
        let port = self.guest.port(channel).unwrap();
        assert!(!self.guest.abi().is_masked(port), "{what}");
        assert_eq!(self.guest.channel(port), Some(channel), "{what}");
    }
}

fn bind(machine: &Arc<Machine>, guest: &Arc<Guest>, flow: Flow) -> (ChannelId, Arc<Connection>) {
    let near = machine.engine.alloc_unbound(SENDER, DomId::SELF, GUEST).unwrap();
    let connection = Arc::new(Connection::default());
    connection.near.store(near.0, SeqCst);
    // On vCPU 0 if the other is offline, or goes offline just now.
    let bound = [V1, V0].into_iter().find_map(|vcpu| {
        let settings = Settings { flow, ..Settings::on(vcpu) };
        guest.bind_interdomain(SENDER, near, settings, handler(&connection, flow)).ok()
    });
    let channel = bound.expect("vCPU 0 is always online");
    (channel, connection)
}

fn handler(connection: &Arc<Connection>, flow: Flow) -> Handler {
    let own = connection.clone();
    Box::new(move |_| {
        assert!(!own.is_over.load(SeqCst), "a closed channel's handler runs");
        assert!(!own.is_running.swap(true, SeqCst), "a handler runs twice at a time");
        own.seen.store(own.sent.load(SeqCst), SeqCst);
        own.is_running.store(false, SeqCst);
        if flow == Flow::LateEoi { Answer::Later } else { Answer::Done }
    })
}

/// May `inner` come in the middle of `outer`?
fn may_interrupt(outer: Act, inner: Act) -> bool {
    match outer {
        // A vCPU's upcalls do not nest, and it goes offline between them.
        Upcall0 => inner != Upcall0,
        Upcall1 => !matches!(inner, Upcall1 | Offline1 | Online1),
        Offline1 | Online1 => !matches!(inner, Offline1 | Online1 | Upcall1),
        _ => true,
    }
}

/// Interrupts `outer`, with `before` before it, at each of its steps by `inner`, an event and upcalls. How many steps it has.
fn interrupt(fifo: bool, flow: Flow, before: &[Act], outer: Act, inner: Act) -> u32 {
    for step in 1.. {
        let world = World::new(fifo, flow);
        world.settle();
        before.iter().for_each(|&act| world.act(act));
        let what = format!("fifo {fifo}, {flow:?}, {before:?}, {outer:?} at step {step} by {inner:?}");
        let (other, steps) = (world.clone(), world.machine.steps.clone());
        let rest = [inner, Raise, Upcall0, Upcall1];
        *steps.interruption.lock().unwrap() = Some(Box::new(move || {
            rest.into_iter().filter(|&act| may_interrupt(outer, act)).for_each(|act| other.act(act));
        }));
        steps.left.store(step, SeqCst);
        world.act(outer);
        steps.left.store(0, SeqCst);
        let was_interrupted = steps.interruption.lock().unwrap().take().is_none();
        world.check(&what);
        if !was_interrupted {
            return step - 1;
        }
    }
    unreachable!("an act has an end")
}

fn interrupt_all(fifo: bool, flow: Flow) {
    let befores: [&[Act]; 5] = [
        &[],
        &[Raise],
        &[Mask, Raise],
        &[Raise, Upcall1],
        &[Raise, Upcall1, SpuriousEoi, Raise, Upcall1, SpuriousEoi, Raise],
    ];
    let mut steps = 0;
    for before in befores {
        for outer in ACTS {
            for inner in ACTS.into_iter().filter(|&inner| may_interrupt(outer, inner)) {
                steps += interrupt(fifo, flow, before, outer, inner);
            }
        }
    }
    assert!(steps > 1_000, "{steps}");
}

#[test]
fn nothing_is_lost_by_an_interruption_with_the_two_level_abi() {
    [Flow::Edge, Flow::LateEoi].into_iter().for_each(|flow| interrupt_all(false, flow));
}

#[test]
fn nothing_is_lost_by_an_interruption_with_the_fifo_abi() {
    [Flow::Edge, Flow::LateEoi].into_iter().for_each(|flow| interrupt_all(true, flow));
}
