// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timers: what the engine asks its embedder for, and when VIRQ_TIMER comes. Time is what the test says.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use common::memory::{AT, DONE, Memory, failed};
use common::{D1, NOBODY, TestEnv, V0};
use evtchn_abi::args::{VcpuSetPeriodicTimer, VcpuSetSingleshotTimer, VcpuSetSingleshotTimer32};
use evtchn_abi::{CStruct, DomId, Errno, Port, VcpuId, VcpuOp, Virq};
use evtchn_engine::test_utils::{Call, page};
use evtchn_engine::{DomainConfig, Engine, Hooks, Level, OpError, Outcome, Upcall, Width};
use evtchn_sync::HeapPage;

const V1: VcpuId = VcpuId(1);
const MS: u64 = 1_000_000;

/// The deadlines that were asked for since the last time, for vCPUs of domain 1.
fn asked(env: &TestEnv) -> Vec<(VcpuId, Option<u64>)> {
    let deadlines = env.calls().into_iter().filter_map(|call| match call {
        Call::Deadline(D1, vcpu, deadline) => Some((vcpu, deadline)),
        _ => None,
    });
    deadlines.collect()
}

/// What is asked for in the end, for vCPU 0; nothing else was asked.
fn last(env: &TestEnv) -> Option<u64> {
    let asked = asked(env);
    assert!(asked.iter().all(|&(vcpu, _)| vcpu == V0));
    let deadline = asked.last().unwrap().1;
    assert_eq!(env.engine.deadline(D1, V0), Ok(deadline));
    deadline
}

/// It is `now`; whether VIRQ_TIMER has come, which is taken.
fn passed(env: &TestEnv, port: Port, now: u64) -> bool {
    let due = env.engine.deadline_passed(D1, V0, now).unwrap();
    assert_eq!(env.pending(D1, port), due);
    env.set_pending(D1, port, false);
    due
}

fn with_timer() -> (TestEnv, Port) {
    let env = TestEnv::new();
    let port = env.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    (env, port)
}

#[test]
fn a_singleshot_timer_comes_once_and_not_early() {
    let (env, port) = with_timer();
    env.engine.set_singleshot_timer(D1, V0, Some(500)).unwrap();
    assert_eq!(last(&env), Some(500));
    assert!(!passed(&env, port, 499));
    assert_eq!(last(&env), Some(500), "asked for again");
    assert!(passed(&env, port, 500));
    assert_eq!(last(&env), None);
    assert!(!passed(&env, port, 10_000));
}

#[test]
fn a_deadline_in_the_past_is_due_at_once() {
    let (env, port) = with_timer();
    for deadline in [0, 1, 999] {
        env.engine.set_singleshot_timer(D1, V0, Some(deadline)).unwrap();
        assert_eq!(last(&env), Some(deadline));
        assert!(passed(&env, port, 1_000));
    }
}

#[test]
fn a_timer_can_be_moved_and_stopped() {
    let (env, port) = with_timer();
    for deadline in [Some(500), Some(300), Some(900), None] {
        env.engine.set_singleshot_timer(D1, V0, deadline).unwrap();
        assert_eq!(last(&env), deadline);
    }
    assert!(!passed(&env, port, 1_000));
}

#[test]
fn a_periodic_timer_does_not_drift() {
    let (env, port) = with_timer();
    env.engine.set_periodic_timer(D1, V0, Some(MS)).unwrap();
    assert_eq!(last(&env), Some(MS), "long ago, as time has begun at 0");
    let start = 77 * MS + 5;
    assert!(passed(&env, port, start));
    for tick in 1..100 {
        let due = start + tick * MS;
        assert_eq!(last(&env), Some(due));
        assert!(!passed(&env, port, due - 1));
        assert!(passed(&env, port, due + tick * 1_000), "late by up to a tenth of the period");
    }
}

