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
    deadlines: BTreeMap<Key, u64>,
    stopped: bool,
}

/// A domain and its vCPU.
type Key = (u16, u32);

impl State {
    /// How many nanoseconds are left until each deadline, and which it is. Each domain's clock is looked at once.
    fn left(&self, now: impl Fn(DomId) -> u64) -> Vec<(i128, Key, u64)> {
        let mut clock: Option<(u16, u64)> = None;
        let left = |(&key, &deadline): (&Key, &u64)| {
            let known = clock.filter(|(domain, _)| *domain == key.0);
            let (_, now) = *clock.insert(known.unwrap_or_else(|| (key.0, now(DomId(key.0)))));
            (i128::from(deadline) - i128::from(now), key, deadline)
        };
        self.deadlines.iter().map(left).collect()
    }
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
    ///
    /// All deadlines that have passed are told of, the most overdue first, before those that were set meanwhile are looked at: a
    /// guest that sets one in the past again and again holds up no other.
    pub fn run(&self, now: impl Fn(DomId) -> u64, mut passed: impl FnMut(DomId, VcpuId, u64)) {
        let mut state = self.state.lock();
        while !state.stopped {
            let mut left = state.left(&now);
            left.sort_unstable();
            let due = left.partition_point(|(left, ..)| *left <= 0);
            match left.first() {
                None => self.changed.wait(&mut state),
                Some((left, ..)) if due == 0 => {
                    let left = Duration::from_nanos(u64::try_from(*left).unwrap_or(u64::MAX));
                    self.changed.wait_for(&mut state, left.min(LONGEST));
                }
                Some(_) => {
                    for (_, key, deadline) in &left[..due] {
                        // It may have been taken back or moved while others were told of.
                        if state.stopped || state.deadlines.get(key) != Some(deadline) {
                            continue;
                        }
                        state.deadlines.remove(key);
                        // The hook asks for the next deadline meanwhile.
                        parking_lot::MutexGuard::unlocked(&mut state, || {
                            let domain = DomId(key.0);
                            passed(domain, VcpuId(key.1), now(domain));
                        });
                    }
                }
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
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::SeqCst;
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
    fn a_clock_that_leaps_while_the_thread_sleeps_is_noticed() {
        let (timers, clock) = (Timers::default(), AtomicU64::new(0));
        let (passed, told) = mpsc::channel();
        timers.set(D, VcpuId(1), Some(3_600_000_000_000));
        thread::scope(|scope| {
            scope.spawn(|| timers.run(|_| clock.load(SeqCst), |_, vcpu, _| passed.send(vcpu).unwrap()));
            thread::sleep(Duration::from_millis(50)); // it sleeps, for an hour as it seems
            clock.store(u64::MAX, SeqCst);
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

    #[test]
    fn a_guest_whose_deadline_is_always_in_the_past_holds_up_no_other() {
        let timers = Timers::default();
        let (hostile, other) = (DomId(1), DomId(2));
        timers.set(hostile, VcpuId(0), Some(0));
        timers.set(other, VcpuId(0), Some(9));
        let mut seen = Vec::new();
        timers.run(
            |_| 10,
            |domain, vcpu, _| {
                seen.push(domain);
                timers.set(hostile, vcpu, Some(0));
                if seen.len() == 4 {
                    timers.stop();
                }
            },
        );
        assert_eq!(seen, [hostile, other, hostile, hostile]);
    }

    #[test]
    fn a_deadline_that_is_taken_back_or_moved_while_others_pass_does_not_pass() {
        let timers = Timers::default();
        for vcpu in 0..4 {
            timers.set(D, VcpuId(vcpu), Some(vcpu.into()));
        }
        let mut seen = Vec::new();
        timers.run(
            |_| 10,
            |_, vcpu, _| {
                seen.push(vcpu.0);
                timers.set(D, VcpuId(1), None);
                timers.set(D, VcpuId(2), Some(1000));
                if vcpu == VcpuId(3) {
                    timers.stop();
                }
            },
        );
        assert_eq!(seen, [0, 3]);
    }

    #[test]
    fn the_clock_of_a_domain_is_looked_at_once_for_all_its_vcpus() {
        let timers = Timers::default();
        for vcpu in 0..100 {
            timers.set(D, VcpuId(vcpu), Some(u64::MAX));
            timers.set(DomId(2), VcpuId(vcpu), Some(u64::MAX));
        }
        let looks = AtomicU64::new(0);
        let left = timers.state.lock().left(|domain| {
            looks.fetch_add(1, SeqCst);
            domain.0.into()
        });
        assert_eq!((looks.into_inner(), left.len()), (2, 200));
        assert_eq!(left[199], (i128::from(u64::MAX) - 2, (2, 99), u64::MAX));
    }
}
