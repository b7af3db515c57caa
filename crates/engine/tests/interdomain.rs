// SPDX-License-Identifier: MIT OR Apache-2.0
//! Connecting two ports, closing one of them, and what the other end sees.
#![allow(missing_docs)]

mod common;

use common::{D0, D1, D2, NOBODY, SPECIAL, TestEnv, V0, delivered};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Port, VcpuId, Virq};
use evtchn_engine::OpError;

#[test]
fn binding_connects_both_ends() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D1, D2);
    assert_eq!(env.status(D1, near).kind, StatusKind::Interdomain { dom: D2, port: far });
    assert_eq!(env.status(D2, far).kind, StatusKind::Interdomain { dom: D1, port: near });
}

#[test]
fn binding_raises_the_binders_end_only() {
    let env = TestEnv::new();
    let far = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    let near = env.engine.bind_interdomain(D1, D2, far).unwrap();
    assert!(env.pending(D1, near) && env.selected(D1, 0, near) && env.upcall(D1, 0));
    assert!(!env.pending(D2, far) && !env.upcall(D2, 0));
    assert_eq!(env.calls(), [delivered(D1, 0)]);
}

#[test]
fn a_masked_binder_gets_the_pending_bit_alone() {
    let env = TestEnv::new();
    let far = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    env.set_mask(D1, Port(1), true);
    let near = env.engine.bind_interdomain(D1, D2, far).unwrap();
    assert!(env.pending(D1, near) && !env.selected(D1, 0, near) && !env.upcall(D1, 0));
    assert_eq!(env.calls(), []);
}

#[test]
fn a_port_that_waits_for_somebody_else_refuses_and_no_number_is_used_up() {
    let env = TestEnv::new();
    let other = env.engine.alloc_unbound(D2, DomId::SELF, DomId(3)).unwrap();
    assert_eq!(env.engine.bind_interdomain(D1, D2, other), Err(OpError::NotAccepted));
    assert_eq!(env.engine.bind_ipi(D1, V0), Ok(Port(1)));
}

#[test]
fn ports_that_do_not_wait_at_all_refuse() {
    let env = TestEnv::new();
    let ipi = env.engine.bind_ipi(D2, V0).unwrap();
    let virq = env.engine.bind_virq(D2, Virq::TIMER, V0).unwrap();
    let (_, taken) = env.pair(D1, D2);
    for port in [Port(0), Port(40), ipi, virq, taken] {
        assert_eq!(env.engine.bind_interdomain(D1, D2, port), Err(OpError::NotAccepted), "{port}");
    }
    for port in [Port(64), Port(1 << 31), Port(u32::MAX)] {
        assert_eq!(env.engine.bind_interdomain(D1, D2, port), Err(OpError::NoPort), "{port}");
    }
}

#[test]
fn a_missing_domain_is_esrch() {
    let env = TestEnv::new();
    for dom in SPECIAL.into_iter().chain([NOBODY]) {
        assert_eq!(env.engine.bind_interdomain(D1, dom, Port(1)), Err(OpError::NoDomain));
    }
}

#[test]
fn a_full_binder_is_enospc_before_the_peers_port_is_looked_at() {
    let env = TestEnv::new();
    let far = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    env.fill(D1);
    assert_eq!(env.engine.bind_interdomain(D1, D2, Port(9999)), Err(OpError::NoSpace));
    assert_eq!(env.engine.bind_interdomain(D1, D2, far), Err(OpError::NoSpace));
    assert_eq!(env.status(D2, far).kind, StatusKind::Unbound { dom: D1 });
}

#[test]
fn a_domain_can_connect_two_of_its_own_ports() {
    let env = TestEnv::new();
    let one = env.engine.alloc_unbound(D1, DomId::SELF, DomId::SELF).unwrap();
    let two = env.engine.bind_interdomain(D1, DomId::SELF, one).unwrap();
    env.quiet(D1);
    env.engine.send(D1, one).unwrap();
    assert!(env.pending(D1, two) && !env.pending(D1, one));
    env.engine.send(D1, two).unwrap();
    assert!(env.pending(D1, one));
    env.engine.close(D1, two).unwrap();
    assert_eq!(env.status(D1, one).kind, StatusKind::Unbound { dom: D1 });
}

#[test]
fn a_port_cannot_be_bound_to_itself() {
    let env = TestEnv::new();
    assert_eq!(env.engine.bind_interdomain(D1, DomId::SELF, Port(1)), Err(OpError::NotAccepted));
}

#[test]
fn the_waiting_end_keeps_its_vcpu() {
    let env = TestEnv::new();
    let far = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    env.engine.bind_vcpu(D2, far, VcpuId(2)).unwrap();
    let near = env.engine.bind_interdomain(D1, D2, far).unwrap();
    env.calls();
    env.engine.send(D1, near).unwrap();
    assert_eq!(env.calls(), [delivered(D2, 2)]);
    assert!(env.selected(D2, 2, far) && !env.selected(D2, 0, far) && !env.upcall(D2, 0));
}

#[test]
fn events_sent_before_the_peer_binds_are_dropped() {
    let env = TestEnv::new();
    let far = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    for _ in 0..3 {
        assert_eq!(env.engine.send(D2, far), Ok(()));
    }
    assert_eq!(env.calls(), []);
    env.engine.bind_interdomain(D1, D2, far).unwrap();
    assert_eq!(env.calls(), [delivered(D1, 0)]);
}

#[test]
fn closing_one_end_returns_the_other_to_unbound_and_tells_nobody() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D1, D2);
    env.engine.bind_vcpu(D2, far, VcpuId(1)).unwrap();
    env.set_pending(D2, far, true);
    env.set_mask(D2, far, true);
    env.engine.close(D1, near).unwrap();
    let after = env.status(D2, far);
    assert_eq!((after.kind, after.vcpu), (StatusKind::Unbound { dom: D1 }, VcpuId(1)));
    assert!(env.pending(D2, far) && env.masked(D2, far));
    assert_eq!(env.calls(), []);
    assert_eq!(env.status(D1, near).kind, StatusKind::Closed);
}

#[test]
fn a_peer_can_bind_again_after_a_close() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D1, D2);
    env.engine.close(D1, near).unwrap();
    assert_eq!(env.engine.send(D2, far), Ok(()));
    assert_eq!(env.engine.bind_interdomain(D1, D2, far), Ok(near));
    env.engine.close(D2, far).unwrap();
    assert_eq!(env.status(D1, near).kind, StatusKind::Unbound { dom: D2 });
    env.engine.close(D1, near).unwrap();
    assert_eq!(env.engine.ports_in_use(D1), Ok((0, 0)));
}

#[test]
fn closing_clears_the_pending_bit_but_takes_no_upcall_back() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D1, D2);
    env.engine.send(D1, near).unwrap();
    env.engine.close(D2, far).unwrap();
    assert!(!env.pending(D2, far));
    assert!(env.selected(D2, 0, far) && env.upcall(D2, 0));
}

#[test]
fn closing_twice_is_refused() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, V0).unwrap();
    assert_eq!(env.engine.close(D1, port), Ok(()));
    assert_eq!(env.engine.close(D1, port), Err(OpError::WrongState));
    for port in [Port(64), Port(1 << 31), Port(u32::MAX)] {
        assert_eq!(env.engine.close(D1, port), Err(OpError::NoPort));
    }
}

#[test]
fn domain_0_needs_acceptance_like_everybody() {
    let env = TestEnv::new();
    let far = env.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    assert_eq!(env.engine.bind_interdomain(D0, D2, far), Err(OpError::NotAccepted));
}
