// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the benches of the engine share: two domains that are connected by many channels, seen through the raw door.
#![allow(dead_code)] // no bench uses all of it

use std::hint::black_box;

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use evtchn_abi::fifo::{LINK_MASK, LINKED, MAX_ARRAY_PAGES, NR_CHANNELS};
use evtchn_abi::{DomId, Gfn, Layout, Op, Port, VcpuId};
use evtchn_engine::{Caller, DomainConfig, Engine, Fault, GuestMemory, Hooks, Outcome, Upcall};
use evtchn_guest::{Fifo, FifoVcpu, SelfNotify, TwoLevel, Vcpu};
use evtchn_sync::{HeapPage, Page};

/// How many ports a batch sends to.
pub const BATCH: u32 = 4_000;

pub const SENDER: DomId = DomId(1);
pub const RECEIVER: DomId = DomId(2);
/// No operation has this number.
const UNKNOWN: u32 = 0xffff;
/// The frame of the control block of vCPU 0; those of the array pages are below.
const CONTROL: Gfn = Gfn(1 << 16);

/// An embedder that counts upcalls and does no more.
pub struct Embedder {
    upcalls: AtomicU32,
    frames: [[OnceLock<Arc<HeapPage>>; MAX_ARRAY_PAGES as usize + 1]; 3],
}

impl Embedder {
    fn new() -> Self {
        Self { upcalls: AtomicU32::new(0), frames: [const { [const { OnceLock::new() }; _] }; _] }
    }

    fn frame(&self, domain: DomId, gfn: Gfn) -> Arc<HeapPage> {
        let frame = usize::try_from(gfn.0).unwrap_or(usize::MAX).min(MAX_ARRAY_PAGES as usize);
        self.frames[domain.0 as usize][frame].get_or_init(Arc::default).clone()
    }
}

impl Hooks for Embedder {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {
        self.upcalls.fetch_add(1, Relaxed);
    }

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, domain: DomId, gfn: Gfn) -> Option<Arc<HeapPage>> {
        Some(self.frame(domain, gfn))
    }
}

/// The caller's memory: the argument block is copied out of it, as from a guest's.
pub struct Memory([u8; 64]);

impl GuestMemory for Memory {
    #[inline]
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        let at = usize::try_from(address).map_err(|_| Fault)?;
        let end = at.checked_add(to.len()).ok_or(Fault)?;
        to.copy_from_slice(self.0.get(at..end).ok_or(Fault)?);
        Ok(())
    }

    #[inline]
    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Fault> {
        let at = usize::try_from(address).map_err(|_| Fault)?;
        let end = at.checked_add(from.len()).ok_or(Fault)?;
        self.0.get_mut(at..end).ok_or(Fault)?.copy_from_slice(from);
        Ok(())
    }
}

/// A vCPU at its hypercall table: everything goes through the raw door.
pub struct Cpu {
    caller: Caller<'static, Embedder>,
    memory: Memory,
}

impl Cpu {
    /// The first vCPU of a domain. The engine of a bench lives for ever.
    pub fn new(engine: &'static Engine<Embedder>, domain: DomId) -> Self {
        let caller = engine.caller(domain, VcpuId(0)).expect("the domain exists");
        Self { caller, memory: Memory([0; 64]) }
    }

    /// `EVTCHNOP_send`. A call, as a hypercall table makes it.
    #[inline(never)]
    pub fn send(&mut self, port: Port) -> Outcome {
        self.memory.0[8..12].copy_from_slice(&port.0.to_le_bytes());
        self.caller.event_channel_op(Op::SEND.0, 8, &mut self.memory)
    }

    /// An operation that does not exist: what entering costs.
    #[inline(never)]
    pub fn unknown(&mut self) -> Outcome {
        self.caller.event_channel_op(UNKNOWN, 8, &mut self.memory)
    }

    /// `EVTCHNOP_alloc_unbound` for the other domain; the port.
    #[inline(never)]
    pub fn alloc(&mut self, remote: DomId) -> Port {
        let DomId(own) = DomId::SELF;
        self.memory.0[8..10].copy_from_slice(&own.to_le_bytes());
        self.memory.0[10..12].copy_from_slice(&remote.0.to_le_bytes());
        self.done(Op::ALLOC_UNBOUND);
        self.result(12)
    }

