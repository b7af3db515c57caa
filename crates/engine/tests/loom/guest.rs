// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's side of its pages, with both ABIs, as plain as can be. It has eight ports and two vCPUs.

use std::sync::Arc;
use std::sync::atomic::AtomicU32 as Count;

use evtchn_abi::fifo::{ControlBlock, LINK_MASK, LINKED, MASKED, PENDING, Priority};
use evtchn_abi::{EventWord, Port, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::atomic::{AtomicU32, AtomicU64, fence};
use evtchn_sync::{ModelPage, Page};

pub const VCPUS: u32 = 2;
const PORTS: u32 = 8;

/// The guest's side of the pages.
pub struct Guest {
    pub info: Arc<ModelPage>,
    pub controls: Vec<Arc<ModelPage>>,
    pub array: Arc<ModelPage>,
    /// What comes next in each queue of each vCPU; 0: what HEAD says. Used by one thread at a time.
    heads: [[Count; 16]; VCPUS as usize],
    /// How many upcalls each vCPU took.
    pub taken: [Count; VCPUS as usize],
}

impl Guest {
    pub fn new() -> Self {
        let block: Vec<_> = (0..ControlBlock::SIZE).step_by(4).collect();
        let words: Vec<_> = (0..PORTS as usize).map(|port| 4 * port).collect();
        Self {
            info: Arc::new(ModelPage::new(&[0, 1, 64, 65], &[], &[8, 72, 2048, 2560])),
            controls: (0..VCPUS).map(|_| Arc::new(ModelPage::new(&[], &block, &[]))).collect(),
            array: Arc::new(ModelPage::new(&[], &words, &[])),
            heads: Default::default(),
            taken: Default::default(),
        }
    }

    /// Takes the upcall; whether there was one.
    pub fn take_upcall(&self, vcpu: VcpuId) -> bool {
        let there = self.info.u8(64 * vcpu.0 as usize).unwrap().swap(0, SeqCst) != 0;
        self.taken[vcpu.0 as usize].fetch_add(u32::from(there), SeqCst);
        there
    }

    /// Two-level: handles one upcall, and returns the ports that were active.
    pub fn look(&self, vcpu: VcpuId) -> Vec<Port> {
        if !self.take_upcall(vcpu) {
            return Vec::new();
        }
        let selector = self.info.u64(64 * vcpu.0 as usize + 8).unwrap();
        if selector.swap(0, SeqCst) & 1 == 0 {
            return Vec::new();
        }
        let active = self.pending_word().load(SeqCst) & !self.mask_word().load(SeqCst);
        let ports = (1..PORTS).map(Port).filter(|port| active >> port.0 & 1 == 1);
        ports.filter(|&port| self.clear_pending_bit(port)).collect()
    }

    fn pending_word(&self) -> &AtomicU64 {
        self.info.u64(2048).unwrap()
    }

    fn mask_word(&self) -> &AtomicU64 {
        self.info.u64(2560).unwrap()
    }

    pub fn pending_bit(&self, port: Port) -> bool {
        self.pending_word().load(SeqCst) >> port.0 & 1 == 1
    }

    pub fn mask_bit(&self, port: Port) {
        self.mask_word().fetch_or(1 << port.0, SeqCst);
    }

    fn clear_pending_bit(&self, port: Port) -> bool {
        let was = self.pending_word().fetch_and(!(1 << port.0), SeqCst) >> port.0 & 1 == 1;
        fence(SeqCst); // as a locked instruction is on x86
        was
    }

    pub fn cell(&self, port: Port) -> &AtomicU32 {
        self.array.u32(4 * port.0 as usize).unwrap()
    }

    pub fn word(&self, port: Port) -> EventWord {
        EventWord(self.cell(port).load(SeqCst))
    }

    /// FIFO: takes an event; whether there was one.
    pub fn clear_pending(&self, port: Port) -> bool {
        let was = self.cell(port).fetch_and(!PENDING, SeqCst) & PENDING != 0;
        fence(SeqCst); // as a locked instruction is on x86
        was
    }

    pub fn mask(&self, port: Port) {
        self.cell(port).fetch_or(MASKED, SeqCst);
    }

    /// Takes the queues that have news.
    pub fn take_ready(&self, vcpu: VcpuId) -> u32 {
        self.controls[vcpu.0 as usize].u32(ControlBlock::READY).unwrap().swap(0, SeqCst)
    }

    /// The HEAD of a queue.
    #[allow(dead_code)]
    pub fn head(&self, vcpu: VcpuId, queue: Priority) -> Port {
        let head = self.controls[vcpu.0 as usize].u32(ControlBlock::head(queue).unwrap()).unwrap();
        Port(head.load(SeqCst))
    }

    /// FIFO: handles one upcall, the ports in the order in which they are taken. `handle` is called for each.
    pub fn consume(&self, vcpu: VcpuId, mut handle: impl FnMut(Port)) {
        if !self.take_upcall(vcpu) {
            return;
        }
        let mut ready = self.take_ready(vcpu);
        while ready != 0 {
            let queue = Priority(ready.trailing_zeros() as u8);
            self.consume_queue(vcpu, queue, &mut handle);
            ready = ready & !queue.ready_bit() | self.take_ready(vcpu);
        }
    }

    /// Takes all off one queue.
    pub fn consume_queue(&self, vcpu: VcpuId, queue: Priority, mut handle: impl FnMut(Port)) {
        loop {
            let (port, last) = self.unlink_next(vcpu, queue);
            let word = port.map_or(EventWord(0), |port| self.word(port));
            if let Some(port) = port.filter(|_| word.is_pending() && !word.is_masked())
                && self.clear_pending(port)
            {
                handle(port);
            }
            if last {
                return;
            }
        }
    }

    /// Takes the next port off a queue, and leaves it pending; whether the queue has ended.
    pub fn unlink_next(&self, vcpu: VcpuId, queue: Priority) -> (Option<Port>, bool) {
        let kept = &self.heads[vcpu.0 as usize][queue.queue()];
        let head = self.controls[vcpu.0 as usize].u32(ControlBlock::head(queue).unwrap()).unwrap();
        let port = match kept.load(SeqCst) {
            0 => head.load(SeqCst) & LINK_MASK,
            next => next,
        };
        if port == 0 {
            return (None, true);
        }
        let linked = self.word(Port(port)).is_linked();
        let next = if linked {
            self.cell(Port(port)).fetch_and(!(LINKED | LINK_MASK), SeqCst) & LINK_MASK
        } else {
            0
        };
        kept.store(next, SeqCst);
        (Some(Port(port)), next == 0)
    }
}
