// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two domains: 2 sends, 1 receives. The guest in 1 is as plain as can be.

use std::sync::Arc;
use std::sync::atomic::AtomicU32 as Count;

use evtchn_abi::fifo::{ControlBlock, LINK_MASK, LINKED, MASKED, PENDING, Priority};
use evtchn_abi::{DomId, EventWord, Gfn, Port, VcpuId};
use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};
use evtchn_sync::atomic::{AtomicU8, AtomicU32, AtomicU64, fence};
use evtchn_sync::{ModelPage, Page};
use loom::cell::UnsafeCell;
use loom::thread;

pub const D1: DomId = DomId(1);
pub const D2: DomId = DomId(2);
pub const V0: VcpuId = VcpuId(0);
pub const V1: VcpuId = VcpuId(1);
const VCPUS: u32 = 2;
const ARRAY: Gfn = Gfn(100);

/// Explores a model with at most this many preemptions, or as many as the environment says.
pub fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(run);
}

/// A page as the engine holds it. Loom sees when it is used and when it is dropped.
pub struct Held {
    page: Arc<ModelPage>,
    life: UnsafeCell<()>,
}

// SAFETY: that the drop comes after all uses is what loom checks.
#[allow(unsafe_code)]
unsafe impl Sync for Held {}

impl Held {
    fn new(page: &Arc<ModelPage>) -> Self {
        Self { page: page.clone(), life: UnsafeCell::new(()) }
    }

    fn used(&self) -> &ModelPage {
        self.life.with(|_| ());
        &self.page
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.life.with_mut(|_| ());
    }
}

impl Page for Held {
    fn u8(&self, offset: usize) -> Option<&AtomicU8> {
        self.used().u8(offset)
    }

    fn u32(&self, offset: usize) -> Option<&AtomicU32> {
        self.used().u32(offset)
    }

    fn u64(&self, offset: usize) -> Option<&AtomicU64> {
        self.used().u64(offset)
    }
}

/// The embedder. It counts in atomics of the real machine: they are no steps of the model.
pub struct Vmm {
    controls: Vec<Arc<ModelPage>>,
    array: Arc<ModelPage>,
    upcalls: [Count; VCPUS as usize],
    pub wakes: Count,
}

impl Hooks for Vmm {
    type Page = Held;

    fn deliver(&self, domain: DomId, vcpu: VcpuId, _: Upcall) {
        assert_eq!(domain, D1);
        self.upcalls[vcpu.0 as usize].fetch_add(1, SeqCst);
    }

    fn wake_poller(&self, domain: DomId, _: VcpuId) {
        assert_eq!(domain, D1);
        self.wakes.fetch_add(1, SeqCst);
    }

    fn pin(&self, _: DomId, gfn: Gfn) -> Option<Held> {
        let page = if gfn == ARRAY { Some(&self.array) } else { self.controls.get(gfn.0 as usize) };
        page.map(Held::new)
    }
}

/// The two domains, and a channel between them.
pub struct World {
    pub engine: Engine<Vmm>,
    pub guest: Guest,
    /// Domain 2's end.
    pub send: Port,
    /// Domain 1's end.
    pub port: Port,
    /// What senders write before they send.
    mail: AtomicU32,
}

impl World {
    pub fn new() -> Self {
        Self::with(DomainConfig::guest(VCPUS))
    }

    /// Domain 1 as given.
    pub fn with(config: DomainConfig) -> Self {
        let (info, controls, array) = pages();
        let vmm = Vmm {
            controls: controls.clone(),
            array: array.clone(),
            upcalls: Default::default(),
            wakes: Count::new(0),
        };
        let engine = Engine::new(vmm);
        engine.create_domain(D1, config).unwrap();
        engine.create_domain(D2, DomainConfig::guest(1)).unwrap();
        engine.set_shared_info(D1, Some(Held::new(&info))).unwrap();
        let guest = Guest { info, controls, array, heads: Default::default(), taken: Default::default() };
        let mut world = Self { engine, guest, send: Port(0), port: Port(0), mail: AtomicU32::new(0) };
        (world.send, world.port) = world.pair();
        world
    }

