// SPDX-License-Identifier: MIT OR Apache-2.0
//! Three domains: 1 is a guest with pages, 2 and 3 send to it.

use std::sync::Arc;

use evtchn_abi::{DomId, Gfn, Port, VcpuId};
use evtchn_engine::{DomainConfig, Engine, Hooks, Upcall};
use evtchn_sync::ModelPage;
use shuttle::rand::Rng;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner};

use crate::guest::{Guest, VCPUS};

pub const D1: DomId = DomId(1);
pub const D2: DomId = DomId(2);
pub const D3: DomId = DomId(3);
const ARRAY: Gfn = Gfn(100);

/// Runs a test in random schedules, and in such as have few preemptions at the worst places.
pub fn check(run: impl Fn() + Copy + Send + Sync + 'static) {
    let asked = std::env::var("EVTCHN_SHUTTLE_ITERATIONS").ok();
    let iterations =
        asked.map_or(2_000, |asked| asked.parse().expect("EVTCHN_SHUTTLE_ITERATIONS is a number"));
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    Runner::new(RandomScheduler::new(iterations), config.clone()).run(run);
    Runner::new(PctScheduler::new(3, iterations), config).run(run);
}

/// A number below `end`, which belongs to the schedule.
pub fn below(end: u32) -> u32 {
    shuttle::rand::thread_rng().gen_range(0..end)
}

/// The embedder. Nobody needs its upcalls: the guest looks all the time.
pub struct Vmm {
    controls: Vec<Arc<ModelPage>>,
    array: Arc<ModelPage>,
}

impl Hooks for Vmm {
    type Page = Arc<ModelPage>;

    fn deliver(&self, domain: DomId, vcpu: VcpuId, _: Upcall) {
        assert!(domain == D1 && vcpu.0 < VCPUS);
    }

    fn wake_poller(&self, domain: DomId, vcpu: VcpuId) {
        assert!(domain == D1 && vcpu.0 < VCPUS);
    }

    fn pin(&self, _: DomId, gfn: Gfn) -> Option<Arc<ModelPage>> {
        if gfn == ARRAY { Some(self.array.clone()) } else { self.controls.get(gfn.0 as usize).cloned() }
    }
}

pub struct World {
    pub engine: Engine<Vmm>,
    pub guest: Guest,
}

impl World {
    pub fn new() -> Self {
        let guest = Guest::new();
        let engine = Engine::new(Vmm { controls: guest.controls.clone(), array: guest.array.clone() });
        for id in [D1, D2, D3] {
            engine.create_domain(id, DomainConfig::guest(VCPUS)).unwrap();
        }
        engine.set_shared_info(D1, Some(guest.info.clone())).unwrap();
        Self { engine, guest }
    }

    pub fn init_control(&self, vcpu: VcpuId) -> bool {
        self.engine.init_control(D1, vcpu, Gfn(vcpu.0.into()), 0).is_ok()
    }

    pub fn expand(&self) -> bool {
        self.engine.expand_array(D1, ARRAY).is_ok()
    }

    /// Gives the guest the FIFO ABI, as its own boot does.
    pub fn switch_to_fifo(&self) {
        assert!((0..VCPUS).map(VcpuId).all(|vcpu| self.init_control(vcpu)) && self.expand());
    }

    /// Connects a port of `sender` with one of domain 1.
    pub fn pair(&self, sender: DomId) -> (Port, Port) {
        let far = self.engine.alloc_unbound(D1, DomId::SELF, sender).unwrap();
        (self.engine.bind_interdomain(sender, D1, far).unwrap(), far)
    }
}
