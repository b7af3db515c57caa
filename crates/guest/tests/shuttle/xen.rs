// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hypervisor that takes every liberty that Xen takes.
//!
//! Each step of a raise is one of its own, so others come between any two of them: a sender looks up the vCPU and stalls,
//! sets PENDING, stalls, and announces the event on a vCPU that the port has left meanwhile. READY is set after the
//! queues are unlocked. Only two things wait for senders, as in Xen: closing a port, and (here) a vCPU that goes offline,
//! which takes far longer than a raise.

use std::sync::atomic::AtomicBool as Flag;
use std::sync::atomic::AtomicU32 as Count;

use evtchn_abi::fifo::{BUSY, ControlBlock, LINK_MASK, LINKED, MASKED, PENDING};
use evtchn_abi::{DomId, Errno, EventWord, Gfn, Op, Port, Priority, VcpuId, fifo};
use evtchn_guest::{Hypercall, Kernel};
use evtchn_sync::Page;
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use shuttle::sync::{Mutex, RwLock};
use shuttle::thread;

use crate::pages::{self, ARRAY, CONTROL, Memory, SECOND_WORD, VCPUS};
use crate::world::{Clock, Far, Xen, below};

const QUEUES: usize = 16;
/// Any peer: there is only one other domain.
const PEERS: u32 = 6;

/// What a port is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Free,
    /// Connected with one of the peer's ports.
    Interdomain(Far),
    Ipi,
}

/// One of the guest's ports. Senders hold the lock for reading.
struct Entry {
    kind: RwLock<Kind>,
    vcpu: AtomicU32,
    priority: AtomicU32,
    /// The queue where it was last, and whether an event came before there was a word for it.
    queue: AtomicU32,
    saved: AtomicBool,
    /// How often an unmask has raised an event again that the guest had taken meanwhile.
    doubled: Count,
}

/// The hypervisor.
pub struct Model {
    memory: Memory,
    has_fifo: bool,
    uses_fifo: AtomicBool,
    blocks: [AtomicBool; VCPUS as usize],
    array_pages: AtomicU32,
    ports: Vec<Entry>,
    /// The guest's port at the other end of each of the peer's; 0: none.
    peers: Vec<AtomicU32>,
    /// The tail of each queue.
    tails: Vec<Mutex<u32>>,
    control: Mutex<()>,
    interrupts: [Flag; VCPUS as usize],
    calming: AtomicBool,
    clock: Clock,
}

/// Lets others run for a while, now and then.
fn stall() {
    if below(3) == 0 {
        (0..below(4)).for_each(|_| thread::yield_now());
    }
}

/// The guest's ports in the order in which they are handed out: in both of the words, and few, so that numbers are used again soon.
const NUMBERS: [u32; 8] = [1, SECOND_WORD, 2, SECOND_WORD + 1, 3, SECOND_WORD + 2, 4, SECOND_WORD + 3];

impl Model {
    fn entry(&self, port: Port) -> Option<&Entry> {
        let index = NUMBERS.iter().position(|&number| number == port.0)?;
        self.ports.get(index)
    }

    fn entries(&self) -> impl Iterator<Item = (Port, &Entry)> {
        NUMBERS.into_iter().map(Port).zip(&self.ports)
    }

    fn word(&self, port: Port) -> Option<&evtchn_sync::atomic::AtomicU32> {
        let known = self.array_pages.load(SeqCst) > 0;
        known.then(|| self.memory.event_array[0].page.u32(4 * port.0 as usize)).flatten()
    }