#[test]
fn ticks_that_were_missed_are_left_out() {
    let (env, port) = with_timer();
    env.engine.set_periodic_timer(D1, V0, Some(MS)).unwrap();
    assert!(passed(&env, port, 10 * MS));
    assert!(passed(&env, port, 14 * MS + 7));
    assert_eq!(last(&env), Some(15 * MS + 7));
}

#[test]
fn a_periodic_timer_counts_on_where_it_was_stopped() {
    let (env, port) = with_timer();
    env.engine.set_periodic_timer(D1, V0, Some(MS)).unwrap();
    assert!(passed(&env, port, 10 * MS));
    env.engine.set_periodic_timer(D1, V0, None).unwrap();
    assert_eq!(last(&env), None);
    assert!(!passed(&env, port, 20 * MS));
    env.engine.set_periodic_timer(D1, V0, Some(30 * MS)).unwrap();
    assert_eq!(last(&env), Some(40 * MS));
}

#[test]
fn both_timers_share_a_deadline() {
    let (env, port) = with_timer();
    env.engine.set_periodic_timer(D1, V0, Some(10 * MS)).unwrap();
    assert!(passed(&env, port, 100 * MS));
    for (once, first) in [(104 * MS, 104 * MS), (200 * MS, 110 * MS)] {
        env.engine.set_singleshot_timer(D1, V0, Some(once)).unwrap();
        assert_eq!(last(&env), Some(first));
    }
    assert!(passed(&env, port, 110 * MS));
    assert_eq!(last(&env), Some(120 * MS));
    assert!(passed(&env, port, 205 * MS), "both at once");
    assert_eq!(last(&env), Some(215 * MS));
}

#[test]
fn each_vcpu_has_timers_of_its_own() {
    let env = TestEnv::new();
    let port = env.engine.bind_virq(D1, Virq::TIMER, V1).unwrap();
    env.engine.set_singleshot_timer(D1, V0, Some(5)).unwrap();
    env.engine.set_singleshot_timer(D1, V1, Some(7)).unwrap();
    assert_eq!(asked(&env), [(V0, Some(5)), (V1, Some(7))]);
    assert_eq!(env.engine.deadline_passed(D1, V0, 10), Ok(true), "though nobody has bound it");
    assert!(!env.pending(D1, port));
    assert_eq!(env.engine.deadline_passed(D1, V1, 10), Ok(true));
    assert!(env.pending(D1, port));
}

#[test]
fn periods_have_limits() {
    let env = TestEnv::new();
    let set = |vcpu, period| env.engine.set_periodic_timer(D1, VcpuId(vcpu), Some(period));
    for period in [0, 1, MS - 1, (u64::MAX >> 2) + 1, u64::MAX] {
        assert_eq!(set(0, period), Err(OpError::Invalid), "{period}");
        assert_eq!(set(4, period), Err(OpError::NoVcpu));
    }
    assert_eq!(asked(&env), []);
    assert_eq!((set(0, MS), set(0, u64::MAX >> 2)), (Ok(()), Ok(())));
    assert!(env.engine.deadline_passed(D1, V0, u64::MAX).unwrap(), "the end of time");
    assert_eq!(env.engine.deadline(D1, V0), Ok(Some(u64::MAX)));
}

#[test]
fn who_is_not_there_has_no_timers() {
    let env = TestEnv::new();
    let v4 = VcpuId(4);
    assert_eq!(env.engine.set_singleshot_timer(D1, v4, Some(5)), Err(OpError::NoVcpu));
    assert_eq!(env.engine.set_periodic_timer(D1, v4, None), Err(OpError::NoVcpu));
    assert_eq!(env.engine.deadline_passed(D1, v4, 5), Err(OpError::NoVcpu));
    assert_eq!(env.engine.deadline(D1, v4), Err(OpError::NoVcpu));
    assert_eq!(env.engine.set_singleshot_timer(NOBODY, V0, None), Err(OpError::NoDomain));
    assert_eq!(env.engine.deadline_passed(NOBODY, V0, 5), Err(OpError::NoDomain));
    assert_eq!(asked(&env), []);
}

