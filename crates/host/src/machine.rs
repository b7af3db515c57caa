// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine, and the kernels of its domains.
//!
//! Whoever raises an event also runs the upcall: the engine's `deliver` hook, called with none of the engine's locks held,
//! finds the domain's kernel and lets it take its events. There is no thread per domain.

use std::collections::BTreeMap;
use std::sync::Arc;

use evtchn_abi::{DomId, Gfn, VcpuId};
use evtchn_engine::{Engine, Hooks, Upcall};
use parking_lot::RwLock;

use crate::kernel::Kernel;
use crate::pages::SharedPage;

/// The engine as the host uses it.
pub type HostEngine = Engine<Upcalls>;

/// A machine: one engine, and what runs on it.
pub struct Machine {
    pub engine: HostEngine,
}

/// Brings upcalls to the kernels.
#[derive(Default)]
pub struct Upcalls {
    kernels: RwLock<BTreeMap<DomId, Arc<Kernel>>>,
}

impl Hooks for Upcalls {
    type Page = SharedPage;

    fn deliver(&self, domain: DomId, vcpu: VcpuId, _: Upcall) {
        if let Some(kernel) = self.kernel(domain) {
            kernel.upcall(vcpu);
        }
    }

    fn wake_poller(&self, _: DomId, _: VcpuId) {
        // Nobody polls: the host offers no SCHEDOP_poll.
    }

    /// A program may name a frame of its kernel's, too, through `/dev/xen/privcmd`, as on Xen.
    fn pin(&self, domain: DomId, gfn: Gfn) -> Option<SharedPage> {
        self.kernel(domain)?.page(gfn)
    }
}

impl Upcalls {
    /// The kernel of a running domain.
    pub fn kernel(&self, domain: DomId) -> Option<Arc<Kernel>> {
        self.kernels.read().get(&domain).cloned()
    }

    /// A kernel starts to run.
    pub fn insert(&self, kernel: Arc<Kernel>) {
        self.kernels.write().insert(kernel.domain(), kernel);
    }

    /// A kernel ends.
    pub fn remove(&self, domain: DomId) {
        self.kernels.write().remove(&domain);
    }
}
