// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told at the end.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

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
    /// Hypercalls that send.
    sends: AtomicU64,
    /// The nanoseconds that KVM took for them to tell the registers, and those that the engine took, page walks and hooks among them.
    nanoseconds: [AtomicU64; 2],
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

    /// Counts a send that took some time, and part of that KVM to tell the registers.
    pub fn count_send(&self, took: Duration, registers: Duration) {
        self.sends.fetch_add(1, Relaxed);
        let parts = [registers, took.saturating_sub(registers)];
        for (sum, part) in self.nanoseconds.iter().zip(parts) {
            sum.fetch_add(u64::try_from(part.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
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
    // Around the engine the clock is looked at once, and once more in the midst.
    let [registers, engine] = [(0, clock()), (1, 2 * clock())].map(|(part, clock)| {
        let each = counters.nanoseconds[part].load(Relaxed).checked_div(sends)?;
        Some(each.saturating_sub(clock))
    });
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
        "registers_ns_per_send": registers,
        "engine_ns_per_send": engine,
        "raised": counters.raised.load(Relaxed),
        "merged": counters.merged.load(Relaxed),
        "upcalls": counters.upcalls.load(Relaxed),
        "timers": counters.timers.load(Relaxed),
        "vectors": counters.vectors.load(Relaxed),
        "offloaded": counters.offloaded.load(Relaxed),
        "snapshots": counters.snapshots.load(Relaxed),
    })
}

/// Nanoseconds that a look at the clock takes, which are no part of what it is looked at for.
fn clock() -> u64 {
    let least = (0..1000).map(|_| Instant::now().elapsed()).min().unwrap_or_default();
    u64::try_from(least.as_nanos()).unwrap_or_default()
}
