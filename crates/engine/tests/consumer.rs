// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels that the embedder consumes, and the dump that shows them.
#![allow(missing_docs)]

mod common;

use common::{D0, D1, D2, NOBODY, TestEnv, V0, delivered};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{Port, VcpuId, Virq};
use evtchn_engine::test_utils::Call;
use evtchn_engine::{Consumer, OpError};

fn consumer() -> Consumer {
    Consumer::new(3).unwrap()
}

#[test]
fn what_the_peer_sends_comes_to_the_consumer() {
    let env = TestEnv::new();
    let port = env.engine.alloc_consumer(D0, D1, VcpuId(2), D2, consumer()).unwrap();
    let far = env.engine.bind_interdomain(D2, D1, port).unwrap();
    env.quiet(D2);
    env.engine.send(D2, far).unwrap();
    assert_eq!(env.calls(), [Call::Consumer(consumer(), D1, VcpuId(2), port)]);
    assert!(!env.pending(D1, port));
}

#[test]
fn the_consumer_signals_its_peer() {
    let env = TestEnv::new();
    let port = env.engine.alloc_consumer(D0, D1, V0, D2, consumer()).unwrap();
    assert_eq!(env.engine.notify_consumer(D1, port), Ok(()), "nobody there yet");
    let far = env.engine.bind_interdomain(D2, D1, port).unwrap();
    env.quiet(D2);
    env.engine.notify_consumer(D1, port).unwrap();
    assert!(env.pending(D2, far));
    assert_eq!(env.calls(), [delivered(D2, 0)]);
}

#[test]
fn the_mark_survives_the_peers_close_and_ends_with_the_consumers() {
    let env = TestEnv::new();
    let port = env.engine.alloc_consumer(D0, D1, V0, D2, consumer()).unwrap();
    let far = env.engine.bind_interdomain(D2, D1, port).unwrap();
    env.engine.close(D2, far).unwrap();
    assert_eq!(env.engine.close(D1, port), Err(OpError::XenOwned));
    assert_eq!(env.status(D1, port).kind, StatusKind::Unbound { dom: D2 });
    env.engine.free_consumer(D1, port).unwrap();
    assert_eq!(env.engine.ports_in_use(D1), Ok((0, 0)));
    assert_eq!(env.engine.bind_ipi(D1, V0), Ok(port));
    assert_eq!(env.engine.free_consumer(D1, port), Err(OpError::WrongState));
    assert_eq!(env.engine.notify_consumer(D1, port), Err(OpError::WrongState));
}

#[test]
fn making_one_needs_power_over_the_domain() {
    let env = TestEnv::new();
    let make = |caller, dom, vcpu| env.engine.alloc_consumer(caller, dom, vcpu, D0, consumer());
    assert_eq!(make(D2, D1, V0), Err(OpError::NotPermitted));
    assert_eq!(make(D0, NOBODY, V0), Err(OpError::NoDomain));
    assert_eq!(make(D0, D1, VcpuId(4)), Err(OpError::NoVcpu));
    assert_eq!(env.engine.ports_in_use(D1), Ok((0, 0)));
}

#[test]
fn the_dump_shows_every_open_port_as_xen_does() {
    let env = TestEnv::new();
    let (_, _) = env.pair(D1, D2);
    env.engine.bind_ipi(D1, VcpuId(3)).unwrap();
    env.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    env.engine.alloc_consumer(D0, D1, V0, D0, consumer()).unwrap();
    env.set_mask(D1, Port(2), true);
    env.engine.send(D2, Port(1)).unwrap();
    let lines: Vec<_> = env.engine.debug_dump(D1).unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "   1 [1/0/1]: s=3 n=0 x=0 d=2 p=1",
        "   2 [0/1/0]: s=6 n=3 x=0",
        "   3 [0/0/1]: s=5 n=0 x=0 v=0",
        "   4 [0/0/1]: s=2 n=0 x=3 d=0",
    ];
    assert_eq!(lines, expected);
    assert_eq!(env.engine.debug_dump(NOBODY), Err(OpError::NoDomain));
}