    /// `EVTCHNOP_bind_interdomain`; the port.
    #[inline(never)]
    pub fn bind(&mut self, remote: DomId, port: Port) -> Port {
        self.memory.0[8..10].copy_from_slice(&remote.0.to_le_bytes());
        self.memory.0[12..16].copy_from_slice(&port.0.to_le_bytes());
        self.done(Op::BIND_INTERDOMAIN);
        self.result(16)
    }

    /// `EVTCHNOP_close`.
    #[inline(never)]
    pub fn close(&mut self, port: Port) {
        self.memory.0[8..12].copy_from_slice(&port.0.to_le_bytes());
        self.done(Op::CLOSE);
    }

    /// `EVTCHNOP_reset` of the own domain.
    pub fn reset(&mut self) {
        self.memory.0[8..10].copy_from_slice(&DomId::SELF.0.to_le_bytes());
        self.done(Op::RESET);
    }

    fn done(&mut self, op: Op) {
        let outcome = self.caller.event_channel_op(op.0, 8, &mut self.memory);
        assert_eq!(outcome, Outcome::Done(0));
    }

    fn result(&self, at: usize) -> Port {
        let bytes = self.memory.0[at..at + 4].try_into().expect("four bytes");
        Port(u32::from_le_bytes(bytes))
    }
}

/// The receiver's kernel.
enum Kernel {
    TwoLevel(TwoLevel<Arc<HeapPage>, [Vcpu; 1]>),
    Fifo(Fifo<Arc<HeapPage>, [FifoVcpu<Arc<HeapPage>>; 1], Vec<Arc<HeapPage>>>),
}

/// By which ABI the receiver, and for FIFO the sender too, gets events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    TwoLevel,
    Fifo,
}

impl Abi {
    pub const BOTH: [Self; 2] = [Self::TwoLevel, Self::Fifo];

    pub fn name(self) -> &'static str {
        match self {
            Self::TwoLevel => "2l",
            Self::Fifo => "fifo",
        }
    }
}

/// A sender and a receiver, with channels between them.
pub struct Machine {
    pub engine: &'static Engine<Embedder>,
    pub sender: Cpu,
    pub receiver: Cpu,
    /// The sender's ports, and the receiver's.
    pub ports: Vec<(Port, Port)>,
    abi: Abi,
    page: Arc<HeapPage>,
    kernel: Kernel,
}

impl Machine {
    /// Starts it with this many channels; nothing is pending.
    pub fn new(abi: Abi, channels: u32) -> Self {
        Self::with_vcpus(abi, channels, 1)
    }

    /// As `new`, with receivers of so many vCPUs.
    pub fn with_vcpus(abi: Abi, channels: u32, vcpus: u32) -> Self {
        let engine: &'static Engine<Embedder> = Box::leak(Box::new(Engine::new(Embedder::new())));
        let page = Arc::new(HeapPage::new());
        let config = DomainConfig { max_port: None, ..DomainConfig::guest(vcpus) };
        for (domain, page) in [(SENDER, Arc::new(HeapPage::new())), (RECEIVER, Arc::clone(&page))] {
            engine.create_domain(domain, config.clone()).expect("a new domain starts");
            engine.set_shared_info(domain, Some(page)).expect("a domain takes a page");
        }
        if abi == Abi::Fifo {
            [SENDER, RECEIVER].iter().for_each(|&domain| switch(engine, domain));
        }
        let kernel = kernel(engine, abi, &page);
        let (sender, receiver) = (Cpu::new(engine, SENDER), Cpu::new(engine, RECEIVER));
        let mut machine = Self { engine, sender, receiver, ports: Vec::new(), abi, page, kernel };
        machine.ports = (0..channels).map(|_| machine.connect()).collect();
        // The sender's ends were raised when they were bound: they stay so.
        machine
    }

    /// Opens a channel.
    pub fn connect(&mut self) -> (Port, Port) {
        let far = self.receiver.alloc(SENDER);
        if let Kernel::TwoLevel(guest) = &self.kernel {
            guest.bind_to_vcpu(far, VcpuId(0));
        }
        (self.sender.bind(RECEIVER, far), far)
    }

    /// The n-th port of the sender.
    pub fn port(&self, n: u32) -> Port {
        self.ports[n as usize].0
    }

