// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's side in a kernel without an allocator: this program has none, and plays Xen by hand.
#![no_std]
#![no_main]

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};

use evtchn_abi::fifo::{ControlBlock, LINKED, MASKED, PENDING, Priority, WORD_SIZE};
use evtchn_abi::{Errno, Gfn, Layout, Op, Port, VcpuId};
use evtchn_guest::{
    Abi, Answer, Auto, Choice, Event, Events, Fifo, FifoVcpu, Frame, Frames, Hypercall, Kernel, Scan,
    Settings, Table, TwoLevel, TwoLevelVcpu,
};
use evtchn_link::{check, program};
use evtchn_sync::{HeapPage, Page};

program!(&[two_level, unmask, fifo, auto, events]);

const LAYOUT: Layout = Layout::X86_64;
const V0: VcpuId = VcpuId(0);
const PORT: Port = Port(70);

type Pages = Frames<&'static HeapPage, &'static [Frame<&'static HeapPage>]>;

static PAGES: [HeapPage; 4] = [const { HeapPage::new() }; 4];
/// A page of control blocks, and one of the array.
static FIFO: [HeapPage; 2] = [const { HeapPage::new() }; 2];
static FRAMES: [Frame<&HeapPage>; 2] =
    [Frame { page: &FIFO[0], gfn: Gfn(3) }, Frame { page: &FIFO[1], gfn: Gfn(4) }];

/// The pages of a guest with the FIFO ABI.
fn memory(shared_info: &'static HeapPage) -> Option<Pages> {
    let (control_blocks, event_array) = FRAMES.split_at_checked(1)?;
    Some(Frames { control_blocks, event_array, ..Pages::two_level(shared_info, &LAYOUT) })
}

/// Accepts everything, and counts it.
#[derive(Default)]
struct Xen {
    calls: Cell<u32>,
}

impl Hypercall for Xen {
    fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
        self.calls.set(self.calls.get() + 1);
        Ok(())
    }
}

/// One without the FIFO ABI, where no hypercall is needed.
struct OldXen;

impl Hypercall for OldXen {
    fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
}

/// What Xen does for an event on [`PORT`] with the two-level ABI.
fn raise(page: &HeapPage) -> Option<()> {
    let (word, bit) = LAYOUT.word_and_bit(PORT)?;
    page.u64(LAYOUT.pending_word(word)?)?.fetch_or(1 << bit, SeqCst);
    page.u64(LAYOUT.pending_sel)?.fetch_or(1 << word, SeqCst);
    page.u8(LAYOUT.upcall_pending)?.store(1, SeqCst);
    Some(())
}

/// The port of the one event that an upcall had.
struct Seen(Cell<Option<Port>>);

impl Seen {
    fn new() -> Self {
        Self(Cell::new(None))
    }

    fn note(&self, port: Port) {
        self.0.set(Some(port));
    }

    fn is(&self, port: Option<Port>) -> Option<()> {
        check(self.0.take() == port)
    }
}

fn two_level() -> Option<()> {
    let page = PAGES.first()?;
    let guest = TwoLevel::new(Pages::two_level(page, &LAYOUT), [TwoLevelVcpu::new()]);
    guest.bind(PORT, V0);
    let seen = Seen::new();
    check(!guest.upcall(V0, |port| seen.note(port)))?;
    raise(page)?;
    check(guest.upcall(V0, |port| seen.note(port)))?;
    seen.is(Some(PORT))?;
    check(!guest.upcall(V0, |port| seen.note(port)))?;
    seen.is(None)
}

fn unmask() -> Option<()> {
    let page = PAGES.get(1)?;
    let guest = TwoLevel::new(Pages::two_level(page, &LAYOUT), [TwoLevelVcpu::new()]);
    guest.bind(PORT, V0);
    guest.mask(PORT);
    raise(page)?;
    let seen = Seen::new();
    guest.upcall(V0, |port| seen.note(port));
    seen.is(None)?;
    check(guest.unmask_here(PORT, V0))?;
    guest.upcall(V0, |port| seen.note(port));
    seen.is(Some(PORT))
}

