// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is told at the end.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use evtchn_abi::{Op, VcpuId};
use evtchn_engine::{Action, Observed};
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
            _ => {}
        }
    }
}

/// The report on a guest.
pub fn of(guest: &Guest, end: &str) -> Value {
    let doors: Vec<_> = (0..).map(VcpuId).map_while(|vcpu| guest.domain.vcpu(vcpu).ok()).collect();
    let counters = &guest.counters;
    let [nanoseconds, sends] = [0, 1].map(|index| guest.sends[index].load(Relaxed));
    json!({
        "domain": guest.domain.id().0,
        "end": end,
        "status": *guest.status.lock(),
        "milliseconds": guest.age(),
        "fifo_at_ms": *counters.fifo.lock(),
        "marks_at_ms": guest.marks.lock().iter().map(|(mark, at)| json!([mark, at])).collect::<Vec<_>>(),
        "exits": doors.iter().map(|door| door.exits()).sum::<u64>(),
        "interrupts": doors.iter().map(|door| door.interrupts()).sum::<u64>(),
        "operations": counters.operations.load(Relaxed),
        "sends": sends,
        "engine_ns_per_send": nanoseconds.checked_div(sends),
        "raised": counters.raised.load(Relaxed),
        "merged": counters.merged.load(Relaxed),
        "upcalls": counters.upcalls.load(Relaxed),
        "timers": counters.timers.load(Relaxed),
    })
}
