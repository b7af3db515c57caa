// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the benches of the engine share: two domains that are connected by many channels, seen through the raw door.
#![allow(dead_code)] // no bench uses all of it

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use evtchn_abi::{DomId, Layout, Op, Port, VcpuId};
use evtchn_engine::{DomainConfig, Engine, Fault, GuestMemory, Hooks, Outcome, Upcall};
use evtchn_guest::{SelfNotify, TwoLevel, Vcpu};
use evtchn_sync::HeapPage;

/// How many ports a batch sends to.
pub const BATCH: u32 = 4_000;

const SENDER: DomId = DomId(1);
const RECEIVER: DomId = DomId(2);
/// No operation has this number.
const UNKNOWN: u32 = 0xffff;

/// An embedder that counts upcalls and does no more.
#[derive(Default)]
pub struct Counter(AtomicU32);

impl Hooks for Counter {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {
        self.0.fetch_add(1, Relaxed);
    }

    fn wake_poller(&self, _: DomId, _: VcpuId) {}
}

/// The caller's memory: the argument block is copied out of it, as from a guest's.
struct Memory([u8; 64]);

impl GuestMemory for Memory {
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        let at = usize::try_from(address).map_err(|_| Fault)?;
        let end = at.checked_add(to.len()).ok_or(Fault)?;
        to.copy_from_slice(self.0.get(at..end).ok_or(Fault)?);
        Ok(())
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Fault> {
        let at = usize::try_from(address).map_err(|_| Fault)?;
        let end = at.checked_add(from.len()).ok_or(Fault)?;
        self.0.get_mut(at..end).ok_or(Fault)?.copy_from_slice(from);
        Ok(())
    }
}

/// A sender and a receiver, with [`BATCH`] channels between them.
pub struct Machine {
    engine: Engine<Counter>,
    memory: Memory,
    ports: Vec<Port>,
    guest: TwoLevel<Arc<HeapPage>, [Vcpu; 1]>,
}

impl Machine {
    /// Starts it; nothing is pending.
    pub fn new() -> Self {
        let engine = Engine::new(Counter::default());
        let page = Arc::new(HeapPage::new());
        let config = DomainConfig { max_port: None, ..DomainConfig::guest(1) };
        for (domain, page) in [(SENDER, Arc::new(HeapPage::new())), (RECEIVER, Arc::clone(&page))] {
            engine.create_domain(domain, config.clone()).expect("a new domain starts");
            engine.set_shared_info(domain, Some(page)).expect("a domain takes a page");
        }
        let guest = TwoLevel::new(page, &Layout::X86_64, SelfNotify::Local, [Vcpu::new()]);
        let mut machine = Self { engine, memory: Memory([0; 64]), ports: Vec::new(), guest };
        machine.ports = (0..BATCH).map(|_| machine.connect()).collect();
        machine.consume();
        machine
    }

    /// Opens a channel; the sender's port.
    fn connect(&self) -> Port {
        let far = self.engine.alloc_unbound(RECEIVER, DomId::SELF, SENDER);
        let far = far.expect("the receiver has room");
        self.guest.bind_to_vcpu(far, VcpuId(0));
        self.engine.bind_interdomain(SENDER, RECEIVER, far).expect("the port is free")
    }

    /// The n-th port of the sender.
    pub fn port(&self, n: u32) -> Port {
        self.ports[n as usize]
    }

    /// `EVTCHNOP_send` through the raw door. A call, as a hypercall table makes it.
    #[inline(never)]
    pub fn send(&mut self, port: Port) -> Outcome {
        self.memory.0[8..12].copy_from_slice(&port.0.to_le_bytes());
        self.engine.event_channel_op(SENDER, Op::SEND.0, 8, &mut self.memory)
    }

    /// An operation that does not exist: what entering costs.
    #[inline(never)]
    pub fn unknown(&mut self) -> Outcome {
        self.engine.event_channel_op(SENDER, UNKNOWN, 8, &mut self.memory)
    }

    /// Sends to the first `count` ports.
    #[inline]
    pub fn send_to(&mut self, count: u32) {
        for n in 0..count {
            let sent = self.send(self.ports[n as usize]);
            debug_assert_eq!(sent, Outcome::Done(0));
        }
    }

    /// The receiver takes an upcall; how many events it found.
    pub fn consume(&self) -> u32 {
        let mut count = 0;
        self.guest.upcall(VcpuId(0), |port| {
            self.guest.clear_pending(port);
            count += 1;
        });
        count
    }

    /// Makes nothing pending, at no cost worth counting.
    pub fn clear(&self) {
        self.guest.page().clear();
    }
}

/// The floor, `f`: one atomic set of a bit that nobody else touches, with its old value tested.
#[inline]
pub fn floor(word: &AtomicU64) -> bool {
    word.fetch_or(1 << 5, SeqCst) >> 5 & 1 == 1
}
