// SPDX-License-Identifier: MIT OR Apache-2.0
//! The embedder's side: a machine whose interrupts are written down and whose misfortunes can be ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use evtchn_abi::{DomId, Gfn, Pirq, Port, VcpuId};
use evtchn_engine::{Consumer, Denied, Engine, Hooks, Party, PirqRefused, Policy, Upcall};
use evtchn_sync::HeapPage;

/// A PIRQ that paravirtual domains have no permission for.
pub const FORBIDDEN: u32 = 13;
/// A PIRQ without an interrupt behind it.
pub const UNMAPPED: u32 = 14;
/// A PIRQ whose interrupt Xen uses itself.
pub const XENS: u32 = 15;

/// What the engine asked for.
#[derive(Debug, Default)]
pub struct Log {
    /// (domain, vCPU) of each upcall, and how it was delivered.
    pub delivered: Vec<(u16, u32, Upcall)>,
    /// (domain, vCPU) of each poll that ended.
    pub woken: Vec<(u16, u32)>,
    /// (domain, vCPU, port) of each event for a consumer inside Xen.
    pub callbacks: Vec<(u16, u32, u32)>,
    /// (domain, PIRQ, vCPU) of each interrupt that changed its CPU.
    pub moved: Vec<(u16, u32, u32)>,
}

type Engines = Engine<Xen>;
type OnCallback = Arc<dyn Fn(&Engines, u16, u32) + Send + Sync>;
type OnWake = Arc<dyn Fn() + Send + Sync>;
type OnPreempt = Arc<dyn Fn(&Engines) -> bool + Send + Sync>;

/// The hooks.
#[derive(Default)]
pub struct Xen {
    /// The engine that these are the hooks of.
    pub engine: OnceLock<Weak<Engines>>,
    /// While set, nothing is written down: for threads that go on for long.
    pub quiet: AtomicBool,
    /// What was asked.
    pub log: Mutex<Log>,
    /// The frames of the domains' memory.
    pub frames: Mutex<BTreeMap<(u16, u64), Arc<HeapPage>>>,
    /// Those of them that the domain may not write.
    pub read_only: Mutex<BTreeSet<(u16, u64)>>,
    /// Runs at each event for a consumer inside Xen.
    pub on_callback: Mutex<Option<OnCallback>>,
    /// Runs at the end of each poll.
    pub on_wake: Mutex<Option<OnWake>>,
    /// Runs where a long operation may give way; whether it should.
    pub on_preempt: Mutex<Option<OnPreempt>>,
    /// Who has bound an interrupt, and does he share it?
    lines: Mutex<BTreeMap<u32, Vec<(u16, bool)>>>,
}

impl Xen {
    fn write(&self, entry: impl FnOnce(&mut Log)) {
        if !self.quiet.load(SeqCst) {
            entry(&mut self.log.lock().unwrap());
        }
    }

    fn engine(&self) -> Arc<Engines> {
        self.engine.get().and_then(Weak::upgrade).unwrap()
    }

    /// How many domains have bound an interrupt.
    pub fn users(&self, pirq: u32) -> usize {
        self.lines.lock().unwrap().get(&pirq).map_or(0, Vec::len)
    }
}

impl Hooks for Xen {
    type Page = Arc<HeapPage>;

    fn deliver(&self, domain: DomId, vcpu: VcpuId, upcall: Upcall) {
        self.write(|log| log.delivered.push((domain.0, vcpu.0, upcall)));
    }

    fn wake_poller(&self, domain: DomId, vcpu: VcpuId) {
        self.write(|log| log.woken.push((domain.0, vcpu.0)));
        let act = self.on_wake.lock().unwrap().clone();
        act.inspect(|act| act());
    }

    fn pin(&self, domain: DomId, gfn: Gfn) -> Option<Arc<HeapPage>> {
        let frame = (domain.0, gfn.0);
        let writable = !self.read_only.lock().unwrap().contains(&frame);
        writable.then(|| self.frames.lock().unwrap().get(&frame).cloned()).flatten()
    }

    fn consumer_event(&self, _: Consumer, domain: DomId, vcpu: VcpuId, port: Port) {
        self.write(|log| log.callbacks.push((domain.0, vcpu.0, port.0)));
        let act = self.on_callback.lock().unwrap().clone();
        act.inspect(|act| act(&self.engine(), domain.0, port.0));
    }

    fn preempt(&self, _: DomId) -> bool {
        let act = self.on_preempt.lock().unwrap().clone();
        act.is_some_and(|act| act(&self.engine()))
    }

    fn policy(&self) -> &dyn Policy {
        &Permissions
    }

    fn pirq_bind(&self, domain: DomId, pirq: Pirq, share: bool) -> Result<(), PirqRefused> {
        let mut lines = self.lines.lock().unwrap();
        let users = lines.entry(pirq.0).or_default();
        match pirq.0 {
            UNMAPPED => return Err(PirqRefused::NoIrq),
            XENS => return Err(PirqRefused::InUse),
            _ if users.iter().any(|&(_, shares)| !(share && shares)) => {
                return Err(PirqRefused::InUse);
            }
            _ => users.push((domain.0, share)),
        }
        Ok(())
    }

    fn pirq_unbind(&self, domain: DomId, pirq: Pirq) {
        self.lines.lock().unwrap().entry(pirq.0).or_default().retain(|&(user, _)| user != domain.0);
    }

    fn pirq_moved(&self, domain: DomId, pirq: Pirq, vcpu: VcpuId) {
        self.write(|log| log.moved.push((domain.0, pirq.0, vcpu.0)));
    }
}

/// Xen's rules, and one PIRQ that nobody may have.
struct Permissions;

impl Policy for Permissions {
    fn bind_pirq(&self, _: &Party, pirq: Pirq) -> Result<(), Denied> {
        if pirq.0 == FORBIDDEN { Err(Denied::default()) } else { Ok(()) }
    }
}
