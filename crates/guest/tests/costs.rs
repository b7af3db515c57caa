// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an event costs the guest: how many words of its pages are looked at, how many hypercalls are made, and that
//! nothing is allocated. The test plays Xen.
#![allow(missing_docs)]
// UNSAFETY: an allocator that counts is a global allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, System};
use std::cell::Cell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::LocalKey;

use evtchn_abi::fifo::{ControlBlock, LINKED, PENDING};
use evtchn_abi::{DomId, Errno, Gfn, Layout, Op, Port, Priority, VcpuId, VcpuOp, fifo};
use evtchn_guest::{
    Abi, Answer, Auto, Event, Events, Fifo, FifoVcpu, Frame, Frames, Hypercall, Kernel, Settings, Table,
    TwoLevel, TwoLevelVcpu, WithClock,
};
use evtchn_sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use evtchn_sync::{HeapPage, Page};

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);

thread_local! {
    static ALLOCATIONS: Cell<u32> = const { Cell::new(0) };
    static ACCESSES: Cell<u32> = const { Cell::new(0) };
    static HYPERCALLS: Cell<u32> = const { Cell::new(0) };
}

fn count(counter: &'static LocalKey<Cell<u32>>) {
    counter.set(counter.get() + 1);
}

/// How much this thread has counted during `work`.
fn counted(counter: &'static LocalKey<Cell<u32>>, work: impl FnOnce()) -> u32 {
    let before = counter.get();
    work();
    counter.get() - before
}

struct Counting;

// SAFETY: it does what `System` does, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        count(&ALLOCATIONS);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A page that counts who looks at it.
#[derive(Default)]
struct Seen(HeapPage);

impl Page for Seen {
    fn u8(&self, offset: usize) -> Option<&AtomicU8> {
        count(&ACCESSES);
        self.0.u8(offset)
    }

    fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        count(&ACCESSES);
        self.0.u32(offset)
    }

    fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        count(&ACCESSES);
        self.0.u64(offset)
    }
}

/// A Xen that says yes.
struct Xen;

impl Hypercall for Xen {
    fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
        count(&HYPERCALLS);
        Ok(())
    }

    fn vcpu_op(&self, _: VcpuOp, _: VcpuId, _: &mut [u8]) -> Result<u32, Errno> {
        count(&HYPERCALLS);
        Ok(0)
    }
}

/// Every page that a guest can use.
struct Machine {
    layout: &'static Layout,
    shared_info: Arc<Seen>,
    control: Arc<Seen>,
    array: Vec<Arc<Seen>>,
}

type Pages = Frames<Arc<Seen>, Vec<Frame<Arc<Seen>>>>;

impl Machine {
    fn new(layout: &'static Layout) -> Self {
        let array = (0..fifo::MAX_ARRAY_PAGES).map(|_| Arc::default()).collect();
        Self { layout, shared_info: Arc::default(), control: Arc::default(), array }
    }

    fn pages(&self) -> Pages {
        let frame = |(page, gfn): (&Arc<Seen>, u64)| Frame { page: page.clone(), gfn: Gfn(gfn) };
        Frames {
            layout: self.layout,
            shared_info: self.shared_info.clone(),
            vcpu_infos: vec![],
            control_blocks: vec![frame((&self.control, 0x100))],
            event_array: self.array.iter().zip(0x200..).map(frame).collect(),
        }
    }

    /// A guest of two vCPUs, the first of which handles every port. None is masked.
    fn two_level(&self) -> TwoLevel<Pages, [TwoLevelVcpu; 2]> {
        let guest = TwoLevel::new(self.pages(), [const { TwoLevelVcpu::new() }; 2]);
        self.open(&guest, self.layout.nr_channels());
        guest
    }

    fn fifo(&self) -> Fifo<Pages, [FifoVcpu; 2]> {
        let guest = Fifo::new(self.pages(), [const { FifoVcpu::new() }; 2]);
        self.open(&guest, fifo::NR_CHANNELS);
        guest
    }

    fn auto(&self) -> Auto<Pages, [TwoLevelVcpu; 2], [FifoVcpu; 2]> {
        let states = ([const { TwoLevelVcpu::new() }; 2], [const { FifoVcpu::new() }; 2]);
        let guest = Auto::new(self.pages(), states.0, states.1);
        self.open(&guest, fifo::NR_CHANNELS);
        guest
    }

