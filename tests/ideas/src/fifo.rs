// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domain 1 with the FIFO ABI, and a consumer as plain as can be.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use evtchn_abi::fifo::{ControlBlock, LINK_MASK, LINKED, MASKED, PENDING, word_place};
use evtchn_abi::{Port, Priority};
use evtchn_engine::DomainConfig;
use evtchn_sync::{HeapPage, Page};

use crate::world::{D1, D2, World, port};

pub const P: u32 = PENDING;
pub const M: u32 = MASKED;
pub const L: u32 = LINKED;
pub const B: u32 = evtchn_abi::fifo::BUSY;

/// The frame of a vCPU's control block, which is at its start.
pub fn control(vcpu: u32) -> u64 {
    100 + u64::from(vcpu)
}

/// The frame of a page of the array.
pub fn array(page: u32) -> u64 {
    200 + u64::from(page)
}

/// A world whose domain 1 has frames for FIFO.
pub struct Fifo {
    world: World,
    controls: Vec<Arc<HeapPage>>,
    array: Vec<Arc<HeapPage>>,
    /// What the consumer knows of each queue's front, for each vCPU.
    heads: Vec<[AtomicU32; 16]>,
}

impl Deref for Fifo {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Fifo {
    /// FIFO on all four vCPUs, with so many pages of words and no limit on ports.
    pub fn new(pages: u32) -> Self {
        Self::with(pages, |one| one.max_port = None)
    }

    pub fn with(pages: u32, change: impl FnOnce(&mut DomainConfig)) -> Self {
        let fifo = Self::frames(pages.max(2), change);
        fifo.switch(4);
        (0..pages).for_each(|page| fifo.expand(page));
        fifo
    }

    /// Two-level as yet.
    pub fn two_level() -> Self {
        Self::two_level_with(|one| one.max_port = None)
    }

    pub fn two_level_with(change: impl FnOnce(&mut DomainConfig)) -> Self {
        Self::frames(2, change)
    }

    fn frames(pages: u32, change: impl FnOnce(&mut DomainConfig)) -> Self {
        let world = World::with(change);
        Self {
            controls: (0..4).map(|vcpu| world.frame(D1, control(vcpu))).collect(),
            array: (0..pages).map(|page| world.frame(D1, array(page))).collect(),
            heads: (0..4).map(|_| [const { AtomicU32::new(0) }; 16]).collect(),
            world,
        }
    }

    /// Gives the first vCPUs their control blocks.
    pub fn switch(&self, vcpus: u32) {
        (0..vcpus).for_each(|vcpu| assert_eq!(self.init_control(D1, vcpu, control(vcpu), 0), 17));
    }

    pub fn expand(&self, page: u32) {
        assert_eq!(self.expand_array(D1, array(page)), 0);
    }

    /// How many users a page of the array has, this one included.
    pub fn users(&self, page: usize) -> usize {
        Arc::strong_count(&self.array[page])
    }

    pub fn cell(&self, port: u32) -> &AtomicU32 {
        let (page, offset) = word_place(Port(port)).unwrap();
        self.array[page].u32(offset).unwrap()
    }

    pub fn word(&self, port: u32) -> u32 {
        self.cell(port).load(SeqCst)
    }

    pub fn set_word(&self, port: u32, word: u32) {
        self.cell(port).store(word, SeqCst);
    }

    fn field(&self, vcpu: u32, at: usize) -> &AtomicU32 {
        self.controls[vcpu as usize].u32(at).unwrap()
    }

    pub fn ready(&self, vcpu: u32) -> u32 {
        self.ready_cell(vcpu).load(SeqCst)
    }

    pub fn ready_cell(&self, vcpu: u32) -> &AtomicU32 {
        self.field(vcpu, ControlBlock::READY)
    }

    pub fn head(&self, vcpu: u32, queue: u8) -> u32 {
        self.head_cell(vcpu, queue).load(SeqCst)
    }

    pub fn head_cell(&self, vcpu: u32, queue: u8) -> &AtomicU32 {
        self.field(vcpu, ControlBlock::head(Priority(queue)).unwrap())
    }

    /// Connects a port of domain 2 with one of domain 1 at this vCPU and priority: (domain 2's, domain 1's).
    pub fn channel(&self, vcpu: u32, priority: u32) -> (u32, u32) {
        let far = port(self.au(D1, 0x7ff0, D2));
        let near = port(self.bi(D2, D1, far));
        assert_eq!((self.set_priority(D1, far, priority), self.bind_vcpu(D1, far, vcpu)), (0, 0));
        self.calm();
        (near, far)
    }

    /// So many on one queue.
    pub fn channels<const N: usize>(&self, vcpu: u32, priority: u32) -> [(u32, u32); N] {
        [(); N].map(|()| self.channel(vcpu, priority))
    }

    /// Domain 2 sends.
    pub fn raise(&self, near: u32) {
        assert_eq!(self.send(D2, near), 0);
    }

    /// What a guest's kernel does in an upcall: takes everything off the vCPU's queues, the most urgent first. Calls `handle`
    /// for ports that are pending and not masked, after PENDING is cleared; returns all ports in their order.
    pub fn consume(&self, vcpu: u32, mut handle: impl FnMut(u32)) -> Vec<u32> {
        let ready = self.ready_cell(vcpu);
        let mut seen = Vec::new();
        let mut queues = ready.swap(0, SeqCst);
        while queues != 0 {
            let queue = queues.trailing_zeros();
            let known = &self.heads[vcpu as usize][queue as usize];
            let port = match known.load(SeqCst) {
                0 => self.head(vcpu, u8::try_from(queue).unwrap()),
                port => port,
            };
            let cell = self.cell(port);
            let word = cell.fetch_and(!(LINKED | LINK_MASK), SeqCst);
            assert!(word & LINKED != 0, "port {port} is on a queue twice");
            let next = word & LINK_MASK;
            known.store(next, SeqCst);
            if next == 0 {
                queues &= !(1 << queue);
            }
            seen.push(port);
            if cell.load(SeqCst) & (PENDING | MASKED) == PENDING {
                cell.fetch_and(!PENDING, SeqCst);
                handle(port);
            }
            queues |= ready.swap(0, SeqCst);
        }
        seen
    }

    /// All ports on a vCPU's queues, in their order.
    pub fn drain(&self, vcpu: u32) -> Vec<u32> {
        self.consume(vcpu, |_| ())
    }

    /// The ports that a vCPU handles.
    pub fn handled(&self, vcpu: u32) -> Vec<u32> {
        let mut handled = Vec::new();
        self.consume(vcpu, |port| handled.push(port));
        handled
    }
}
