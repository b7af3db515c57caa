// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine that can be saved, moved and compared: three domains, any of which may use FIFO, and what their guests know
//! besides their memory.
#![allow(dead_code, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::fifo::{ControlBlock, LINK_MASK, LINKED, MASKED, PENDING, Priority, word_place};
use evtchn_abi::{DomId, EventWord, Gfn, Port, VcpuId};
use evtchn_engine::test_utils::{Call, Recorder, page};
use evtchn_engine::{Delivery, DomainConfig, DumpRow, Engine, MachineState, OpError, VcpuInfoPlace};
use evtchn_sync::{HeapPage, PAGE_SIZE, Page};

pub const VCPUS: u32 = 3;
pub const OFFSET: u32 = 1024;
const ARRAY_PAGES: u32 = 2;

/// The frame of a vCPU's control block.
pub fn control(vcpu: u32) -> Gfn {
    Gfn(100 + u64::from(vcpu))
}

/// The frame of a page of the array.
pub fn array(page: u32) -> Gfn {
    Gfn(200 + u64::from(page))
}

/// The frame in which a guest registers its vcpu_infos, that of each vCPU at its own 64 bytes from [`OFFSET`] on.
pub const INFO: Gfn = Gfn(300);

/// What a guest keeps in registers and in memory of its own.
#[derive(Clone, Debug, Default)]
pub struct Guest {
    pub controls: Vec<u32>,
    pub pages: u32,
    ready: [u32; VCPUS as usize],
    heads: [[u32; 16]; VCPUS as usize],
}

pub struct Machine {
    pub engine: Engine<Recorder>,
    pub shared: Vec<Arc<HeapPage>>,
    pub guests: Vec<Guest>,
}

impl Machine {
    pub fn new(configs: &[DomainConfig]) -> Self {
        let machine = Self::empty(configs.len());
        for (id, config) in machine.ids().zip(configs) {
            machine.engine.create_domain(id, config.clone()).unwrap();
            if config.delivery == Delivery::Shared {
                machine.engine.set_shared_info(id, Some(machine.page(id).clone())).unwrap();
            }
        }
        machine
    }

    /// Memory, and no domains.
    pub fn empty(domains: usize) -> Self {
        let engine = Engine::new(Recorder::default());
        let shared = (0..domains).map(|_| page()).collect();
        let machine = Self { engine, shared, guests: vec![Guest::default(); domains] };
        machine.frames().for_each(|(id, gfn)| drop(machine.frame(id, gfn)));
        machine
    }

    pub fn ids(&self) -> impl Iterator<Item = DomId> + use<> {
        (0..self.shared.len()).map(|id| DomId(u16::try_from(id).unwrap()))
    }

    pub fn page(&self, id: DomId) -> &Arc<HeapPage> {
        &self.shared[usize::from(id.0)]
    }

    pub fn frame(&self, id: DomId, gfn: Gfn) -> Arc<HeapPage> {
        self.engine.hooks().frame(id, gfn)
    }

    pub fn frames(&self) -> impl Iterator<Item = (DomId, Gfn)> + use<> {
        let gfns = || (0..VCPUS).map(control).chain((0..ARRAY_PAGES).map(array)).chain([INFO]);
        self.ids().flat_map(move |id| gfns().map(move |gfn| (id, gfn)))
    }

    /// All memory, page by page.
    pub fn memory(&self) -> Vec<Arc<HeapPage>> {
        let frames = self.frames().map(|(id, gfn)| self.frame(id, gfn));
        self.shared.iter().cloned().chain(frames).collect()
    }

    /// Fills all memory with that of another machine, word by word from the end: the worst order if somebody writes.
    pub fn copy_memory(&self, from: &Self) {
        for (to, from) in self.memory().iter().zip(from.memory()).rev() {
            for at in (0..PAGE_SIZE).step_by(4).rev() {
                to.u32(at).unwrap().store(from.u32(at).unwrap().load(SeqCst), SeqCst);
            }
        }
    }