    fn open(&self, guest: &impl Abi, channels: u32) {
        guest.start();
        guest.online(V0, &Xen).unwrap();
        guest.cover(Port(channels - 1), &Xen).unwrap();
        assert_eq!(guest.nr_channels(), channels);
        for port in (1..channels).map(Port) {
            guest.bind(port, V0);
            guest.unmask(port, &Xen).unwrap();
        }
    }

    /// Raises a port, alone, as Xen does with the two-level ABI.
    fn raise_bit(&self, port: Port) {
        let page = &self.shared_info.0;
        let set =
            |array, bit: u32| page.u8(array + bit as usize / 8).unwrap().fetch_or(1 << (bit % 8), SeqCst);
        set(self.layout.pending, port.0);
        set(self.layout.pending_sel, port.0 / self.layout.word_bits);
        page.u8(0).unwrap().store(1, SeqCst);
    }

    /// Raises a port, alone, as Xen does with the FIFO ABI.
    fn raise_word(&self, port: Port) {
        let (page, offset) = fifo::word_place(port).unwrap();
        self.array[page].0.u32(offset).unwrap().fetch_or(PENDING | LINKED, SeqCst);
        let block = &self.control.0;
        block.u32(ControlBlock::head(Priority::DEFAULT).unwrap()).unwrap().store(port.0, SeqCst);
        block.u32(ControlBlock::READY).unwrap().store(Priority::DEFAULT.ready_bit(), SeqCst);
        self.shared_info.0.u8(0).unwrap().store(1, SeqCst);
    }
}

/// How many accesses an upcall makes that finds this port and no other.
fn accesses(guest: &impl Abi, port: Port) -> u32 {
    counted(&ACCESSES, || {
        let mut found = None;
        guest.upcall(V0, |port| assert_eq!(found.replace(port), None));
        assert_eq!(found, Some(port));
    })
}

/// The byte: a load and an exchange, and a load at the end. The selector; pending, mask, pending again. The word where the scan
/// begins is looked at in two halves.
const ONE_WORD: u32 = 3 + 1 + 3;

#[test]
fn one_two_level_event_is_found_by_looking_at_one_word_wherever_it_is() {
    for layout in [&Layout::X86_64, &Layout::X86_32] {
        let machine = Machine::new(layout);
        let guest = machine.two_level();
        for port in [1, 17, layout.nr_channels() / 2, layout.nr_channels() - 1].map(Port) {
            machine.raise_bit(port);
            let made = accesses(&guest, port);
            assert!(made == ONE_WORD || made == ONE_WORD + 1, "{port}: {made}");
        }
    }
}

/// As after `register_vcpu_info`.
#[test]
fn one_two_level_event_is_found_by_looking_at_each_word_once_if_all_are_announced() {
    for layout in [&Layout::X86_64, &Layout::X86_32] {
        let machine = Machine::new(layout);
        let guest = machine.two_level();
        for port in [1, 17, layout.nr_channels() - 1].map(Port) {
            machine.raise_bit(port);
            for at in 0..layout.word_size {
                machine.shared_info.0.u8(layout.pending_sel + at).unwrap().store(0xff, SeqCst);
            }
            let words = layout.word_bits;
            let made = accesses(&guest, port);
            assert!(made <= ONE_WORD - 1 + words + 1, "{port}: {made} for {words} words");
        }
    }
}

#[test]
fn one_fifo_event_is_found_by_as_many_accesses_wherever_it_is() {
    let machine = Machine::new(&Layout::X86_64);
    let guest = machine.fifo();
    for port in [1, 2, 1023, 1024, 70_000, fifo::NR_CHANNELS - 1].map(Port) {
        machine.raise_word(port);
        // The byte as above; READY by a load and an exchange in one access, HEAD, the word, READY again.
        assert_eq!(accesses(&guest, port), 3 + 1 + 1 + 1 + 1, "{port}");
    }
}

