// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hypervisor for models: what Xen does with one port, step by step.

use std::sync::Mutex as Quiet;
use std::sync::atomic::{AtomicU32 as Count, AtomicU64 as Time};

use evtchn_abi::fifo::{BUSY, ControlBlock, LINK_MASK, LINKED, MASKED, PENDING, Priority};
use evtchn_abi::{DomId, Errno, EventWord, Gfn, Op, Port, VcpuId};
use evtchn_guest::{Hypercall, Kernel};
use evtchn_sync::Page;
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};
use loom::sync::Mutex;

use crate::pages::{ARRAY, Memory, SECOND_PAGE, VCPUS};

/// The hypervisor. Only pages, the vCPU of a port and whether it is open are steps of the model.
pub struct Xen {
    memory: Memory,
    pub uses_fifo: bool,
    /// The vCPU of every port.
    pub vcpu: AtomicU32,
    array_pages: AtomicU32,
    /// Whether an event came before there was a word for it.
    saved: Mutex<bool>,
    /// The tail of the queue of priority 7 of each vCPU.
    tails: [Mutex<u32>; VCPUS as usize],
    /// How often a port was opened. Senders hold it, who closes a port changes it.
    pub opened: Mutex<u32>,
    /// What an interrupt comes after is seen by the vCPU.
    interrupts: [AtomicBool; VCPUS as usize],
    pub closed: Count,
    pub now: Time,
    pub deadlines: Quiet<Vec<(VcpuId, u64)>>,
}

impl Xen {
    pub fn new(memory: Memory, uses_fifo: bool) -> Self {
        Self {
            memory,
            uses_fifo,
            vcpu: AtomicU32::new(0),
            array_pages: AtomicU32::new(0),
            saved: Mutex::new(false),
            tails: std::array::from_fn(|_| Mutex::new(0)),
            opened: Mutex::new(0),
            interrupts: std::array::from_fn(|_| AtomicBool::new(false)),
            closed: Count::new(0),
            now: Time::new(1),
            deadlines: Quiet::default(),
        }
    }

    /// Whether the vCPU was interrupted.
    pub fn take_interrupt(&self, vcpu: VcpuId) -> bool {
        self.interrupts[vcpu.0 as usize].swap(false, SeqCst)
    }

    fn bits(&self, base: usize, port: Port) -> (&AtomicU64, u64) {
        (self.memory.shared_info.u64(base + (port.0 / 64) as usize * 8).unwrap(), 1 << (port.0 % 64))
    }

    /// Sends to a port, on the vCPU that was looked up.
    pub fn raise(&self, port: Port, vcpu: VcpuId) {
        if self.uses_fifo {
            self.raise_fifo(port, vcpu);
            return;
        }
        let (pending, bit) = self.bits(2048, port);
        if pending.fetch_or(bit, SeqCst) & bit != 0 {
            return;
        }
        fence(SeqCst);
        let (mask, bit) = self.bits(2560, port);
        if mask.load(SeqCst) & bit == 0 {
            self.select(port, vcpu);
        }
    }

    fn select(&self, port: Port, vcpu: VcpuId) {
        let selector = self.memory.shared_info.u64(64 * vcpu.0 as usize + 8).unwrap();
        let bit = 1 << (port.0 / 64);
        if selector.fetch_or(bit, SeqCst) & bit == 0 {
            self.mark_upcall(vcpu);
        }
    }

    fn mark_upcall(&self, vcpu: VcpuId) {
        if self.memory.shared_info.u8(64 * vcpu.0 as usize).unwrap().fetch_or(1, SeqCst) & 1 == 0 {
            self.interrupts[vcpu.0 as usize].swap(true, SeqCst);
        }
    }

    pub fn word(&self, port: Port) -> Option<&AtomicU32> {
        let page = port.0 / SECOND_PAGE;
        if self.array_pages.load(SeqCst) <= page {
            return None;
        }
        self.memory.event_array[page as usize].page.u32(4 * (port.0 % SECOND_PAGE) as usize)
    }

    fn control(&self, vcpu: VcpuId, at: usize) -> &AtomicU32 {
        self.memory.control_blocks[0].page.u32(128 * vcpu.0 as usize + at).unwrap()
    }

