// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deadlines in user space. KVM's own timer for Xen guests raises its port in the two-level ABI only.
//!
//! One thread waits for all vCPUs. It looks at the guests' own clocks again when it wakes, so it does not matter that the
//! computer's clock and theirs run differently fast.

use std::collections::BTreeMap;
use std::time::Duration;

use evtchn_abi::{DomId, VcpuId};
use parking_lot::{Condvar, Mutex};

/// The longest sleep: a guest's clock that runs faster than this computer's is not left far behind.
const LONGEST: Duration = Duration::from_secs(1);

/// What is to be waited for: at most one deadline for each vCPU.
#[derive(Debug, Default)]
pub struct Timers {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    deadlines: BTreeMap<(u16, u32), u64>,
    stopped: bool,
}

impl Timers {
    /// What [`Hooks::set_deadline`](evtchn_engine::Hooks::set_deadline) asks for.
    pub fn set(&self, domain: DomId, vcpu: VcpuId, deadline: Option<u64>) {
        let mut state = self.state.lock();
        match deadline {
            Some(deadline) => drop(state.deadlines.insert((domain.0, vcpu.0), deadline)),
            None => drop(state.deadlines.remove(&(domain.0, vcpu.0))),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Waits for deadlines until [`stop`](Self::stop) is called. `now` is the system time of a domain's guest; `passed` is
    /// [`Engine::deadline_passed`](evtchn_engine::Engine::deadline_passed), with that time.
    pub fn run(&self, now: impl Fn(DomId) -> u64, mut passed: impl FnMut(DomId, VcpuId, u64)) {
        let mut state = self.state.lock();
        while !state.stopped {
            // What is most overdue comes first.
            let left = |(domain, _): (u16, u32), deadline: u64| {
                i128::from(deadline) - i128::from(now(DomId(domain)))
            };
            let next = state.deadlines.iter().map(|(&key, &deadline)| (left(key, deadline), key)).min();
            match next {
                Some((left, key)) if left <= 0 => {
                    state.deadlines.remove(&key);
                    // The hook asks for the next deadline meanwhile.
                    parking_lot::MutexGuard::unlocked(&mut state, || {
                        let domain = DomId(key.0);
                        passed(domain, VcpuId(key.1), now(domain));
                    });
                }
                Some((left, _)) => {
                    let left = Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX));
                    self.changed.wait_for(&mut state, left.min(LONGEST));
                }
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Ends [`run`](Self::run).
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Instant;

    const D: DomId = DomId(1);

    #[test]
    fn deadlines_pass_in_their_order_and_not_too_early() {
        let (timers, start) = (Timers::default(), Instant::now());
        let now = |_| u64::try_from(start.elapsed().as_nanos()).unwrap();
        for (vcpu, deadline) in [(0, 20_000_000), (1, 5_000_000), (2, 10_000_000), (3, 1)] {
            timers.set(D, VcpuId(vcpu), Some(deadline));
        }
        timers.set(D, VcpuId(3), None);
        let mut order = Vec::new();
        timers.run(now, |domain, vcpu, at| {
            order.push((domain, vcpu.0, at));
            if vcpu == VcpuId(0) {
                timers.stop();
            }
        });
        assert_eq!(order.iter().map(|at| at.1).collect::<Vec<_>>(), [1, 2, 0]);
        assert!(order.iter().zip([5, 10, 20]).all(|(at, least)| at.2 >= least * 1_000_000));
    }

    #[test]
    fn a_new_deadline_wakes_a_thread_that_sleeps_already() {
        let timers = Timers::default();
        let (passed, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| timers.run(|_| 0, |_, vcpu, _| passed.send(vcpu).unwrap()));
            thread::sleep(Duration::from_millis(50)); // it has nothing to wait for, and sleeps until it is told
            timers.set(D, VcpuId(1), Some(0));
            let heard = told.recv_timeout(Duration::from_secs(10));
            timers.stop();
            assert_eq!(heard, Ok(VcpuId(1)));
        });
    }

    #[test]
    fn a_deadline_that_is_set_again_counts_once_and_what_is_most_overdue_passes_first() {
        let timers = Timers::default();
        timers.set(D, VcpuId(0), Some(1));
        timers.set(D, VcpuId(0), Some(3));
        timers.set(D, VcpuId(1), Some(2));
        let mut seen = Vec::new();
        timers.run(
            |_| 10,
            |_, vcpu, _| {
                seen.push(vcpu.0);
                if vcpu.0 == 0 {
                    timers.stop();
                }
            },
        );
        assert_eq!(seen, [1, 0]);
    }
}
