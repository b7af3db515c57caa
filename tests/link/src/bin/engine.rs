// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine in a hypervisor without an operating system: an event with each ABI, by the raw door.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use evtchn_abi::args::{AllocUnbound, BindInterdomain, ExpandArray, InitControl, Send, Unmask};
use evtchn_abi::fifo::{ControlBlock, LINKED, PENDING, Priority, WORD_SIZE};
use evtchn_abi::{CStruct, DomId, Errno, Gfn, Layout, Op, Port, VcpuId};
use evtchn_engine::{DomainConfig, Engine, Hooks, Outcome, PollOutcome, Upcall};
use evtchn_link::{Heap, check, program};
use evtchn_sync::{HeapPage, Page};

program!(&[two_level, fifo, poll, refused, allocated]);

#[global_allocator]
static HEAP: Heap = Heap::new();

const SENDER: DomId = DomId(1);
const GUEST: DomId = DomId(2);
const V0: VcpuId = VcpuId(0);

/// The guest's memory: one frame after the other.
static FRAMES: [HeapPage; 6] = [const { HeapPage::new() }; 6];
/// How often the guest was interrupted, and how often woken from a poll.
static UPCALLS: AtomicU32 = AtomicU32::new(0);
static WAKES: AtomicU32 = AtomicU32::new(0);

struct Hypervisor;

impl Hooks for Hypervisor {
    type Page = &'static HeapPage;

    fn deliver(&self, domain: DomId, _: VcpuId, _: Upcall) {
        if domain == GUEST {
            UPCALLS.fetch_add(1, SeqCst);
        }
    }

    fn wake_poller(&self, _: DomId, _: VcpuId) {
        WAKES.fetch_add(1, SeqCst);
    }

    fn pin(&self, _: DomId, gfn: Gfn) -> Option<&'static HeapPage> {
        FRAMES.get(usize::try_from(gfn.0).ok()?)
    }
}

/// Both domains; the guest's shared_info is this frame.
fn engine(shared_info: &'static HeapPage) -> Option<Engine<Hypervisor>> {
    let engine = Engine::new(Hypervisor);
    for id in [SENDER, GUEST] {
        engine.create_domain(id, DomainConfig::default()).ok()?;
    }
    engine.set_shared_info(GUEST, Some(shared_info)).ok()?;
    Some(engine)
}

/// A hypercall as a guest makes it; its argument as it came back.
fn call<A: CStruct>(engine: &Engine<Hypervisor>, caller: DomId, op: Op, arg: &A) -> Option<A> {
    let mut bytes = arg.to_bytes();
    let outcome = engine.event_channel_op(caller, op.0, 0, bytes.as_mut());
    check(outcome == Outcome::Done(0))?;
    Some(A::from_bytes(bytes))
}

/// Connects the sender with the guest: their ports.
fn connect(engine: &Engine<Hypervisor>) -> Option<(Port, Port)> {
    let open = AllocUnbound { dom: DomId::SELF, remote_dom: SENDER, ..Default::default() };
    let far = call(engine, GUEST, Op::ALLOC_UNBOUND, &open)?.port;
    let bind = BindInterdomain { remote_dom: GUEST, remote_port: far, ..Default::default() };
    Some((call(engine, SENDER, Op::BIND_INTERDOMAIN, &bind)?.local_port, far))
}

fn two_level() -> Option<()> {
    let page = FRAMES.first()?;
    let engine = engine(page)?;
    let (near, far) = connect(&engine)?;
    let before = UPCALLS.load(SeqCst);
    call(&engine, SENDER, Op::SEND, &Send { port: near })?;
    check(UPCALLS.load(SeqCst) == before + 1)?;

    let layout = Layout::X86_64;
    let (word, bit) = layout.word_and_bit(far)?;
    let pending = page.u64(layout.pending_word(word)?)?.load(SeqCst);
    check(pending == 1 << bit && page.u8(layout.upcall_pending)?.load(SeqCst) == 1)?;
    engine.validate().ok()?;
    engine.destroy_domain(GUEST).ok()??;
    check(!engine.domain_exists(GUEST))
}

fn fifo() -> Option<()> {
    let engine = engine(FRAMES.get(1)?)?;
    let (control, array) = (FRAMES.get(2)?, FRAMES.get(3)?);
    call(&engine, GUEST, Op::INIT_CONTROL, &InitControl { control_gfn: Gfn(2), ..Default::default() })?;
    call(&engine, GUEST, Op::EXPAND_ARRAY, &ExpandArray { array_gfn: Gfn(3) })?;
    let (near, far) = connect(&engine)?;
    call(&engine, SENDER, Op::SEND, &Send { port: near })?;

    let word = array.u32(far.0 as usize * WORD_SIZE)?.load(SeqCst);
    let head = control.u32(ControlBlock::head(Priority::DEFAULT)?)?.load(SeqCst);
    let ready = control.u32(ControlBlock::READY)?.load(SeqCst);
    check(word == PENDING | LINKED && head == far.0 && ready == Priority::DEFAULT.ready_bit())?;
    engine.validate().ok()
}

fn poll() -> Option<()> {
    let engine = engine(FRAMES.get(4)?)?;
    let (near, far) = connect(&engine)?;
    check(engine.sched_poll(GUEST, V0, &[far]) == Ok(PollOutcome::Sleep))?;
    let before = WAKES.load(SeqCst);
    engine.send(SENDER, near).ok()?;
    check(WAKES.load(SeqCst) == before + 1 && !engine.is_polling(GUEST, V0))
}

fn refused() -> Option<()> {
    let engine = engine(FRAMES.get(5)?)?;
    let answer = |op: Op, address| {
        let mut bytes = Unmask { port: Port(77) }.to_bytes();
        engine.event_channel_op(GUEST, op.0, address, bytes.as_mut_slice())
    };
    let failed = |errno: Errno| Outcome::Done(errno.negated());
    check(answer(Op::SEND, 0) == failed(Errno::EINVAL))?;
    check(answer(Op::UNMASK, u64::MAX) == failed(Errno::EFAULT))?;
    check(answer(Op(999), 0) == failed(Errno::ENOSYS))
}

/// All of this has been on this program's own heap.
fn allocated() -> Option<()> {
    check(HEAP.used() > 0)
}
