// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's hypercalls, carried out by the engine.
#![allow(dead_code)] // each test file uses its own part

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use evtchn_abi::{DomId, Errno, Gfn, Layout, Op, Port, VcpuId};
use evtchn_engine::test_utils::Recorder;
use evtchn_engine::{DomainConfig, Engine};
use evtchn_guest::{Fifo, FifoVcpu, Hypercall, InProcess};
use evtchn_sync::HeapPage;

pub const SENDER: DomId = DomId(1);
pub const GUEST: DomId = DomId(2);
pub const V0: VcpuId = VcpuId(0);
pub const V1: VcpuId = VcpuId(1);

/// Where the guest's control blocks and the pages of its array are.
pub const CONTROL: Gfn = Gfn(0x100);
pub const ARRAY: u64 = 0x200;

pub type FifoGuest = Fifo<Arc<HeapPage>, Box<[FifoVcpu<Arc<HeapPage>>]>, Box<[Arc<HeapPage>]>>;

/// The engine with two domains: one that sends, and the guest.
pub struct Env {
    pub engine: Engine<Recorder>,
    pub shared: Arc<HeapPage>,
    /// The guest's hypercalls.
    pub calls: AtomicU32,
}

impl Env {
    pub fn new(vcpus: u32, max_port: u32) -> Self {
        let engine = Engine::new(Recorder::default());
        let config = |vcpus| DomainConfig { max_port: Some(max_port), ..DomainConfig::guest(vcpus) };
        engine.create_domain(SENDER, config(1)).unwrap();
        engine.create_domain(GUEST, config(vcpus)).unwrap();
        let shared = Arc::new(HeapPage::new());
        engine.set_shared_info(GUEST, Some(shared.clone())).unwrap();
        Self { engine, shared, calls: AtomicU32::new(0) }
    }

    /// The guest with FIFO pages that Xen does not know yet: one control page for all vCPUs, and `pages` of the array.
    pub fn fresh_fifo(&self, vcpus: u32, pages: usize) -> FifoGuest {
        let block = self.engine.hooks().frame(GUEST, CONTROL);
        let vcpus = (0..vcpus as usize).map(|vcpu| FifoVcpu::new(block.clone(), vcpu * 128)).collect();
        let array = (0..pages).map(|page| self.engine.hooks().frame(GUEST, array_gfn(page))).collect();
        Fifo::new(self.shared.clone(), &Layout::X86_64, vcpus, array)
    }

    /// The same with all of it given to Xen.
    pub fn fifo(&self, vcpus: u32, pages: usize) -> FifoGuest {
        let guest = self.fresh_fifo(vcpus, pages);
        for vcpu in (0..vcpus).map(VcpuId) {
            guest.init_vcpu(vcpu, CONTROL, self).unwrap();
        }
        for page in 0..pages {
            guest.add_page(array_gfn(page), self).unwrap();
        }
        guest
    }

    /// A connection that has sent nothing yet: the sender's port and the guest's.
    pub fn connect(&self) -> (Port, Port) {
        let far = self.engine.alloc_unbound(GUEST, DomId::SELF, SENDER).unwrap();
        (self.engine.bind_interdomain(SENDER, GUEST, far).unwrap(), far)
    }

    pub fn send(&self, near: Port) {
        self.engine.send(SENDER, near).unwrap();
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
}

pub fn array_gfn(page: usize) -> Gfn {
    Gfn(ARRAY + page as u64)
}