    /// Domain 1 with the FIFO ABI, and words for its ports.
    pub fn fifo() -> Self {
        let world = Self::new();
        world.switch_to_fifo();
        world
    }

    /// Domain 1 with the FIFO ABI, but no page of the array yet.
    pub fn fifo_without_words() -> Self {
        let world = Self::new();
        world.init_controls();
        world
    }

    /// Gives domain 1 the FIFO ABI, and words for its ports.
    pub fn switch_to_fifo(&self) {
        self.init_controls();
        self.expand();
    }

    fn init_controls(&self) {
        (0..VCPUS).map(VcpuId).for_each(|vcpu| self.init_control(vcpu));
    }

    pub fn init_control(&self, vcpu: VcpuId) {
        self.engine.init_control(D1, vcpu, Gfn(vcpu.0.into()), 0).unwrap();
    }

    pub fn expand(&self) {
        self.engine.expand_array(D1, ARRAY).unwrap();
    }

    /// One more channel: the ends of domain 2 and of domain 1.
    pub fn pair(&self) -> (Port, Port) {
        let far = self.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
        (self.engine.bind_interdomain(D2, D1, far).unwrap(), far)
    }

    /// Sends to the port, and expects that it can be sent to.
    pub fn send(&self) {
        self.engine.send(D2, self.send).unwrap();
    }

    /// Writes mail, and sends.
    pub fn send_mail(&self, number: u32) {
        self.mail.store(number, Relaxed);
        self.send();
    }

    /// Reads the mail, after the event was taken.
    pub fn mail(&self) -> u32 {
        self.mail.load(Relaxed)
    }

    /// Runs `other` against `main`.
    pub fn race(self, other: impl FnOnce(&Self) + 'static, main: impl FnOnce(&Self)) -> Arc<Self> {
        let world = Arc::new(self);
        let thread = {
            let world = world.clone();
            thread::spawn(move || other(&world))
        };
        main(&world);
        thread.join().unwrap();
        world
    }

    /// The embedder was told of each upcall that the guest took, and of no other.
    pub fn each_upcall_was_delivered(&self) {
        for (delivered, taken) in self.engine.hooks().upcalls.iter().zip(&self.guest.taken) {
            assert_eq!(delivered.load(SeqCst), taken.load(SeqCst));
        }
    }
}

type Shared = Arc<ModelPage>;

fn pages() -> (Shared, Vec<Shared>, Shared) {
    let info = ModelPage::new(&[0, 1, 64, 65], &[], &[8, 72, 2048, 2560]);
    let block: Vec<_> = (0..ControlBlock::SIZE).step_by(4).collect();
    let controls = (0..VCPUS).map(|_| Arc::new(ModelPage::new(&[], &block, &[]))).collect();
    let words: Vec<_> = (0..8).map(|port| 4 * port).collect();
    (Arc::new(info), controls, Arc::new(ModelPage::new(&[], &words, &[])))
}

/// The guest's side of the pages.
pub struct Guest {
    info: Arc<ModelPage>,
    controls: Vec<Arc<ModelPage>>,
    array: Arc<ModelPage>,
    /// What comes next in each queue of each vCPU; 0: what HEAD says. Used by one thread at a time.
    heads: [[Count; 16]; VCPUS as usize],
    /// How many upcalls each vCPU took.
    taken: [Count; VCPUS as usize],
}

impl Guest {
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
        let ports = (1..8).map(Port).filter(|port| active >> port.0 & 1 == 1);
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

    pub fn mask(&self, port: Port) {
        self.cell(port).fetch_or(MASKED, SeqCst);
    }

    /// Takes the queues that have news.
    pub fn take_ready(&self, vcpu: VcpuId) -> u32 {
        self.controls[vcpu.0 as usize].u32(ControlBlock::READY).unwrap().swap(0, SeqCst)
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
                && self.cell(port).fetch_and(!PENDING, SeqCst) & PENDING != 0
            {
                fence(SeqCst); // as a locked instruction is on x86
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