    fn is_linked(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| EventWord(word.load(SeqCst)).is_linked())
    }

    fn bits(&self, base: usize, port: Port) -> (&AtomicU64, u64) {
        let page = &self.memory.shared_info;
        (page.u64(base + (port.0 / 64) as usize * 8).unwrap(), 1 << (port.0 % 64))
    }

    /// Sends to a port whose entry the caller holds.
    fn raise(&self, port: Port, entry: &Entry) {
        stall();
        let vcpu = VcpuId(entry.vcpu.load(SeqCst));
        stall();
        if self.uses_fifo.load(SeqCst) {
            let _ = self.raise_fifo(port, entry, vcpu);
        } else {
            self.raise_two_level(port, vcpu);
        }
    }

    fn raise_two_level(&self, port: Port, vcpu: VcpuId) {
        let (pending, bit) = self.bits(2048, port);
        if pending.fetch_or(bit, SeqCst) & bit != 0 {
            return;
        }
        stall();
        let (mask, bit) = self.bits(2560, port);
        if mask.load(SeqCst) & bit == 0 {
            stall();
            self.select(port, vcpu);
        }
    }

    fn select(&self, port: Port, vcpu: VcpuId) {
        let selector = self.memory.shared_info.u64(64 * vcpu.0 as usize + 8).unwrap();
        let bit = 1 << (port.0 / 64);
        if selector.fetch_or(bit, SeqCst) & bit == 0 {
            stall();
            self.mark_upcall(vcpu);
        }
    }

    fn mark_upcall(&self, vcpu: VcpuId) {
        let byte = self.memory.shared_info.u8(64 * vcpu.0 as usize).unwrap();
        if byte.fetch_or(1, SeqCst) & 1 == 0 {
            stall();
            self.interrupts[vcpu.0 as usize].store(true, SeqCst);
        }
    }

    /// Whether the port was pending.
    fn raise_fifo(&self, port: Port, entry: &Entry, vcpu: VcpuId) -> bool {
        if self.word(port).is_none() {
            entry.saved.store(true, SeqCst);
            // A page that came meanwhile has not seen the flag, or its giver sends it now.
            if self.word(port).is_none() || !entry.saved.swap(false, SeqCst) {
                return false;
            }
        }
        let (queue, was_pending, is_new_head) = self.link(port, entry, vcpu);
        if is_new_head {
            stall();
            let at = 128 * vcpu.0 as usize + ControlBlock::READY;
            let ready = self.memory.control_blocks[0].page.u32(at).unwrap();
            let bit = 1 << (queue % QUEUES);
            if ready.fetch_or(bit, SeqCst) & bit == 0 {
                stall();
                self.mark_upcall(vcpu);
            }
        }
        was_pending
    }

    /// Makes the port pending, and links it. Its queue, whether it was pending, and whether it is the first there.
    fn link(&self, port: Port, entry: &Entry, vcpu: VcpuId) -> (usize, bool, bool) {
        loop {
            let priority = entry.priority.load(SeqCst);
            let (new, old) =
                (vcpu.0 as usize * QUEUES + priority as usize, entry.queue.load(SeqCst) as usize);
            stall();
            let mut first = self.tails[new.min(old)].lock().unwrap();
            let mut second = (new != old).then(|| self.tails[new.max(old)].lock().unwrap());
            if entry.priority.load(SeqCst) != priority || entry.queue.load(SeqCst) as usize != old {
                continue;
            }
            let word = self.word(port).unwrap();
            let was_pending = word.fetch_or(PENDING, SeqCst) & PENDING != 0;
            if word.load(SeqCst) & MASKED != 0 || word.fetch_or(LINKED, SeqCst) & LINKED != 0 {
                return (new, was_pending, false);
            }
            let (new_tail, old_tail) = match &mut second {
                None => (&mut *first, None),
                Some(second) if new < old => (&mut *first, Some(&mut **second)),
                Some(second) => (&mut **second, Some(&mut *first)),
            };
            if let Some(old_tail) = old_tail {
                if *old_tail == port.0 {
                    *old_tail = 0;
                }
                entry.queue.store(u32::try_from(new).unwrap(), SeqCst);
            } else if *new_tail == port.0 {
                *new_tail = 0;
            }
            let is_linked = *new_tail != 0 && self.set_link(Port(*new_tail), port);
            if !is_linked {
                let head = ControlBlock::head(Priority(u8::try_from(priority).unwrap())).unwrap();
                let page = &self.memory.control_blocks[0].page;
                page.u32(128 * vcpu.0 as usize + head).unwrap().store(port.0, SeqCst);
            }
            *new_tail = port.0;
            return (new, was_pending, !is_linked);
        }
    }

    /// Appends a port to the tail of a queue; whether that is still there.
    fn set_link(&self, tail: Port, port: Port) -> bool {
        let word = self.word(tail).unwrap();
        // BUSY at once, or after the first try.
        let mut busy = below(2) == 0;
        loop {
            if busy {
                word.fetch_or(BUSY, SeqCst);
                stall();
            }
            let seen = word.load(SeqCst);
            if seen & LINKED == 0 {
                if busy {
                    word.fetch_and(!BUSY, SeqCst);
                }
                return false;
            }
            let linked = seen & !(BUSY | LINK_MASK) | port.0;
            if word.compare_exchange(seen, linked, SeqCst, SeqCst).is_ok() {
                return true;
            }
            busy = true;
        }
    }

    /// A free port, which nobody uses until its kind is set.
    fn allocate(&self, kind: Kind, vcpu: VcpuId) -> Result<Port, Errno> {
        let _control = self.control.lock().unwrap();
        for (port, entry) in self.entries() {
            let mut now = entry.kind.write().unwrap();
            if *now == Kind::Free && !self.is_linked(port) {
                entry.vcpu.store(vcpu.0, SeqCst);
                entry.priority.store(7, SeqCst);
                *now = kind;
                return Ok(port);
            }
        }
        Err(Errno::ENOSPC)
    }

    fn forget_event(&self, port: Port, entry: &Entry) {
        entry.saved.store(false, SeqCst);
        if !self.uses_fifo.load(SeqCst) {
            let (pending, bit) = self.bits(2048, port);
            pending.fetch_and(!bit, SeqCst);
        } else if let Some(word) = self.word(port) {
            word.fetch_and(!PENDING, SeqCst);
        }
    }
}