    pub fn words(&self) -> Vec<u64> {
        let word = |page: &HeapPage, at| page.u64(at).unwrap().load(SeqCst);
        self.memory().iter().flat_map(|page| (0..PAGE_SIZE).step_by(8).map(|at| word(page, at))).collect()
    }

    /// The upcalls, selectors and control blocks.
    pub fn announcements(&self) -> Vec<u64> {
        let registered = self.ids().map(|id| (self.frame(id, INFO), 0..PAGE_SIZE));
        let infos = self.shared.iter().map(|page| (page.clone(), 0..64 * VCPUS as usize)).chain(registered);
        let blocks = self.frames().filter(|(_, gfn)| *gfn < array(0));
        let block = OFFSET as usize..OFFSET as usize + ControlBlock::SIZE;
        let blocks = blocks.map(|(id, gfn)| (self.frame(id, gfn), block.clone()));
        let word = |page: &HeapPage, at| page.u64(at).unwrap().load(SeqCst);
        infos
            .chain(blocks)
            .flat_map(|(page, range)| range.step_by(8).map(move |at| word(&page, at)))
            .collect()
    }

    /// A machine like this one, by way of its state and its memory.
    pub fn moved(&self, state: &MachineState) -> Self {
        let new = Self { guests: self.guests.clone(), ..Self::empty(self.shared.len()) };
        new.copy_memory(self);
        new.engine.restore(state, |id| Some(new.page(id).clone())).unwrap();
        new
    }

    pub fn calls(&self) -> Vec<Call> {
        self.engine.hooks().take()
    }

    pub fn dumps(&self) -> Vec<Vec<DumpRow>> {
        self.ids().map(|id| self.engine.debug_dump(id).unwrap_or_default()).collect()
    }

    pub fn guest(&mut self, id: DomId) -> &mut Guest {
        &mut self.guests[usize::from(id.0)]
    }

    pub fn uses_fifo(&self, id: DomId) -> bool {
        !self.guests[usize::from(id.0)].controls.is_empty()
    }

    /// The vcpu_info of a vCPU: the page, and where it begins.
    pub fn info(&self, id: DomId, vcpu: u32) -> (Arc<HeapPage>, usize) {
        match self.engine.vcpu_info(id, VcpuId(vcpu)) {
            Ok(VcpuInfoPlace::Registered { gfn, offset }) => (self.frame(id, gfn), offset),
            _ => (self.page(id).clone(), 64 * vcpu as usize),
        }
    }

    /// Registers a vCPU's vcpu_info in [`INFO`].
    pub fn register(&self, id: DomId, vcpu: u32) -> Result<(), OpError> {
        self.engine.register_vcpu_info(id, VcpuId(vcpu), INFO, OFFSET + 64 * vcpu)
    }

    pub fn init_control(&mut self, id: DomId, vcpu: u32) -> String {
        let result = self.engine.init_control(id, VcpuId(vcpu), control(vcpu), OFFSET);
        if result.is_ok() {
            self.guest(id).controls.push(vcpu);
        }
        format!("{result:?}")
    }

    pub fn expand_array(&mut self, id: DomId) -> String {
        let next = self.guest(id).pages;
        if next == ARRAY_PAGES {
            return "full".into();
        }
        let result = self.engine.expand_array(id, array(next));
        self.guest(id).pages += u32::from(result.is_ok());
        format!("{result:?}")
    }

    /// Closes everything; the guest forgets its queues.
    pub fn reset(&mut self, id: DomId) -> String {
        let result = self.engine.reset(id, DomId::SELF);
        if result.is_ok() && self.uses_fifo(id) {
            *self.guest(id) = Guest::default();
            // But for its vcpu_infos, which stay registered.
            let own = self.frames().filter(|&(of, gfn)| of == id && gfn != INFO);
            own.for_each(|(id, gfn)| self.frame(id, gfn).clear());
        }
        format!("{result:?}")
    }

