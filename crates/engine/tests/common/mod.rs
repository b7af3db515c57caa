// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three domains with their pages: domain 0 in control, 1 and 2 ordinary guests with 4 vCPUs.
#![allow(dead_code, missing_docs)]

pub mod fifo;
pub mod full;
pub mod memory;
pub mod state;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{DomId, Layout, Port, VcpuId};
use evtchn_engine::test_utils::{Call, Recorder, page};
use evtchn_engine::{DomainConfig, Engine, Level, OpError, PortStatus, Upcall, Width};
use evtchn_sync::{HeapPage, Page};

pub const D0: DomId = DomId(0);
pub const D1: DomId = DomId(1);
pub const D2: DomId = DomId(2);
pub const NOBODY: DomId = DomId(999);
pub const V0: VcpuId = VcpuId(0);

/// The special ids that name no domain.
pub const SPECIAL: [DomId; 6] = [DomId::IO, DomId::XEN, DomId::COW, DomId::INVALID, DomId::ANY, DomId::IDLE];

pub struct TestEnv {
    pub engine: Engine<Recorder>,
    pages: [Arc<HeapPage>; 3],
}

impl TestEnv {
    pub fn new() -> Self {
        Self::at(Level::Current)
    }

    pub fn at(level: Level) -> Self {
        Self::with(level, DomainConfig::guest(4))
    }

    /// Domain 1 as given; the others as always.
    pub fn with(level: Level, one: DomainConfig) -> Self {
        let engine = Engine::with_level(Recorder::default(), level);
        let pages = [page(), page(), page()];
        let configs = [DomainConfig::dom0(4), one, DomainConfig::guest(4)];
        for (id, (config, page)) in (0..).map(DomId).zip(configs.into_iter().zip(&pages)) {
            engine.create_domain(id, config).unwrap();
            engine.set_shared_info(id, Some(page.clone())).unwrap();
        }
        Self { engine, pages }
    }

    pub fn page(&self, dom: DomId) -> &Arc<HeapPage> {
        &self.pages[usize::from(dom.0)]
    }

    /// Connects a port of `a` with one of `b`, clears what that raised, and forgets the calls.
    pub fn pair(&self, a: DomId, b: DomId) -> (Port, Port) {
        let far = self.engine.alloc_unbound(b, DomId::SELF, a).unwrap();
        let near = self.engine.bind_interdomain(a, b, far).unwrap();
        for dom in [a, b] {
            self.quiet(dom);
        }
        (near, far)
    }

    /// Clears pending bits, selectors and upcalls of a 64-bit domain, and forgets the calls.
    pub fn quiet(&self, dom: DomId) {
        let page = self.page(dom);
        (0..64).for_each(|word| page.u64(2048 + 8 * word).unwrap().store(0, SeqCst));
        for vcpu in 0..32 {
            page.u64(64 * vcpu + 8).unwrap().store(0, SeqCst);
            page.u8(64 * vcpu).unwrap().store(0, SeqCst);
        }
        self.calls();
    }

    /// Goes on with an engine that was restored from what this one has saved.
    pub fn restored(&mut self) {
        let state = self.engine.save().unwrap();
        let engine = Engine::with_level(self.engine.hooks().successor(), self.engine.level());
        engine.restore(&state, |id| Some(self.page(id).clone())).unwrap();
        self.engine = engine;
    }

    pub fn calls(&self) -> Vec<Call> {
        self.engine.hooks().take()
    }

    pub fn pending(&self, dom: DomId, port: Port) -> bool {
        bit(self.page(dom), 2048, port.0)
    }

    pub fn masked(&self, dom: DomId, port: Port) -> bool {
        bit(self.page(dom), 2560, port.0)
    }

    pub fn selected(&self, dom: DomId, vcpu: u32, port: Port) -> bool {
        bit(self.page(dom), 64 * vcpu as usize + 8, port.0 / 64)
    }

    pub fn upcall(&self, dom: DomId, vcpu: u32) -> bool {
        self.page(dom).u8(64 * vcpu as usize).unwrap().load(SeqCst) != 0
    }

    pub fn set_mask(&self, dom: DomId, port: Port, on: bool) {
        set_bit(self.page(dom), 2560, port.0, on);
    }

    pub fn set_pending(&self, dom: DomId, port: Port, on: bool) {
        set_bit(self.page(dom), 2048, port.0, on);
    }

    pub fn set_selector(&self, dom: DomId, vcpu: u32, port: Port, on: bool) {
        set_bit(self.page(dom), 64 * vcpu as usize + 8, port.0 / 64, on);
    }

    pub fn set_upcall(&self, dom: DomId, vcpu: u32, value: u8) {
        self.page(dom).u8(64 * vcpu as usize).unwrap().store(value, SeqCst);
    }

    pub fn status(&self, dom: DomId, port: Port) -> PortStatus {
        self.engine.status(dom, DomId::SELF, port).unwrap()
    }

    /// Fills a domain with unbound ports; how many there was room for.
    pub fn fill(&self, dom: DomId) -> u32 {
        let mut count = 0;
        loop {
            match self.engine.alloc_unbound(dom, DomId::SELF, D0) {
                Ok(_) => count += 1,
                Err(full) => {
                    assert_eq!(full, OpError::NoSpace);
                    return count;
                }
            }
        }
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.engine.validate().unwrap();
        }
    }
}

pub fn delivered(dom: DomId, vcpu: u32) -> Call {
    Call::Deliver(dom, VcpuId(vcpu), Upcall::PvEntry)
}

pub fn bit(page: &HeapPage, array: usize, bit: u32) -> bool {
    let byte = page.u8(array + bit as usize / 8).unwrap().load(SeqCst);
    byte >> (bit % 8) & 1 == 1
}

pub fn set_bit(page: &HeapPage, array: usize, bit: u32, on: bool) {
    let byte = page.u8(array + bit as usize / 8).unwrap();
    let value = 1 << (bit % 8);
    if on {
        byte.fetch_or(value, SeqCst)
    } else {
        byte.fetch_and(!value, SeqCst)
    };
}

pub fn layout(width: Width) -> &'static Layout {
    width.layout()
}