impl Xen for Model {
    fn new(memory: Memory, has_fifo: bool) -> Self {
        let flags = || std::array::from_fn(|_| AtomicBool::new(false));
        let entry = |_: &u32| Entry {
            kind: RwLock::new(Kind::Free),
            vcpu: AtomicU32::new(0),
            priority: AtomicU32::new(7),
            queue: AtomicU32::new(0),
            saved: AtomicBool::new(false),
            doubled: Count::new(0),
        };
        Self {
            memory,
            has_fifo,
            uses_fifo: AtomicBool::new(false),
            blocks: flags(),
            array_pages: AtomicU32::new(0),
            ports: NUMBERS.iter().map(entry).collect(),
            peers: (0..PEERS).map(|_| AtomicU32::new(0)).collect(),
            tails: (0..VCPUS as usize * QUEUES).map(|_| Mutex::new(0)).collect(),
            control: Mutex::new(()),
            interrupts: std::array::from_fn(|_| Flag::new(false)),
            calming: AtomicBool::new(false),
            clock: Clock::default(),
        }
    }

    fn offer(&self, index: u32) -> Far {
        Far(index)
    }

    fn send_to(&self, far: Far) {
        let port = Port(self.peers[far.0 as usize].load(SeqCst));
        let Some(entry) = self.entry(port) else { return };
        let kind = entry.kind.read().unwrap();
        if *kind == Kind::Interdomain(far) {
            self.raise(port, entry);
        }
    }

    fn take_interrupt(&self, vcpu: VcpuId) -> bool {
        self.interrupts[vcpu.0 as usize].swap(false, SeqCst)
    }

    /// Senders that were under way end; those that begin from now on see what `bind_vcpu` says.
    fn calm(&self, calm: bool) {
        self.calming.store(calm, SeqCst);
        if calm {
            self.ports.iter().for_each(|entry| drop(entry.kind.write().unwrap()));
        }
    }

    fn move_away(&self) {
        pages::clear_shared_info(&self.memory);
        self.uses_fifo.store(false, SeqCst);
        self.array_pages.store(0, SeqCst);
        self.blocks.iter().chain([&self.calming]).for_each(|flag| flag.store(false, SeqCst));
        for entry in &self.ports {
            *entry.kind.write().unwrap() = Kind::Free;
            entry.queue.store(0, SeqCst);
            entry.saved.store(false, SeqCst);
        }
        self.peers.iter().for_each(|peer| peer.store(0, SeqCst));
        self.tails.iter().for_each(|tail| *tail.lock().unwrap() = 0);
    }

    fn doubled(&self, port: Port) -> u32 {
        self.entry(port).map_or(0, |entry| entry.doubled.load(SeqCst))
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    fn validate(&self) {}
}

impl Hypercall for Model {
    fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }

    fn bind_interdomain(&self, _: DomId, remote_port: Port) -> Result<Port, Errno> {
        let far = Far(remote_port.0 - 1);
        let peer = &self.peers[far.0 as usize];
        if peer.load(SeqCst) != 0 {
            return Err(Errno::EINVAL);
        }
        let port = self.allocate(Kind::Interdomain(far), VcpuId(0))?;
        peer.store(port.0, SeqCst);
        let entry = self.entry(port).unwrap();
        let _kind = entry.kind.read().unwrap();
        self.raise(port, entry);
        Ok(port)
    }