    /// Sends to the first `count` ports.
    #[inline]
    pub fn send_to(&mut self, count: u32) {
        for n in 0..count {
            let sent = self.sender.send(self.ports[n as usize].0);
            debug_assert_eq!(sent, Outcome::Done(0));
        }
    }

    /// The receiver takes an upcall; how many events it found.
    pub fn consume(&self) -> u32 {
        let mut count = 0;
        match &self.kernel {
            Kernel::TwoLevel(guest) => {
                guest.upcall(VcpuId(0), |port| {
                    guest.clear_pending(port);
                    count += 1;
                });
            }
            Kernel::Fifo(guest) => {
                guest.upcall(VcpuId(0), |port| {
                    guest.clear_pending(port);
                    count += 1;
                });
            }
        }
        count
    }

    /// Makes nothing pending for the receiver: at no cost worth counting with two levels, else as a consumer.
    pub fn clear(&self) {
        match self.abi {
            Abi::TwoLevel => self.page.clear(),
            Abi::Fifo => self.drain(),
        }
    }

    /// Empties the queue of priority 7 with as few instructions as can be.
    fn drain(&self) {
        let hooks = self.engine.hooks();
        let control = hooks.frame(RECEIVER, CONTROL);
        let (ready, head) = (control.u32(0).expect("inside"), control.u32(8 + 4 * 7).expect("inside"));
        self.page.u8(0).expect("inside").store(0, SeqCst);
        let mut next = if ready.swap(0, SeqCst) == 0 { 0 } else { head.load(SeqCst) };
        while next != 0 {
            let page = hooks.frame(RECEIVER, Gfn(u64::from(next / 1024)));
            let word = page.u32(next as usize % 1024 * 4).expect("inside").swap(0, SeqCst);
            assert_ne!(word & LINKED, 0);
            next = word & LINK_MASK;
        }
    }
}

/// Switches a domain to FIFO, with words for all its ports.
fn switch(engine: &Engine<Embedder>, domain: DomId) {
    engine.init_control(domain, VcpuId(0), CONTROL, 0).expect("the frame exists");
    for page in 0..MAX_ARRAY_PAGES {
        engine.expand_array(domain, Gfn(page.into())).expect("the frame exists");
    }
}

fn kernel(engine: &Engine<Embedder>, abi: Abi, page: &Arc<HeapPage>) -> Kernel {
    let page = Arc::clone(page);
    if abi == Abi::TwoLevel {
        return Kernel::TwoLevel(TwoLevel::new(page, &Layout::X86_64, SelfNotify::Local, [Vcpu::new()]));
    }
    let frame = |gfn| engine.hooks().frame(RECEIVER, gfn);
    let array = (0..MAX_ARRAY_PAGES).map(|page| frame(Gfn(page.into()))).collect();
    let guest = Fifo::new(page, &Layout::X86_64, [FifoVcpu::new(frame(CONTROL), 0)], array);
    guest.cover(Port(NR_CHANNELS - 1), |page| Gfn(page as u64), &Given).expect("the engine has them");
    // The words are masked by `cover`, which a real guest does before its pages are given away.
    (0..NR_CHANNELS).for_each(|port| guest.unmask(Port(port), &Given).expect("nothing is pending"));
    Kernel::Fifo(guest)
}

/// A Xen that has been told already.
struct Given;

impl evtchn_guest::Hypercall for Given {
    fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), evtchn_abi::Errno> {
        Ok(())
    }
}

/// The floor, `f`: one atomic set of a bit that nobody else touches, with its old value tested.
#[inline]
pub fn floor(word: &AtomicU64) -> bool {
    word.fetch_or(1 << 5, SeqCst) >> 5 & 1 == 1
}

/// Times a loop whose results are only counted: to store each of them, as `Bencher::iter` does, costs as much as an
/// atomic operation, which has to wait for the store.
pub fn looped(times: u64, mut operation: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    let hits: u64 = (0..times).map(|_| u64::from(operation())).sum();
    let time = start.elapsed();
    black_box(hits);
    time
}

/// Adds up the time of `measured`, which may do more than that with `state`.
pub fn timed<S>(times: u64, state: &mut S, mut round: impl FnMut(&mut S) -> Duration) -> Duration {
    (0..times).map(|_| round(state)).sum()
}

/// A generator of numbers, so that no pattern helps the caches.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// Puts a list into a random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        (1..list.len()).for_each(|at| list.swap(at, self.below(at + 1)));
    }
}
