// SPDX-License-Identifier: MIT OR Apache-2.0
//! An embedder that writes down what the engine asks of it, for tests and examples.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use evtchn_abi::{DomId, Gfn, Port, VcpuId};
use evtchn_sync::{HeapPage, Mutex};

use crate::{Consumer, Hooks, Upcall};

/// A fresh shared page.
#[must_use]
pub fn page() -> Arc<HeapPage> {
    Arc::new(HeapPage::new())
}

/// One call of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Hooks::deliver`].
    Deliver(DomId, VcpuId, Upcall),
    /// [`Hooks::wake_poller`].
    WakePoller(DomId, VcpuId),
    /// [`Hooks::consumer_event`].
    Consumer(Consumer, DomId, VcpuId, Port),
    /// [`Hooks::sink_event`].
    Sink(DomId, Port, VcpuId),
    /// [`Hooks::set_deadline`].
    Deadline(DomId, VcpuId, Option<u64>),
}

/// Hooks that record their calls.
#[derive(Debug, Default)]
pub struct Recorder {
    calls: Mutex<Vec<Call>>,
    frames: Mutex<BTreeMap<(DomId, Gfn), Arc<HeapPage>>>,
}

impl Recorder {
    /// The calls since the last time this was asked.
    #[must_use]
    pub fn take(&self) -> Vec<Call> {
        core::mem::take(&mut self.calls.lock())
    }

    /// The page at a frame of a domain's memory. Frames exist from the first time they are asked for here.
    #[must_use]
    pub fn frame(&self, domain: DomId, gfn: Gfn) -> Arc<HeapPage> {
        self.frames.lock().entry((domain, gfn)).or_insert_with(page).clone()
    }

    /// A new recorder, of the same memory: for a machine that is saved and restored.
    #[must_use]
    pub fn successor(&self) -> Self {
        Self { calls: Mutex::default(), frames: Mutex::new(self.frames.lock().clone()) }
    }

    fn push(&self, call: Call) {
        self.calls.lock().push(call);
    }
}

impl Hooks for Recorder {
    type Page = Arc<HeapPage>;

    fn deliver(&self, domain: DomId, vcpu: VcpuId, upcall: Upcall) {
        self.push(Call::Deliver(domain, vcpu, upcall));
    }

    fn pin(&self, domain: DomId, gfn: Gfn) -> Option<Arc<HeapPage>> {
        self.frames.lock().get(&(domain, gfn)).cloned()
    }

    fn wake_poller(&self, domain: DomId, vcpu: VcpuId) {
        self.push(Call::WakePoller(domain, vcpu));
    }

    fn set_deadline(&self, domain: DomId, vcpu: VcpuId, deadline: Option<u64>) {
        self.push(Call::Deadline(domain, vcpu, deadline));
    }

    fn consumer_event(&self, consumer: Consumer, domain: DomId, vcpu: VcpuId, port: Port) {
        self.push(Call::Consumer(consumer, domain, vcpu, port));
    }

    fn sink_event(&self, domain: DomId, port: Port, vcpu: VcpuId) {
        self.push(Call::Sink(domain, port, vcpu));
    }
}
