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
use evtchn_abi::{DomId, Errno, Gfn, Layout, Op, Port, VcpuId};
use evtchn_engine::{Caller, DomainConfig, Engine, Fault, GuestMemory, Hooks, OpError, Outcome, Upcall};
use evtchn_guest::{Fifo, FifoVcpu, InProcess, SelfNotify, TwoLevel, Vcpu};
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
    kernel: Kernel,
    senders_kernel: Kernel,
}

impl Machine {
    /// Starts it with this many channels; nothing is pending at the receiver's.
    pub fn new(abi: Abi, channels: u32) -> Self {
        let engine: &'static Engine<Embedder> = Box::leak(Box::new(Engine::new(Embedder::new())));
        let config = DomainConfig { max_port: None, ..DomainConfig::guest(1) };
        let [senders_kernel, kernel] = [SENDER, RECEIVER].map(|domain| {
            let page = Arc::new(HeapPage::new());
            engine.create_domain(domain, config.clone()).expect("a new domain starts");
            engine.set_shared_info(domain, Some(Arc::clone(&page))).expect("a domain takes a page");
            Kernel::boot(engine, domain, abi, page)
        });
        let (sender, receiver) = (Cpu::new(engine, SENDER), Cpu::new(engine, RECEIVER));
        let mut machine = Self { engine, sender, receiver, ports: Vec::new(), kernel, senders_kernel };
        machine.ports = (0..channels).map(|_| machine.connect()).collect();
        machine
    }

    /// Opens a channel to a port that the receiver has unmasked. The sender's is masked.
    pub fn connect(&mut self) -> (Port, Port) {
        let far = self.receiver.alloc(SENDER);
        self.kernel.listen(far);
        (self.sender.bind(RECEIVER, far), far)
    }

    /// Gives the receiver, which has been reset, the FIFO ABI again.
    pub fn restart_receiver(&mut self) {
        if self.engine.set_priority(RECEIVER, Port(0), 0) == Err(OpError::NotImplemented) {
            let page = Arc::clone(&self.kernel.page);
            self.kernel = Kernel::boot(self.engine, RECEIVER, Abi::Fifo, page);
        }
    }

    /// The n-th port of the sender.
    pub fn port(&self, n: u32) -> Port {
        self.ports[n as usize].0
    }

    /// The kernel of the sender or of the receiver.
    pub fn kernel_of(&self, domain: DomId) -> &Kernel {
        if domain == SENDER { &self.senders_kernel } else { &self.kernel }
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
        self.kernel.consume()
    }

    /// Makes nothing pending for the receiver, with as few instructions as can be.
    pub fn clear(&self) {
        self.kernel.clear();
    }
}

/// A domain's kernel.
pub struct Kernel {
    frames: &'static Embedder,
    domain: DomId,
    page: Arc<HeapPage>,
    ports: Ports,
}

type Frame = Arc<HeapPage>;

enum Ports {
    TwoLevel(Box<TwoLevel<Frame, [Vcpu; 1]>>),
    Fifo(Fifo<Frame, [FifoVcpu<Frame>; 1], Vec<Frame>>),
}

impl Kernel {
    fn boot(engine: &'static Engine<Embedder>, domain: DomId, abi: Abi, page: Arc<HeapPage>) -> Self {
        let frames = engine.hooks();
        let shared = Arc::clone(&page);
        let ports = match abi {
            Abi::TwoLevel => {
                let guest = TwoLevel::new(shared, &Layout::X86_64, SelfNotify::Local, [Vcpu::new()]);
                guest.mask_all();
                Ports::TwoLevel(Box::new(guest))
            }
            Abi::Fifo => {
                let frame = |gfn| frames.frame(domain, gfn);
                let array = (0..MAX_ARRAY_PAGES).map(|page| frame(Gfn(page.into()))).collect();
                let guest = Fifo::new(shared, &Layout::X86_64, [FifoVcpu::new(frame(CONTROL), 0)], array);
                let kernel = InProcess::new(engine, domain, VcpuId(0));
                guest.init_vcpu(VcpuId(0), CONTROL, &kernel).expect("the frame exists");
                let last = Port(NR_CHANNELS - 1);
                guest.cover(last, |page| Gfn(page as u64), &kernel).expect("the frames exist");
                Ports::Fifo(guest)
            }
        };
        Self { frames, domain, page, ports }
    }

    /// Begins to handle a port's events, but for what is pending.
    pub fn listen(&self, port: Port) {
        match &self.ports {
            Ports::TwoLevel(guest) => {
                guest.clear_pending(port);
                guest.bind_to_vcpu(port, VcpuId(0));
                guest.unmask(port, VcpuId(0), &Quiet).expect("the port is open");
            }
            Ports::Fifo(guest) => {
                guest.clear_pending(port);
                guest.unmask(port, &Quiet).expect("the port is open");
            }
        }
    }

    /// Takes an upcall; how many events it found.
    pub fn consume(&self) -> u32 {
        let mut count = 0;
        match &self.ports {
            Ports::TwoLevel(guest) => {
                guest.upcall(VcpuId(0), |port| {
                    guest.clear_pending(port);
                    count += 1;
                });
            }
            Ports::Fifo(guest) => {
                guest.upcall(VcpuId(0), |port| {
                    guest.clear_pending(port);
                    count += 1;
                });
            }
        }
        count
    }

    /// Makes nothing pending, with as few instructions as can be.
    fn clear(&self) {
        match &self.ports {
            Ports::TwoLevel(_) => (0..64).for_each(|word| {
                self.page.u64(2048 + 8 * word).expect("inside").store(0, SeqCst);
            }),
            Ports::Fifo(_) => self.drain(),
        }
        self.page.u64(8).expect("inside").store(0, SeqCst);
        self.page.u8(0).expect("inside").store(0, SeqCst);
    }

    /// Empties the queue of priority 7.
    fn drain(&self) {
        let control = self.frames.frame(self.domain, CONTROL);
        let (ready, head) = (control.u32(0).expect("inside"), control.u32(8 + 4 * 7).expect("inside"));
        let mut next = if ready.swap(0, SeqCst) == 0 { 0 } else { head.load(SeqCst) };
        while next != 0 {
            let page = self.frames.frame(self.domain, Gfn(u64::from(next / 1024)));
            let word = page.u32(next as usize % 1024 * 4).expect("inside").swap(0, SeqCst);
            assert_ne!(word & LINKED, 0);
            next = word & LINK_MASK;
        }
    }
}

/// A hypervisor that is never needed.
struct Quiet;

impl evtchn_guest::Hypercall for Quiet {
    fn event_channel_op(&self, op: Op, _: &mut [u8]) -> Result<(), Errno> {
        panic!("{op} was not expected")
    }
}

/// Keeps this thread on one processor.
pub fn pin_to(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).expect("there are two processors");
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
