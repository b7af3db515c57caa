// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told at the end.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use evtchn_abi::Op;
use evtchn_engine::{Action, Observed};
use evtchn_kvm::VcpuDoor;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::guest::Guest;

/// What the engine did for a guest.
#[derive(Debug, Default)]
pub struct Counters {
    /// Milliseconds after its start at which the guest took the FIFO ABI.
    fifo: Mutex<Option<u128>>,
    operations: AtomicU64,
    raised: AtomicU64,
    merged: AtomicU64,
    upcalls: AtomicU64,
    timers: AtomicU64,
    /// How often it chose a vector for a vCPU.
    vectors: AtomicU64,
    /// Routes that KVM took over.
    offloaded: AtomicU64,
    /// How often its domain was saved and restored.
    snapshots: AtomicU64,
    /// Hypercalls that send, and the nanoseconds that the engine took for them.
    sends: AtomicU64,
    send_nanoseconds: AtomicU64,
}

impl Counters {
    /// Counts what the engine tells of this guest.
    pub fn count(&self, event: &Observed, age: u128) {
        match event {
            Observed::Operation { op, result: Ok(()), .. } => {
                self.operations.fetch_add(1, Relaxed);
                if *op == Op::INIT_CONTROL {
                    self.fifo.lock().get_or_insert(age);
                }
            }
            Observed::Raised { fresh, upcall, .. } => {
                self.raised.fetch_add(1, Relaxed);
                self.merged.fetch_add(u64::from(!fresh), Relaxed);
                self.upcalls.fetch_add(u64::from(upcall.is_some()), Relaxed);
            }
            Observed::Action { action: Action::SetSingleshotTimer { .. }, .. } => {
                self.timers.fetch_add(1, Relaxed);
            }
            Observed::Action { action: Action::SetUpcallVector { .. }, result: Ok(()), .. } => {
                self.vectors.fetch_add(1, Relaxed);
            }
            _ => {}
        }
    }

    pub fn count_send(&self, took: Duration) {
        self.sends.fetch_add(1, Relaxed);
        self.send_nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub fn count_offloaded(&self) {
        self.offloaded.fetch_add(1, Relaxed);
    }

    pub fn count_snapshot(&self) {
        self.snapshots.fetch_add(1, Relaxed);
    }
}

/// The report on a guest.
pub fn of(guest: &Guest, end: &str) -> Value {
    let counters = &guest.counters;
    let sends = counters.sends.load(Relaxed);
    json!({
        "domain": guest.domain.id().0,
        "end": end,
        "status": *guest.status.lock(),
        "milliseconds": guest.age(),
        "fifo_at_ms": *counters.fifo.lock(),
        "marks_at_ms": guest.marks.lock().iter().map(|(mark, at)| json!([mark, at])).collect::<Vec<_>>(),
        "exits": guest.doors().map(VcpuDoor::exits).sum::<u64>(),
        "interrupts": guest.doors().map(VcpuDoor::interrupts).sum::<u64>(),
        "operations": counters.operations.load(Relaxed),
        "sends": sends,
        "engine_ns_per_send": counters.send_nanoseconds.load(Relaxed).checked_div(sends),
        "raised": counters.raised.load(Relaxed),
        "merged": counters.merged.load(Relaxed),
        "upcalls": counters.upcalls.load(Relaxed),
        "timers": counters.timers.load(Relaxed),
        "vectors": counters.vectors.load(Relaxed),
        "offloaded": counters.offloaded.load(Relaxed),
        "snapshots": counters.snapshots.load(Relaxed),
    })
}