    /// A port's event word, if it has one.
    pub fn with_word<T>(
        &self,
        id: DomId,
        port: Port,
        f: impl FnOnce(&std::sync::atomic::AtomicU32) -> T,
    ) -> Option<T> {
        let (page, offset) = word_place(port)?;
        let page = u32::try_from(page).ok().filter(|&page| page < self.guests[usize::from(id.0)].pages)?;
        let frame = self.frame(id, array(page));
        Some(f(frame.u32(offset)?))
    }

    /// One step of a vCPU's upcall handler in the FIFO ABI: the next port off its queues, and whether it had an event.
    pub fn take_fifo(&mut self, id: DomId, vcpu: u32) -> Option<(Port, bool)> {
        let block = self.frame(id, control(vcpu));
        let field = |at: usize| block.u32(OFFSET as usize + at).unwrap();
        let (info, start) = self.info(id, vcpu);
        info.u8(start).unwrap().store(0, SeqCst);
        let index = vcpu as usize;
        self.guest(id).ready[index] |= field(ControlBlock::READY).swap(0, SeqCst);
        let ready = self.guest(id).ready[index];
        if ready == 0 {
            return None;
        }
        let queue = ready.trailing_zeros() as usize;
        let mut port = Port(self.guest(id).heads[index][queue]);
        if port == Port(0) {
            let head = ControlBlock::head(Priority(u8::try_from(queue).unwrap())).unwrap();
            port = Port(field(head).load(SeqCst));
        }
        let unlink =
            |word: &std::sync::atomic::AtomicU32| word.fetch_and(!(LINKED | LINK_MASK), SeqCst) & LINK_MASK;
        let next = self.with_word(id, port, unlink).unwrap_or(0);
        self.guest(id).heads[index][queue] = next;
        if next == 0 {
            self.guest(id).ready[index] &= !(1 << queue);
        }
        let take = |word: &std::sync::atomic::AtomicU32| {
            let seen = EventWord(word.load(SeqCst));
            let active = seen.is_pending() && !seen.is_masked();
            if active {
                word.fetch_and(!PENDING, SeqCst);
            }
            active
        };
        let active = self.with_word(id, port, take).unwrap_or(false);
        Some((port, active))
    }

    /// One step of a vCPU's upcall handler in the two-level ABI of 64 bits: the events of the first selected word.
    pub fn take_bits(&mut self, id: DomId, vcpu: u32) -> Vec<Port> {
        let page = self.page(id).clone();
        let (info, start) = self.info(id, vcpu);
        info.u8(start).unwrap().store(0, SeqCst);
        let selector = info.u64(start + 8).unwrap();
        let selected = selector.load(SeqCst);
        if selected == 0 {
            return Vec::new();
        }
        let word = selected.trailing_zeros();
        selector.fetch_and(!(1 << word), SeqCst);
        let pending = page.u64(2048 + 8 * word as usize).unwrap();
        let active = pending.load(SeqCst) & !page.u64(2560 + 8 * word as usize).unwrap().load(SeqCst);
        pending.fetch_and(!active, SeqCst);
        (0..64).filter(|bit| active >> bit & 1 == 1).map(|bit| Port(word * 64 + bit)).collect()
    }

    /// The guest masks a port.
    pub fn mask(&self, id: DomId, port: Port) {
        if self.uses_fifo(id) {
            self.with_word(id, port, |word| word.fetch_or(MASKED, SeqCst));
        } else {
            super::set_bit(self.page(id), 2560, port.0, true);
        }
    }
}

/// Domain 0 and two guests with [`VCPUS`] vCPUs each.
pub fn configs() -> Vec<DomainConfig> {
    let one = DomainConfig { nr_pirqs: 8, max_port: None, ..DomainConfig::guest(VCPUS) };
    vec![
        DomainConfig::dom0(VCPUS),
        one,
        DomainConfig { target: Some(DomId(1)), ..DomainConfig::guest(VCPUS) },
    ]
}
