// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domain 1 with the FIFO ABI: its frames, and a consumer as plain as can be.
#![allow(dead_code, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use evtchn_abi::fifo::{ControlBlock, LINK_MASK, LINKED, MASKED, PENDING, Priority, word_place};
use evtchn_abi::{EventWord, Gfn, Port, VcpuId};
use evtchn_engine::{DomainConfig, Level};
use evtchn_sync::{HeapPage, Page};

use super::{D1, D2, TestEnv};

/// The frame of a vCPU's control block, which begins at [`OFFSET`].
pub fn control(vcpu: u32) -> Gfn {
    Gfn(100 + u64::from(vcpu))
}

/// The frame of a page of the array.
pub fn array(page: u32) -> Gfn {
    Gfn(200 + u64::from(page))
}

pub const OFFSET: u32 = 4024;

/// The guest's side.
pub struct Guest {
    controls: Vec<Arc<HeapPage>>,
    array: Vec<Arc<HeapPage>>,
    /// What the consumer knows of each queue's front, for each vCPU.
    heads: Vec<[AtomicU32; 16]>,
}

impl Guest {
    /// Frames for control blocks and array pages exist; nothing is asked of the engine.
    pub fn new(env: &TestEnv, vcpus: u32, pages: u32) -> Self {
        let frame = |gfn| env.engine.hooks().frame(D1, gfn);
        Self {
            controls: (0..vcpus).map(|vcpu| frame(control(vcpu))).collect(),
            array: (0..pages).map(|page| frame(array(page))).collect(),
            heads: (0..vcpus).map(|_| [const { AtomicU32::new(0) }; 16]).collect(),
        }
    }

    pub fn cell(&self, port: Port) -> &AtomicU32 {
        let (page, offset) = word_place(port).unwrap();
        self.array[page].u32(offset).unwrap()
    }

    pub fn word(&self, port: Port) -> EventWord {
        EventWord(self.cell(port).load(SeqCst))
    }

    pub fn set_word(&self, port: Port, word: u32) {
        self.cell(port).store(word, SeqCst);
    }

    fn field(&self, vcpu: u32, at: usize) -> &AtomicU32 {
        self.controls[vcpu as usize].u32(OFFSET as usize + at).unwrap()
    }

    pub fn ready(&self, vcpu: u32) -> u32 {
        self.field(vcpu, ControlBlock::READY).load(SeqCst)
    }

    pub fn set_ready(&self, vcpu: u32, ready: u32) {
        self.field(vcpu, ControlBlock::READY).store(ready, SeqCst);
    }

    pub fn head(&self, vcpu: u32, priority: u8) -> Port {
        Port(self.field(vcpu, ControlBlock::head(Priority(priority)).unwrap()).load(SeqCst))
    }

    /// Takes everything off a vCPU's queues. Calls `handle` for ports that are pending and unmasked,
    /// whose PENDING it has cleared; returns all ports in the order in which they came.
    pub fn consume(&self, vcpu: u32, mut handle: impl FnMut(Port)) -> Vec<Port> {
        let ready = self.field(vcpu, ControlBlock::READY);
        let mut seen = Vec::new();
        let mut queues = ready.swap(0, SeqCst);
        while queues != 0 {
            let queue = queues.trailing_zeros();
            let head = &self.heads[vcpu as usize][queue as usize];
            let mut port = Port(head.load(SeqCst));
            if port == Port(0) {
                port = self.head(vcpu, u8::try_from(queue).unwrap());
            }
            let cell = self.cell(port);
            let next = cell.fetch_and(!(LINKED | LINK_MASK), SeqCst) & LINK_MASK;
            head.store(next, SeqCst);
            if next == 0 {
                queues &= !(1 << queue);
            }
            seen.push(port);
            let word = EventWord(cell.load(SeqCst));
            if word.is_pending() && !word.is_masked() {
                cell.fetch_and(!PENDING, SeqCst);
                handle(port);
            }
            queues |= ready.swap(0, SeqCst);
        }
        seen
    }

    /// All ports that are taken off a vCPU's queues, as numbers.
    pub fn drain(&self, vcpu: u32) -> Vec<u32> {
        self.consume(vcpu, |_| ()).iter().map(|port| port.0).collect()
    }

    /// Clears MASKED as a guest does: itself if nothing is pending, else by asking Xen.
    pub fn unmask(&self, env: &TestEnv, port: Port) {
        loop {
            let word = self.word(port);
            if !word.is_masked() {
                return;
            }
            if word.is_pending() {
                return env.engine.unmask(D1, port).unwrap();
            }
            if word.is_busy() {
                continue;
            }
            let clear = word.without(MASKED).0;
            if self.cell(port).compare_exchange(word.0, clear, SeqCst, SeqCst).is_ok() {
                return;
            }
        }
    }
}

/// Domain 1 with FIFO on all its four vCPUs and two array pages; domain 2 sends.
pub struct FifoEnv {
    pub env: TestEnv,
    pub guest: Guest,
}

impl FifoEnv {
    pub fn new() -> Self {
        Self::with(DomainConfig { max_port: None, ..DomainConfig::guest(4) }, 2)
    }

    pub fn with(config: DomainConfig, pages: u32) -> Self {
        let vcpus = config.vcpus;
        let env = TestEnv::with(Level::Current, config);
        let guest = Guest::new(&env, vcpus, pages);
        switch(&env, vcpus);
        (0..pages).for_each(|page| env.engine.expand_array(D1, array(page)).unwrap());
        Self { env, guest }
    }

    /// Ports of domain 1 at this priority and vCPU, each with the port of domain 2 that raises it.
    pub fn ports<const N: usize>(&self, vcpu: u32, priority: u32) -> [(Port, Port); N] {
        std::array::from_fn(|_| {
            let (send, port) = self.env.pair(D2, D1);
            self.env.engine.set_priority(D1, port, priority).unwrap();
            self.env.engine.bind_vcpu(D1, port, VcpuId(vcpu)).unwrap();
            (send, port)
        })
    }

    pub fn send(&self, port: Port) {
        self.env.engine.send(D2, port).unwrap();
    }
}

/// Gives the first vCPUs of domain 1 their control blocks.
pub fn switch(env: &TestEnv, vcpus: u32) {
    (0..vcpus).for_each(|vcpu| {
        env.engine.init_control(D1, VcpuId(vcpu), control(vcpu), OFFSET).unwrap();
    });
}
