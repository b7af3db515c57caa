// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who hears that a domain has suspended.
#![allow(missing_docs)]

mod common;

use common::{D0, D1, NOBODY, TestEnv, V0, delivered};
use evtchn_abi::{DomId, Port, Virq};
use evtchn_engine::{OpError, ResetOutcome};

/// Domain 1's port to its toolstack, the toolstack's end, and its `VIRQ_DOM_EXC`.
fn subscribed(env: &TestEnv) -> (Port, Port, Port) {
    let (local, port) = env.pair(D0, D1);
    let dom_exc = env.engine.bind_virq(D0, Virq::DOM_EXC, V0).unwrap();
    env.engine.set_suspend_port(D1, port).unwrap();
    (port, local, dom_exc)
}

#[test]
fn the_peer_of_the_suspend_port_is_raised() {
    let env = TestEnv::new();
    let (_, local, dom_exc) = subscribed(&env);
    env.engine.suspended(D1).unwrap();
    assert!(env.pending(D0, local) && !env.pending(D0, dom_exc));
    assert_eq!(env.calls(), [delivered(D0, 0)]);
}

#[test]
fn without_one_dom_exc_is_raised() {
    let env = TestEnv::new();
    let (_, local, dom_exc) = subscribed(&env);
    env.engine.set_suspend_port(D1, Port(0)).unwrap();
    env.engine.suspended(D1).unwrap();
    assert!(!env.pending(D0, local) && env.pending(D0, dom_exc));
    assert_eq!(env.engine.suspended(D0), Ok(()), "any domain may");
}

#[test]
fn a_port_that_leads_nowhere_tells_nobody() {
    let env = TestEnv::new();
    let (port, local, dom_exc) = subscribed(&env);
    env.engine.close(D1, port).unwrap();
    for _ in 0..2 {
        env.engine.suspended(D1).unwrap();
        assert!(!env.pending(D0, local) && !env.pending(D0, dom_exc));
        env.engine.set_suspend_port(D1, Port(5_000)).unwrap();
    }
}

#[test]
fn the_choice_survives_a_reset_and_not_the_domain() {
    let env = TestEnv::new();
    let (port, _, dom_exc) = subscribed(&env);
    assert_eq!(env.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
    env.engine.connect_static((D1, port), (D0, Port(900))).unwrap();
    env.quiet(D0);
    env.engine.suspended(D1).unwrap();
    assert!(env.pending(D0, Port(900)) && !env.pending(D0, dom_exc));
    env.engine.destroy_domain(D1).unwrap();
    assert_eq!(env.engine.suspended(D1), Err(OpError::NoDomain));
    assert_eq!(env.engine.set_suspend_port(NOBODY, port), Err(OpError::NoDomain));
    env.engine.create_domain(D1, evtchn_engine::DomainConfig::guest(1)).unwrap();
    env.engine.suspended(D1).unwrap();
    assert!(env.pending(D0, dom_exc));
}