    fn raise_fifo(&self, port: Port, vcpu: VcpuId) {
        {
            let mut saved = self.saved.lock().unwrap();
            if self.word(port).is_none() {
                *saved = true;
                return;
            }
        }
        let mut tail = self.tails[vcpu.0 as usize].lock().unwrap();
        let word = self.word(port).unwrap();
        word.fetch_or(PENDING, SeqCst);
        fence(SeqCst);
        if word.load(SeqCst) & MASKED != 0 || word.fetch_or(LINKED, SeqCst) & LINKED != 0 {
            return;
        }
        if *tail == port.0 {
            *tail = 0;
        }
        let is_linked = *tail != 0 && self.set_link(Port(*tail), port);
        *tail = port.0;
        if !is_linked {
            self.control(vcpu, ControlBlock::head(Priority::DEFAULT).unwrap()).store(port.0, SeqCst);
        }
        drop(tail);
        let bit = Priority::DEFAULT.ready_bit();
        if !is_linked && self.control(vcpu, ControlBlock::READY).fetch_or(bit, SeqCst) & bit == 0 {
            self.mark_upcall(vcpu);
        }
    }

    /// Appends a port to the tail; whether that is still there.
    fn set_link(&self, tail: Port, port: Port) -> bool {
        let word = self.word(tail).unwrap();
        word.fetch_or(BUSY, SeqCst);
        loop {
            let seen = word.load(SeqCst);
            if !EventWord(seen).is_linked() {
                word.fetch_and(!BUSY, SeqCst);
                return false;
            }
            let linked = seen & !(BUSY | LINK_MASK) | port.0;
            if word.compare_exchange(seen, linked, SeqCst, SeqCst).is_ok() {
                return true;
            }
        }
    }
}

impl Hypercall for Xen {
    fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    /// Ports are opened one after the other, each with the number that is in the remote port.
    fn bind_interdomain(&self, _: DomId, remote_port: Port) -> Result<Port, Errno> {
        let mut opened = self.opened.lock().unwrap();
        *opened += 1;
        self.vcpu.store(0, SeqCst);
        self.raise(remote_port, VcpuId(0));
        Ok(remote_port)
    }

    fn bind_vcpu(&self, _: Port, vcpu: VcpuId) -> Result<(), Errno> {
        // Those that the table does not open are open always.
        let opened = *self.opened.lock().unwrap();
        assert!(opened == 0 || opened % 2 == 1, "a port is moved that is closed");
        self.vcpu.store(vcpu.0, SeqCst);
        Ok(())
    }

    fn close(&self, port: Port) -> Result<(), Errno> {
        let mut opened = self.opened.lock().unwrap();
        self.closed.fetch_add(1, SeqCst);
        *opened += 1;
        if self.uses_fifo {
            self.word(port).unwrap().fetch_and(!PENDING, SeqCst);
        } else {
            let (pending, bit) = self.bits(2048, port);
            pending.fetch_and(!bit, SeqCst);
        }
        Ok(())
    }

    fn unmask(&self, port: Port) -> Result<(), Errno> {
        if self.uses_fifo {
            let word = self.word(port).unwrap();
            word.fetch_and(!MASKED, SeqCst);
            fence(SeqCst);
            if word.load(SeqCst) & PENDING != 0 {
                self.raise_fifo(port, VcpuId(self.vcpu.load(SeqCst)));
            }
            return Ok(());
        }
        let (mask, bit) = self.bits(2560, port);
        if mask.fetch_and(!bit, SeqCst) & bit == 0 {
            return Ok(());
        }
        fence(SeqCst);
        let (pending, bit) = self.bits(2048, port);
        if pending.load(SeqCst) & bit != 0 {
            self.select(port, VcpuId(self.vcpu.load(SeqCst)));
        }
        Ok(())
    }

    fn init_control(&self, _: VcpuId, _: Gfn, _: u32) -> Result<u8, Errno> {
        Ok(17)
    }

    fn expand_array(&self, page: Gfn) -> Result<(), Errno> {
        let mut saved = self.saved.lock().unwrap();
        let index = self.array_pages.fetch_add(1, SeqCst);
        assert_eq!(page.0, ARRAY.0 + u64::from(index), "pages are added in order");
        let is_saved = std::mem::take(&mut *saved);
        drop(saved);
        if is_saved {
            self.raise_fifo(Port(SECOND_PAGE), VcpuId(0));
        }
        Ok(())
    }
}

impl Kernel for Xen {
    fn now(&self) -> u64 {
        self.now.load(SeqCst)
    }

    fn expire_at(&self, vcpu: VcpuId, deadline: u64) {
        self.deadlines.lock().unwrap().push((vcpu, deadline));
    }
}
