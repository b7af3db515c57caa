// SPDX-License-Identifier: MIT OR Apache-2.0
//! `SCHEDOP_poll`: when a vCPU sleeps and what wakes it.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{D1, D2, TestEnv, V0, delivered};
use evtchn_abi::{Port, VcpuId, Virq};
use evtchn_engine::test_utils::Call;
use evtchn_engine::{OpError, PollOutcome};
use evtchn_sync::Page;

const V1: VcpuId = VcpuId(1);
const V2: VcpuId = VcpuId(2);

/// Masked ports of domain 1 that domain 2 can signal: (sender's port, port).
fn masked_ports(env: &TestEnv, count: usize) -> Vec<(Port, Port)> {
    let pairs: Vec<_> = (0..count).map(|_| env.pair(D2, D1)).collect();
    pairs.iter().for_each(|&(_, port)| env.set_mask(D1, port, true));
    pairs
}

fn sleep(env: &TestEnv, vcpu: VcpuId, ports: &[Port]) {
    assert_eq!(env.engine.sched_poll(D1, vcpu, ports), Ok(PollOutcome::Sleep));
}

#[test]
fn a_poll_of_one_port_wakes_for_that_port_alone() {
    let env = TestEnv::new();
    let ports = masked_ports(&env, 2);
    sleep(&env, V1, &[ports[0].1]);
    env.engine.send(D2, ports[1].0).unwrap();
    assert!(env.engine.is_polling(D1, V1));
    env.engine.send(D2, ports[0].0).unwrap();
    assert_eq!(env.calls(), [Call::WakePoller(D1, V1)]);
    assert!(!env.engine.is_polling(D1, V1) && !env.engine.finish_poll(D1, V1));
}

#[test]
fn a_poll_of_several_ports_or_none_wakes_for_any() {
    for count in [0, 2] {
        let env = TestEnv::new();
        let ports = masked_ports(&env, 3);
        let polled: Vec<_> = ports.iter().take(count).map(|&(_, port)| port).collect();
        sleep(&env, V1, &polled);
        env.engine.send(D2, ports[2].0).unwrap();
        assert_eq!(env.calls(), [Call::WakePoller(D1, V1)]);
    }
}

#[test]
fn every_vcpu_that_polls_the_port_wakes() {
    let env = TestEnv::new();
    let ports = masked_ports(&env, 2);
    sleep(&env, V0, &[ports[0].1]);
    sleep(&env, V1, &[ports[1].1]);
    sleep(&env, V2, &[ports[0].1]);
    env.engine.send(D2, ports[0].0).unwrap();
    assert_eq!(env.calls(), [Call::WakePoller(D1, V0), Call::WakePoller(D1, V2)]);
}

#[test]
fn an_event_that_is_merged_wakes_nobody() {
    let env = TestEnv::new();
    let ports = masked_ports(&env, 2);
    env.set_pending(D1, ports[0].1, true);
    sleep(&env, V1, &[ports[1].1]);
    sleep(&env, V2, &[]);
    env.engine.send(D2, ports[0].0).unwrap();
    env.engine.unmask(D1, ports[1].1).unwrap();
    assert_eq!(env.calls(), []);
}

#[test]
fn an_upcall_ends_the_poll_of_its_vcpu() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D2, D1);
    let other = masked_ports(&env, 1)[0].1;
    env.engine.bind_vcpu(D1, far, V1).unwrap();
    sleep(&env, V1, &[other]);
    sleep(&env, V2, &[other]);
    env.engine.send(D2, near).unwrap();
    assert_eq!(env.calls(), [delivered(D1, 1), Call::WakePoller(D1, V1)]);
    assert!(env.engine.is_polling(D1, V2));
}

#[test]
fn a_deliverable_upcall_or_a_pending_port_is_ready_at_once() {
    let env = TestEnv::new();
    let ports = masked_ports(&env, 1);
    env.set_upcall(D1, 1, 1);
    assert_eq!(env.engine.sched_poll(D1, V1, &[]), Ok(PollOutcome::Ready));
    assert_eq!(env.engine.sched_poll(D1, V1, &[Port(999)]), Ok(PollOutcome::Ready));
    env.page(D1).u8(64 + 1).unwrap().store(1, SeqCst); // evtchn_upcall_mask
    assert_eq!(env.engine.sched_poll(D1, V1, &[Port(999)]), Err(OpError::NoPort));
    env.set_pending(D1, ports[0].1, true);
    assert_eq!(env.engine.sched_poll(D1, V1, &[ports[0].1]), Ok(PollOutcome::Ready));
    assert!(!env.engine.is_polling(D1, V1));
}

#[test]
fn ports_are_looked_at_in_order() {
    let env = TestEnv::new();
    let ports = masked_ports(&env, 2);
    env.set_pending(D1, ports[0].1, true);
    let polled = [ports[0].1, Port(0)];
    assert_eq!(env.engine.sched_poll(D1, V1, &polled), Ok(PollOutcome::Ready));
    let polled = [ports[1].1, Port(0)];
    assert_eq!(env.engine.sched_poll(D1, V1, &polled), Err(OpError::WrongState));
    assert!(!env.engine.is_polling(D1, V1), "not left sleeping");
}

#[test]
fn at_most_128_ports() {
    let env = TestEnv::new();
    let port = masked_ports(&env, 1)[0].1;
    assert_eq!(env.engine.sched_poll(D1, V1, &[port; 129]), Err(OpError::Invalid));
    sleep(&env, V1, &[port; 128]);
}

#[test]
fn unusable_ports_are_refused_whatever_the_number() {
    let env = TestEnv::new();
    for port in (32..=4096).chain([u32::MAX]).map(Port) {
        assert!(env.engine.sched_poll(D1, V0, &[port]).is_err(), "{port}");
    }
    assert_eq!(env.engine.sched_poll(D1, VcpuId(4), &[]), Err(OpError::NoVcpu));
}

#[test]
fn a_finished_poll_is_not_woken() {
    let env = TestEnv::new();
    let ports = masked_ports(&env, 1);
    sleep(&env, V1, &[ports[0].1]);
    assert!(env.engine.finish_poll(D1, V1));
    env.engine.send(D2, ports[0].0).unwrap();
    assert_eq!(env.calls(), []);
}

#[test]
fn a_poll_that_ended_does_not_hide_another() {
    let env = TestEnv::new();
    let ports = masked_ports(&env, 1);
    sleep(&env, V1, &[ports[0].1]);
    sleep(&env, V2, &[]);
    assert!(env.engine.finish_poll(D1, V2));
    assert!(!env.engine.finish_poll(D1, V2));
    env.engine.send(D2, ports[0].0).unwrap();
    assert_eq!(env.calls(), [Call::WakePoller(D1, V1)]);
}

#[test]
fn an_interrupt_that_is_merged_wakes_nobody() {
    let env = TestEnv::new();
    let port = env.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    env.set_mask(D1, port, true);
    env.engine.raise_virq(D1, V0, Virq::TIMER).unwrap();
    sleep(&env, V1, &[]);
    env.engine.raise_virq(D1, V0, Virq::TIMER).unwrap();
    assert_eq!(env.calls(), []);
    assert!(env.engine.is_polling(D1, V1));
}