#[test]
fn a_domain_that_ends_wants_no_more_deadlines() {
    let env = TestEnv::new();
    let mut caller = env.engine.caller(D1, V0).unwrap();
    env.engine.set_singleshot_timer(D1, V0, Some(5)).unwrap();
    env.engine.set_periodic_timer(D1, V1, Some(MS)).unwrap();
    env.calls();
    env.engine.destroy_domain(D1).unwrap();
    assert_eq!(asked(&env), [(V0, None), (V1, None)]);
    let outcome = caller.hypercall(15, [5, 0, 0, 0, 0], &mut Memory::new());
    assert_eq!(outcome, failed(Errno::ESRCH));
    assert_eq!(asked(&env), []);
}

fn set_timer_op(env: &TestEnv, args: [u64; 2]) -> Outcome {
    env.engine.hypercall(D1, V0, 15, [args[0], args[1], 0, 0, 0], &mut Memory::new())
}

#[test]
fn set_timer_op_takes_one_register_or_two() {
    // For a guest of each width: the registers, and what is asked for.
    let table = [
        (Width::Bits64, [5, 7], Some(5)),
        (Width::Bits64, [1 << 40, 0], Some(1 << 40)),
        (Width::Bits64, [0, 7], None),
        (Width::Bits64, [1 << 63, 0], Some(0)),
        (Width::Bits32, [5, 7], Some(7 << 32 | 5)),
        (Width::Bits32, [0xabcd_0000_0005, 0xabcd_0000_0000], Some(5)),
        (Width::Bits32, [0, 0], None),
        (Width::Bits32, [5, 0x8000_0000], Some(0)),
    ];
    for (width, registers, deadline) in table {
        let env = TestEnv::with(Level::Current, DomainConfig { width, ..DomainConfig::guest(1) });
        assert_eq!(set_timer_op(&env, registers), DONE);
        assert_eq!(last(&env), deadline, "{width:?} {registers:x?}");
    }
}

fn vcpu_op<A: CStruct>(env: &TestEnv, command: VcpuOp, vcpu: u64, arg: &A) -> Outcome {
    let args = [command.0.into(), vcpu, AT, 0, 0];
    env.engine.hypercall(D1, V0, 24, args, &mut Memory::with(arg))
}

#[test]
fn the_raw_door_sets_and_stops_both_timers() {
    let env = TestEnv::new();
    let once = VcpuSetSingleshotTimer { timeout_abs_ns: 500, ..Default::default() };
    let again = VcpuSetPeriodicTimer { period_ns: MS };
    assert_eq!(vcpu_op(&env, VcpuOp::SET_SINGLESHOT_TIMER, 0, &once), DONE);
    assert_eq!(last(&env), Some(500));
    assert_eq!(vcpu_op(&env, VcpuOp::STOP_SINGLESHOT_TIMER, 0, &once), DONE);
    assert_eq!(last(&env), None);
    assert_eq!(vcpu_op(&env, VcpuOp::SET_PERIODIC_TIMER, 0, &again), DONE);
    assert_eq!(last(&env), Some(MS));
    assert_eq!(vcpu_op(&env, VcpuOp::STOP_PERIODIC_TIMER, 0, &again), DONE);
    assert_eq!(last(&env), None);
    assert_eq!(vcpu_op(&env, VcpuOp::SET_PERIODIC_TIMER, 1, &again), DONE, "another vCPU's");
    assert_eq!(asked(&env), [(V1, Some(MS))]);
}