fn fifo() -> Option<()> {
    let shared_info = PAGES.get(2)?;
    let [control, array] = &FIFO;
    let xen = Xen::default();
    let guest = Fifo::new(memory(shared_info)?, [FifoVcpu::new()]);
    guest.online(V0, &xen).ok()?;
    guest.cover(PORT, &xen).ok()?;
    guest.unmask(PORT, &xen).ok()?;
    check(xen.calls.get() == 2 && guest.nr_channels() == 1024)?;

    let word = array.u32(PORT.0 as usize * WORD_SIZE)?;
    check(word.load(SeqCst) & MASKED == 0)?;
    word.fetch_or(PENDING | LINKED, SeqCst);
    control.u32(ControlBlock::head(Priority::DEFAULT)?)?.store(PORT.0, SeqCst);
    control.u32(ControlBlock::READY)?.store(Priority::DEFAULT.ready_bit(), SeqCst);
    shared_info.u8(LAYOUT.upcall_pending)?.store(1, SeqCst);
    let seen = Seen::new();
    check(guest.upcall(V0, |port| seen.note(port)))?;
    seen.is(Some(PORT))?;
    check(word.load(SeqCst) == 0)
}

/// A guest that would rather have FIFO, and a Xen that does not.
fn auto() -> Option<()> {
    let memory = memory(PAGES.get(2)?)?;
    let guest = Auto::new(memory, [TwoLevelVcpu::new()], [FifoVcpu::new()]);
    guest.start();
    guest.online(V0, &OldXen).ok()?;
    check(guest.choice() == Choice::TwoLevel && guest.nr_channels() == 4096)?;
    guest.forget();
    guest.online(V0, &Xen::default()).ok()?;
    check(guest.choice() == Choice::Fifo && guest.nr_channels() == 0)
}

/// A kernel with a table of channels, all of it static.
struct Machine;

impl Hypercall for Machine {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        // The one port that is opened.
        if op == Op::BIND_IPI {
            arg.get_mut(4..8).ok_or(Errno::EINVAL)?.copy_from_slice(&PORT.0.to_le_bytes());
        }
        Ok(())
    }
}

impl Kernel for Machine {
    fn now(&self) -> u64 {
        0
    }

    fn expire_at(&self, _: VcpuId, _: u64) {}
}

type Handler = fn(&Event<'_>) -> Answer;
type Channels = Table<Handler, 4, 128, 1>;

static CHANNELS: Channels = Table::new();
static MEMORY: Pages = Frames {
    layout: &LAYOUT,
    shared_info: &PAGES[3],
    vcpu_infos: &[],
    control_blocks: &[],
    event_array: &[],
};
static EVENTS: Events<TwoLevel<&Pages, [TwoLevelVcpu; 1]>, Machine, &Channels> =
    Events::new(TwoLevel::new(&MEMORY, [TwoLevelVcpu::new()]), Machine, &CHANNELS);
static HANDLED: AtomicU32 = AtomicU32::new(0);

fn handle(event: &Event<'_>) -> Answer {
    HANDLED.fetch_add(event.port.0, SeqCst);
    Answer::Done
}

fn events() -> Option<()> {
    EVENTS.start();
    EVENTS.online(V0).ok()?;
    let channel = EVENTS.bind_ipi(Settings::default().late_eoi(), handle).ok()?;
    check(EVENTS.upcall(V0) == Scan::Idle)?;
    raise(PAGES.get(3)?)?;
    check(EVENTS.upcall(V0) == Scan::Done && HANDLED.load(SeqCst) == PORT.0)?;
    EVENTS.unbind(channel).ok()?;
    check(EVENTS.port(channel).is_none())
}
