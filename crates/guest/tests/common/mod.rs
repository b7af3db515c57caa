// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's hypercalls, carried out by the engine.
#![allow(dead_code)] // each test file uses its own part

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use evtchn_abi::{DomId, Errno, Gfn, Layout, Op, Port, VcpuId, VcpuOp};
use evtchn_engine::test_utils::Recorder;
use evtchn_engine::{DomainConfig, Engine, Width};
use evtchn_guest::{Abi, Auto, Fifo, FifoVcpu, Frame, Frames, Hypercall, InProcess, TwoLevel, TwoLevelVcpu};
use evtchn_sync::HeapPage;

pub const SENDER: DomId = DomId(1);
pub const GUEST: DomId = DomId(2);
pub const V0: VcpuId = VcpuId(0);
pub const V1: VcpuId = VcpuId(1);

/// Where the guest's control blocks, the pages of its array and those of its `vcpu_info`s are.
pub const CONTROL: Gfn = Gfn(0x100);
pub const ARRAY: Gfn = Gfn(0x200);
pub const INFOS: Gfn = Gfn(0x300);

pub type Pages = Frames<Arc<HeapPage>, Vec<Frame<Arc<HeapPage>>>>;
pub type TwoLevelGuest = TwoLevel<Pages, Vec<TwoLevelVcpu>>;
pub type FifoGuest = Fifo<Pages, Vec<FifoVcpu>>;

/// The engine with two domains: one that sends, and the guest.
pub struct Env {
    pub engine: Engine<Recorder>,
    pub shared: Arc<HeapPage>,
    vcpus: u32,
    width: Width,
    /// The guest's hypercalls.
    calls: AtomicU32,
}

impl Env {
    /// A guest with 64-bit words.
    pub fn new(vcpus: u32, max_port: u32) -> Self {
        Self::with(DomainConfig { max_port: Some(max_port), ..DomainConfig::guest(vcpus) })
    }

    /// The guest as given; the sender has as many ports.
    pub fn with(guest: DomainConfig) -> Self {
        let engine = Engine::new(Recorder::default());
        let (vcpus, width) = (guest.vcpus, guest.width);
        let sender = DomainConfig { max_port: guest.max_port, ..DomainConfig::guest(1) };
        engine.create_domain(SENDER, sender).unwrap();
        engine.create_domain(GUEST, guest).unwrap();
        let shared = Arc::new(HeapPage::new());
        engine.set_shared_info(GUEST, Some(shared.clone())).unwrap();
        Self { engine, shared, vcpus, width, calls: AtomicU32::new(0) }
    }

    pub fn layout(&self) -> &'static Layout {
        self.width.layout()
    }

    /// The guest's page at a frame.
    pub fn page(&self, gfn: Gfn) -> Arc<HeapPage> {
        self.engine.hooks().frame(GUEST, gfn)
    }

    /// The guest's memory: control blocks for all of its vCPUs, and so many pages of the array.
    pub fn memory(&self, array: usize) -> Pages {
        let frames = |first: Gfn, count: usize| {
            let gfns = (first.0..).map(Gfn).take(count);
            gfns.map(|gfn| Frame { page: self.page(gfn), gfn }).collect()
        };
        Frames {
            layout: self.layout(),
            shared_info: self.shared.clone(),
            vcpu_infos: vec![],
            control_blocks: frames(CONTROL, self.vcpus.div_ceil(32) as usize),
            event_array: frames(ARRAY, array),
        }
    }

    /// The same with a page of `vcpu_info`s.
    pub fn memory_with_infos(&self, array: usize) -> Pages {
        let vcpu_infos = vec![Frame { page: self.page(INFOS), gfn: INFOS }];
        Frames { vcpu_infos, ..self.memory(array) }
    }

    /// What a guest keeps for its vCPUs.
    pub fn states<V: Default>(&self) -> Vec<V> {
        (0..self.vcpus).map(|_| V::default()).collect()
    }

    /// A guest that Xen does not know yet.
    pub fn fresh_fifo(&self, pages: usize) -> FifoGuest {
        Fifo::new(self.memory(pages), self.states())
    }

    /// A guest whose vCPUs are online, and whose array has all of its pages.
    pub fn fifo(&self, pages: usize) -> FifoGuest {
        let guest = self.booted(self.fresh_fifo(pages));
        if let Some(last) = (pages as u32 * 1024).checked_sub(1) {
            guest.cover(Port(last), self).unwrap();
        }
        guest
    }

    /// A guest whose vCPUs are online.
    pub fn two_level(&self) -> TwoLevelGuest {
        self.booted(TwoLevel::new(self.memory(0), self.states()))
    }

    /// A guest that takes what there is, whose vCPUs are online.
    pub fn auto(&self) -> Auto<Pages, Vec<TwoLevelVcpu>, Vec<FifoVcpu>> {
        self.booted(Auto::new(self.memory(1), self.states(), self.states()))
    }

    /// Brings all vCPUs online.
    pub fn booted<A: Abi>(&self, guest: A) -> A {
        guest.start();
        (0..self.vcpus).for_each(|vcpu| guest.online(VcpuId(vcpu), self).unwrap());
        guest
    }

    /// A connection that has sent nothing yet: the sender's port and the guest's, which is masked and nobody's.
    pub fn connect(&self) -> (Port, Port) {
        let far = self.engine.alloc_unbound(GUEST, DomId::SELF, SENDER).unwrap();
        (self.engine.bind_interdomain(SENDER, GUEST, far).unwrap(), far)
    }

    /// Connections whose events vCPU 0 gets: the sender's ports and the guest's.
    pub fn open<const N: usize>(&self, guest: &impl Abi) -> ([Port; N], [Port; N]) {
        let pairs = [(); N].map(|()| self.connect());
        for (_, far) in pairs {
            guest.cover(far, self).unwrap();
            guest.bind(far, V0);
            guest.unmask(far, self).unwrap();
        }
        self.take_calls();
        (pairs.map(|(near, _)| near), pairs.map(|(_, far)| far))
    }

    pub fn send(&self, near: Port) {
        self.engine.send(SENDER, near).unwrap();
    }

    pub fn send_all(&self, near: &[Port]) {
        near.iter().for_each(|&port| self.send(port));
    }

    /// How many hypercalls the guest has made since the last time.
    pub fn take_calls(&self) -> u32 {
        self.calls.swap(0, SeqCst)
    }
}

/// Counts them on the way to the engine.
impl Hypercall for Env {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        self.calls.fetch_add(1, SeqCst);
        InProcess::new(&self.engine, GUEST, V0).event_channel_op(op, arg)
    }

    fn vcpu_op(&self, op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        self.calls.fetch_add(1, SeqCst);
        InProcess::new(&self.engine, GUEST, V0).vcpu_op(op, vcpu, arg)
    }
}

/// The ports that one upcall handles.
pub fn seen(guest: &impl Abi, vcpu: VcpuId) -> Vec<Port> {
    let mut ports = Vec::new();
    guest.upcall(vcpu, |port| ports.push(port));
    ports
}