#[test]
fn the_flag_that_refuses_the_past_is_ignored() {
    let env = TestEnv::new();
    for (timeout_abs_ns, deadline) in [(0, 0), (1, 1), (1 << 63, 0), (u64::MAX, 0)] {
        let flags = VcpuSetSingleshotTimer::FUTURE;
        let arg = VcpuSetSingleshotTimer { timeout_abs_ns, flags, ..Default::default() };
        assert_eq!(vcpu_op(&env, VcpuOp::SET_SINGLESHOT_TIMER, 0, &arg), DONE);
        assert_eq!(last(&env), Some(deadline));
    }
}

#[test]
fn a_narrow_guest_has_its_own_form_of_the_singleshot_timer() {
    let config = DomainConfig { width: Width::Bits32, ..DomainConfig::guest(1) };
    let env = TestEnv::with(Level::Current, config);
    let mut memory = Memory::new();
    memory.put(1012, &VcpuSetSingleshotTimer32 { timeout_abs_ns: 9, flags: 0 });
    let args = [VcpuOp::SET_SINGLESHOT_TIMER.0.into(), 0, 1012, 0, 0];
    assert_eq!(env.engine.hypercall(D1, V0, 24, args, &mut memory), DONE, "its last byte is in memory");
    assert_eq!(last(&env), Some(9));
}

#[test]
fn the_raw_door_refuses_in_xens_order() {
    let env = TestEnv::new();
    let (set_once, stop_once) = (VcpuOp::SET_SINGLESHOT_TIMER, VcpuOp::STOP_SINGLESHOT_TIMER);
    let (set, stop) = (VcpuOp::SET_PERIODIC_TIMER, VcpuOp::STOP_PERIODIC_TIMER);
    let bad_address = |command: VcpuOp, vcpu| {
        let args = [command.0.into(), vcpu, 1020, 0, 0];
        env.engine.hypercall(D1, V0, 24, args, &mut Memory::new())
    };
    for command in [set_once, stop_once, set, stop] {
        assert_eq!(bad_address(command, 4), failed(Errno::ENOENT), "{command}");
    }
    assert_eq!(bad_address(set_once, 1), failed(Errno::EINVAL), "not the caller, before EFAULT");
    assert_eq!(bad_address(stop_once, 1), failed(Errno::EINVAL));
    assert_eq!(bad_address(set_once, 0), failed(Errno::EFAULT));
    assert_eq!(bad_address(set, 1), failed(Errno::EFAULT));
    assert_eq!(bad_address(stop_once, 0), DONE, "no argument is looked at");
    assert_eq!(bad_address(stop, 1), DONE);
    let short = VcpuSetPeriodicTimer { period_ns: MS - 1 };
    assert_eq!(vcpu_op(&env, set, 0, &short), failed(Errno::EINVAL));
    for command in (0..6).chain([11, 12, 13, u32::MAX]).map(VcpuOp) {
        assert_eq!(bad_address(command, 4), Outcome::NotMine, "{command}");
    }
}

/// Remembers the last deadline that was asked for.
#[derive(Default)]
struct Clock(AtomicU64);

impl Hooks for Clock {
    type Page = std::sync::Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn set_deadline(&self, _: DomId, _: VcpuId, deadline: Option<u64>) {
        self.0.store(deadline.unwrap_or(0), SeqCst);
    }
}

#[test]
fn the_deadline_that_is_asked_for_last_is_the_one_that_counts() {
    let engine = Engine::new(Clock::default());
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    engine.set_shared_info(D1, Some(page())).unwrap();
    for _ in 0..500 {
        thread::scope(|scope| {
            for first in [1_000, 2_000] {
                let engine = &engine;
                scope.spawn(move || {
                    for deadline in first..first + 20 {
                        engine.set_singleshot_timer(D1, V0, Some(deadline)).unwrap();
                    }
                });
            }
            scope.spawn(|| engine.deadline_passed(D1, V0, 1_500).unwrap());
        });
        let asked = engine.hooks().0.load(SeqCst);
        assert_eq!(engine.deadline(D1, V0).unwrap().unwrap_or(0), asked);
    }
}