/// All that may happen on the way of an event, from either ABI.
fn deliver(guest: &impl Abi, raise: impl Fn(Port)) {
    let port = Port(700);
    let upcall = |expected| {
        let mut count = 0;
        guest.upcall(V0, |_| count += 1);
        assert_eq!(count, expected);
    };
    raise(port);
    upcall(1);
    raise(port);
    let mut buffer = [Port(0); 4];
    assert_eq!(guest.take_pending(V0, &mut buffer), 1);
    raise(port);
    let _ = guest.upcall_while(V0, |_| ControlFlow::Break(()));
    upcall(0);
    guest.mask(port);
    guest.set_pending(port);
    guest.unmask(port, &Xen).unwrap();
    guest.clear_pending(port);
    guest.raise_again(port, &Xen).unwrap();
    guest.move_to_vcpu(port, V1, &Xen).unwrap();
    guest.bind(port, V0);
    raise(port);
    guest.offline(V0, |_| {});
    guest.unbind(port);
    guest.bind(port, V0);
    guest.cover(port, &Xen).unwrap();
    guest.online(V0, &Xen).unwrap();
}

#[test]
fn nothing_on_an_events_way_allocates() {
    for layout in [&Layout::X86_64, &Layout::X86_32] {
        let machine = Machine::new(layout);
        let (two_level, fifo) = (machine.two_level(), machine.fifo());
        let allocations = counted(&ALLOCATIONS, || {
            deliver(&two_level, |port| machine.raise_bit(port));
            deliver(&fifo, |port| machine.raise_word(port));
        });
        assert_eq!(allocations, 0);
        let other = Machine::new(layout);
        let auto = other.auto();
        assert_eq!(counted(&ALLOCATIONS, || deliver(&auto, |port| other.raise_word(port))), 0);
    }
    assert_ne!(counted(&ALLOCATIONS, || drop(std::hint::black_box(Box::new(1)))), 0, "they are counted");
}

/// A kernel whose clock stands still.
fn kernel() -> impl Kernel {
    WithClock::new(Xen, || 0, |_, _| {})
}

type Handler = fn(&Event<'_>) -> Answer;

/// A channel on port 70, bound, signalled, masked, delayed, moved and closed.
fn live(guest: Events<impl Abi, impl Kernel, Table<Handler, 4, 128, 1>>, raise: impl Fn(Port)) {
    let mut calls = 0;
    let settings = Settings::default().late_eoi();
    guest.start();
    guest.online(V0).unwrap();
    let channel = guest.adopt(Port(70), DomId(0), settings, |_| Answer::Spurious).unwrap();
    for _ in 0..3 {
        raise(Port(70));
        let _ = guest.upcall(V0);
        guest.mask(channel).unwrap();
        guest.unmask(channel).unwrap();
        guest.expire(V0);
        calls += 1;
    }
    guest.move_to(channel, V0).unwrap();
    let stats = guest.stats(channel).unwrap();
    assert!(stats.events > 1 && stats.events <= calls && stats.delays > 0);
    guest.unbind(channel).unwrap();
}

#[test]
fn nothing_is_allocated_in_the_life_of_a_channel() {
    for layout in [&Layout::X86_64, &Layout::X86_32] {
        let machine = Machine::new(layout);
        let two_level = Events::new(machine.two_level(), kernel(), Table::new());
        assert_eq!(counted(&ALLOCATIONS, || live(two_level, |port| machine.raise_bit(port))), 0);
        let fifo = Events::new(machine.fifo(), kernel(), Table::new());
        assert_eq!(counted(&ALLOCATIONS, || live(fifo, |port| machine.raise_word(port))), 0);
    }
}

#[test]
fn idle_ports_are_masked_and_unmasked_without_a_hypercall() {
    fn mask_and_unmask(guest: &impl Abi) {
        for port in (1..guest.nr_channels()).map(Port) {
            assert!(!guest.mask(port));
            guest.unmask(port, &Xen).unwrap();
            assert!(!guest.is_masked(port));
        }
    }
    let machine = Machine::new(&Layout::X86_64);
    let (two_level, fifo) = (machine.two_level(), machine.fifo());
    let hypercalls = counted(&HYPERCALLS, || {
        mask_and_unmask(&two_level);
        mask_and_unmask(&fifo);
    });
    assert_eq!(hypercalls, 0);
}
