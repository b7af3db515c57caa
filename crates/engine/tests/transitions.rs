// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes, goes and comes back while others hold on to it: pages, domains, ports.
#![allow(missing_docs)]

mod common;

use std::num::NonZeroU64;

use common::fifo::{Guest, OFFSET, array, control};
use common::memory::{AT, Memory, failed};
use common::{D1, D2, TestEnv, V0};
use evtchn_abi::args::SchedPoll;
use evtchn_abi::{DomId, Errno, Hypercall, Op, Pirq, Port, VcpuId};
use evtchn_engine::test_utils::Call;
use evtchn_engine::{DomainConfig, OpError, Outcome};

/// Domain 1 with the FIFO ABI and a port that domain 2 sends to: domain 2's port and domain 1's.
fn fifo(env: &TestEnv) -> (Guest, Port, Port) {
    let guest = Guest::new(env, 1, 1);
    env.engine.init_control(D1, V0, control(0), OFFSET).unwrap();
    env.engine.expand_array(D1, array(0)).unwrap();
    let (near, far) = env.pair(D2, D1);
    (guest, near, far)
}

#[test]
fn what_was_queued_while_there_was_no_page_is_told_when_one_comes() {
    let env = TestEnv::new();
    let (guest, near, far) = fifo(&env);
    let page = env.engine.set_shared_info(D1, None).unwrap();
    env.engine.send(D2, near).unwrap();
    assert!(guest.word(far).is_linked());
    let _ = env.engine.hooks().take();
    env.engine.set_shared_info(D1, page).unwrap();
    let calls = env.engine.hooks().take();
    assert!(calls.iter().any(|call| matches!(call, Call::Deliver(D1, V0, _))), "{calls:?}");
}

#[test]
fn the_caller_of_a_dead_domain_can_do_nothing() {
    let env = TestEnv::new();
    let mut caller = env.engine.caller(DomId(0), V0).unwrap();
    env.engine.destroy_domain(DomId(0)).unwrap();
    let mut memory = Memory::with(&evtchn_abi::args::AllocUnbound { dom: D1, ..Default::default() });
    let refused = failed(Errno::ESRCH);
    assert_eq!(caller.event_channel_op(Op::ALLOC_UNBOUND.0, AT, &mut memory), refused);
    let mut poll = Memory::with(&SchedPoll::default());
    assert_eq!(caller.hypercall(Hypercall::SCHED_OP.0, [3, AT, 0, 0, 0], &mut poll), refused);
    assert_eq!(caller.send(Port(1)), Err(OpError::WrongState));
    assert_eq!(env.engine.ports_in_use(D1), Ok((0, 0)));
}

#[test]
fn a_poll_until_a_negative_time_is_over_at_once() {
    let env = TestEnv::new();
    let timeout = (-1i64).cast_unsigned();
    let mut memory = Memory::with(&SchedPoll { timeout, ..Default::default() });
    let outcome = env.engine.hypercall(D1, V0, Hypercall::SCHED_OP.0, [3, AT, 0, 0, 0], &mut memory);
    assert_eq!(outcome, Outcome::Block { deadline: NonZeroU64::new(1) });
}

#[test]
fn a_suspend_port_that_cannot_be_is_nobodys() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D1, D2);
    env.engine.set_suspend_port(D1, Port(near.0 | 1 << 31)).unwrap();
    let _ = env.engine.suspended(D1);
    assert!(!env.pending(D2, far));
}

#[test]
fn a_table_of_pirqs_has_a_bound() {
    let env = TestEnv::new();
    let with = |nr_pirqs| DomainConfig { nr_pirqs, ..DomainConfig::guest(1) };
    assert_eq!(env.engine.create_domain(DomId(9), with((1 << 20) + 1)), Err(OpError::Invalid));
    env.engine.create_domain(DomId(9), with(1 << 20)).unwrap();
    env.engine.bind_pirq(DomId(9), Pirq((1 << 20) - 1), 0).unwrap();
}

#[test]
fn a_closed_port_loses_the_bit_that_a_switch_is_about_to_collect() {
    // Alone, the order of events is: switch, collect. What is closed in between is tried by threads.
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, VcpuId(1)).unwrap();
    for round in 0..200 {
        env.set_pending(D1, port, true);
        let guest = Guest::new(&env, 1, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| env.engine.init_control(D1, V0, control(0), OFFSET).unwrap());
            scope.spawn(|| {
                let _ = env.engine.close(D1, port);
            });
        });
        env.engine.expand_array(D1, array(0)).unwrap();
        let again = env.engine.bind_ipi(D1, VcpuId(1)).unwrap();
        assert!(!guest.word(again).is_pending(), "round {round}: an event of the port's last owner");
        guest.set_word(again, 0);
        guest.set_word(port, 0);
        env.set_pending(D1, port, false);
        env.engine.reset(D1, DomId::SELF).unwrap();
        assert_eq!(env.engine.bind_ipi(D1, VcpuId(1)), Ok(port));
    }
    env.engine.validate().unwrap();
}
