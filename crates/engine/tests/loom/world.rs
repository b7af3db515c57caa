// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two domains: 2 sends, 1 receives.

use std::sync::Arc;
use std::sync::atomic::AtomicU32 as Count;

use evtchn_abi::{DomId, Gfn, Port, VcpuId};
use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};
use evtchn_sync::atomic::{AtomicU8, AtomicU32, AtomicU64};
use evtchn_sync::{ModelPage, Page};
use loom::cell::UnsafeCell;
use loom::thread;

use crate::guest::{Guest, VCPUS};

pub const D1: DomId = DomId(1);
pub const D2: DomId = DomId(2);
pub const V0: VcpuId = VcpuId(0);
pub const V1: VcpuId = VcpuId(1);
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
        let guest = Guest::new();
        let vmm = Vmm {
            controls: guest.controls.clone(),
            array: guest.array.clone(),
            upcalls: Default::default(),
            wakes: Count::new(0),
        };
        let engine = Engine::new(vmm);
        engine.create_domain(D1, config).unwrap();
        engine.create_domain(D2, DomainConfig::guest(1)).unwrap();
        engine.set_shared_info(D1, Some(Held::new(&guest.info))).unwrap();
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

    /// Adds a page to the array, if there is room; whether there was.
    pub fn try_expand(&self) -> bool {
        self.engine.expand_array(D1, ARRAY).is_ok()
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

    /// The receiver closes its port.
    pub fn close(&self) {
        self.engine.close(D1, self.port).unwrap();
    }

    /// The port is closed, and nothing is pending that its next owner would get.
    pub fn the_closed_port_has_no_event(&self) {
        assert!(!self.guest.word(self.port).is_pending());
    }

    /// The embedder was told of each upcall that the guest took, and of no other.
    pub fn each_upcall_was_delivered(&self) {
        for (delivered, taken) in self.engine.hooks().upcalls.iter().zip(&self.guest.taken) {
            assert_eq!(delivered.load(SeqCst), taken.load(SeqCst));
        }
    }
}
