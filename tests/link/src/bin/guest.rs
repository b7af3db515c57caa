// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest's side in a kernel without an allocator: this program has none, and plays Xen by hand.
#![no_std]
#![no_main]

use core::cell::Cell;
use core::sync::atomic::Ordering::SeqCst;

use evtchn_abi::fifo::{ControlBlock, LINKED, MASKED, PENDING, Priority, WORD_SIZE};
use evtchn_abi::{Errno, Gfn, Layout, Op, Port, VcpuId};
use evtchn_guest::{Fifo, FifoVcpu, Handlers, Hypercall, SelfNotify, TwoLevel, Vcpu};
use evtchn_link::{check, program};
use evtchn_sync::{HeapPage, Page};

program!(&[two_level, unmask, fifo, handlers]);

const LAYOUT: Layout = Layout::X86_64;
const V0: VcpuId = VcpuId(0);
const PORT: Port = Port(70);

static PAGES: [HeapPage; 5] = [const { HeapPage::new() }; 5];

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
    let guest = TwoLevel::new(page, &LAYOUT, SelfNotify::Local, [Vcpu::new()]);
    guest.bind_to_vcpu(PORT, V0);
    let seen = Seen::new();
    check(!guest.upcall(V0, |port| seen.note(port)))?;
    raise(page)?;
    check(guest.upcall(V0, |port| seen.note(port)))?;
    seen.is(Some(PORT))?;
    check(!guest.upcall(V0, |port| seen.note(port)))?;
    seen.is(None)
}

fn unmask() -> Option<()> {
    let (page, xen) = (PAGES.get(1)?, Xen::default());
    let guest = TwoLevel::new(page, &LAYOUT, SelfNotify::Local, [Vcpu::new()]);
    guest.bind_to_vcpu(PORT, V0);
    guest.mask(PORT);
    raise(page)?;
    let seen = Seen::new();
    guest.upcall(V0, |port| seen.note(port));
    seen.is(None)?;
    check(guest.unmask(PORT, V0, &xen) == Ok(true) && xen.calls.get() == 0)?;
    guest.upcall(V0, |port| seen.note(port));
    seen.is(Some(PORT))
}

fn fifo() -> Option<()> {
    let [_, _, shared_info, control, array] = &PAGES;
    let xen = Xen::default();
    let guest = Fifo::new(shared_info, &LAYOUT, [FifoVcpu::new(control, 0)], [array]);
    guest.init_vcpu(V0, Gfn(3), &xen).ok()?;
    guest.add_page(Gfn(4), &xen).ok()?;
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

fn handlers() -> Option<()> {
    fn ignore(_: Port) {}
    let mut handlers = Handlers::new([None::<fn(Port)>; 8]);
    handlers.set(Port(3), ignore).ok()?;
    check(handlers.handle(Port(3)) && !handlers.handle(PORT))
}