    fn bind_ipi(&self, vcpu: VcpuId) -> Result<Port, Errno> {
        self.allocate(Kind::Ipi, vcpu)
    }

    fn bind_vcpu(&self, port: Port, vcpu: VcpuId) -> Result<(), Errno> {
        let entry = self.entry(port).ok_or(Errno::EINVAL)?;
        match *entry.kind.read().unwrap() {
            Kind::Interdomain(_) => entry.vcpu.store(vcpu.0, SeqCst),
            Kind::Free | Kind::Ipi => return Err(Errno::EINVAL),
        }
        if self.calming.load(SeqCst) {
            drop(entry.kind.write().unwrap());
        }
        Ok(())
    }

    fn close(&self, port: Port) -> Result<(), Errno> {
        let entry = self.entry(port).ok_or(Errno::EINVAL)?;
        let mut kind = entry.kind.write().unwrap();
        match *kind {
            Kind::Free => return Err(Errno::EINVAL),
            Kind::Interdomain(far) => self.peers[far.0 as usize].store(0, SeqCst),
            Kind::Ipi => {}
        }
        self.forget_event(port, entry);
        *kind = Kind::Free;
        Ok(())
    }

    fn send(&self, port: Port) -> Result<(), Errno> {
        let entry = self.entry(port).ok_or(Errno::EINVAL)?;
        let kind = entry.kind.read().unwrap();
        if *kind == Kind::Free {
            return Err(Errno::EINVAL);
        }
        if *kind == Kind::Ipi {
            self.raise(port, entry);
        }
        Ok(())
    }

    fn unmask(&self, port: Port) -> Result<(), Errno> {
        let entry = self.entry(port).ok_or(Errno::EINVAL)?;
        let _kind = entry.kind.read().unwrap();
        stall();
        if self.uses_fifo.load(SeqCst) {
            let Some(word) = self.word(port) else { return Ok(()) };
            word.fetch_and(!MASKED, SeqCst);
            stall();
            if word.load(SeqCst) & PENDING != 0 {
                let vcpu = VcpuId(entry.vcpu.load(SeqCst));
                stall();
                if !self.raise_fifo(port, entry, vcpu) {
                    entry.doubled.fetch_add(1, SeqCst);
                }
            }
            return Ok(());
        }
        let (mask, bit) = self.bits(2560, port);
        if mask.fetch_and(!bit, SeqCst) & bit == 0 {
            return Ok(());
        }
        stall();
        let (pending, bit) = self.bits(2048, port);
        if pending.load(SeqCst) & bit != 0 {
            let vcpu = VcpuId(entry.vcpu.load(SeqCst));
            stall();
            self.select(port, vcpu);
        }
        Ok(())
    }

    fn init_control(&self, vcpu: VcpuId, control: Gfn, offset: u32) -> Result<u8, Errno> {
        if !self.has_fifo {
            return Err(Errno::ENOSYS);
        }
        assert_eq!((control, offset), (CONTROL, 128 * vcpu.0));
        if self.blocks[vcpu.0 as usize].swap(true, SeqCst) {
            return Err(Errno::EINVAL);
        }
        self.uses_fifo.store(true, SeqCst);
        Ok(u8::try_from(fifo::LINK_BITS).unwrap())
    }

    fn expand_array(&self, page: Gfn) -> Result<(), Errno> {
        let _control = self.control.lock().unwrap();
        assert_eq!(page.0, ARRAY.0 + u64::from(self.array_pages.load(SeqCst)));
        self.array_pages.fetch_add(1, SeqCst);
        for (port, entry) in self.entries() {
            stall();
            if entry.saved.swap(false, SeqCst) {
                let _kind = entry.kind.read().unwrap();
                self.raise(port, entry);
            }
        }
        Ok(())
    }

    fn set_priority(&self, port: Port, priority: Priority) -> Result<(), Errno> {
        let entry = self.entry(port).ok_or(Errno::EINVAL)?;
        if !self.uses_fifo.load(SeqCst) {
            return Err(Errno::ENOSYS);
        }
        entry.priority.store(priority.0.into(), SeqCst);
        Ok(())
    }
}

impl Kernel for Model {
    fn now(&self) -> u64 {
        self.clock.tick()
    }

    fn expire_at(&self, vcpu: VcpuId, deadline: u64) {
        self.clock.ask(vcpu, deadline);
    }
}
