// SPDX-License-Identifier: MIT OR Apache-2.0
//! vCPUs: how they sleep, and what the VMM does when one makes a hypercall.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use evtchn_abi::{DomId, Errno, Hypercall, Op, SchedOp, XenVersion};
use evtchn_engine::{Engine, Outcome};

use crate::memory::Memory;
use crate::{V0, Vmm};

/// Where a vCPU's thread sleeps. A wake-up that comes first is kept, so none is lost between "nothing to do" and sleep.
#[derive(Default)]
pub struct Sleeper {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Sleeper {
    pub fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Until a wake-up, or until then.
    fn sleep(&self, until: Option<Instant>) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(woken).unwrap(),
                Some(Duration::ZERO) => break,
                Some(left) => self.changed.wait_timeout(woken, left).unwrap().0,
            };
        }
        *woken = false;
    }
}

/// A vCPU, as the thread has it that runs its guest.
pub struct Cpu<'a> {
    pub engine: &'a Engine<Vmm>,
    pub domain: DomId,
}

impl<'a> Cpu<'a> {
    /// What follows when the guest executes the hypercall instruction: the result for its register.
    ///
    /// In a VMM this is an arm of `match vcpu.run()`, with the number and the arguments from the guest's registers.
    pub fn hypercall(&self, number: Hypercall, mut args: [u64; 5]) -> i64 {
        loop {
            match self.engine.hypercall(self.domain, V0, number.0, args, &mut self.memory()) {
                Outcome::Done(result) => return result,
                // A poll or a block. An event, an upcall or the clock ends it; the engine must know, whichever it was.
                Outcome::Block { deadline } => {
                    self.sleep(deadline.map(|time| self.vmm().start + Duration::from_nanos(time.get())));
                    self.engine.finish_poll(self.domain, V0);
                    return 0;
                }
                // A long reset gives way. A VMM lets the vCPU take its interrupts and executes the instruction again.
                Outcome::Again => {
                    self.vmm().continued.fetch_add(1, Relaxed);
                    args[0] = Op::RESET_CONT.0.into();
                }
                Outcome::NotMine => return self.other_hypercall(number, args),
            }
        }
    }

    /// The hypercalls that have nothing to do with event channels are the VMM's.
    fn other_hypercall(&self, number: Hypercall, [command, ..]: [u64; 5]) -> i64 {
        #[allow(clippy::cast_possible_truncation)] // commands are C ints
        let command = command as u32;
        match number {
            Hypercall::XEN_VERSION if XenVersion(command) == XenVersion::VERSION => 4 << 16 | 20,
            Hypercall::SCHED_OP if SchedOp(command) == SchedOp::YIELD => {
                thread::yield_now();
                0
            }
            _ => Errno::ENOSYS.negated(),
        }
    }

    /// The guest's memory.
    pub fn memory(&self) -> &'a Memory {
        &self.vmm().machine(self.domain).memory
    }

    /// The system time, in nanoseconds: what a guest reads from its `vcpu_info`.
    pub fn now(&self) -> u64 {
        u64::try_from(self.vmm().start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, until: Option<Instant>) {
        self.vmm().machine(self.domain).vcpu.sleep(until);
    }

    fn vmm(&self) -> &'a Vmm {
        self.engine.hooks()
    }
}
