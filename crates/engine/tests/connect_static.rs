// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels of chosen numbers, made before their domains run.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use common::{D0, D1, D2, NOBODY, TestEnv, V0, delivered};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Port};
use evtchn_engine::{DomainConfig, Level, OpError};

fn at(domain: DomId, port: u32) -> (DomId, Port) {
    (domain, Port(port))
}

#[test]
fn both_ends_are_interdomain_and_the_second_is_pending() {
    let env = TestEnv::new();
    env.engine.connect_static(at(D1, 10), at(D2, 11)).unwrap();
    assert_eq!(env.status(D1, Port(10)).kind, StatusKind::Interdomain { dom: D2, port: Port(11) });
    assert_eq!(env.status(D2, Port(11)).kind, StatusKind::Interdomain { dom: D1, port: Port(10) });
    assert!(!env.pending(D1, Port(10)) && env.pending(D2, Port(11)));
    assert_eq!(env.calls(), [delivered(D2, 0)]);
    env.engine.send(D2, Port(11)).unwrap();
    assert!(env.pending(D1, Port(10)));
}

#[test]
fn records_below_exist_and_other_ports_still_start_at_1() {
    let env = TestEnv::new();
    env.engine.connect_static(at(D1, 200), at(D2, 3)).unwrap();
    assert_eq!(env.engine.status(D1, DomId::SELF, Port(255)).unwrap().kind, StatusKind::Closed);
    assert_eq!(env.engine.status(D1, DomId::SELF, Port(256)).map(drop), Err(OpError::NoPort));
    assert_eq!(env.engine.bind_ipi(D1, V0), Ok(Port(1)));
    let others: Vec<_> = (0..3).map(|_| env.engine.bind_ipi(D2, V0).unwrap().0).collect();
    assert_eq!(others, [1, 2, 4], "a chosen port is passed over");
}

#[test]
fn a_port_in_use_is_ebusy_and_nothing_is_left() {
    let env = TestEnv::new();
    env.engine.connect_static(at(D1, 10), at(D2, 11)).unwrap();
    let again = |first, second| env.engine.connect_static(first, second);
    assert_eq!(again(at(D1, 10), at(D2, 12)), Err(OpError::PortInUse));
    assert_eq!(again(at(D1, 12), at(D2, 11)), Err(OpError::PortInUse), "the first is given back");
    assert_eq!(again(at(D1, 0), at(D2, 12)), Err(OpError::PortInUse));
    assert_eq!(again(at(D1, 12), at(D1, 12)), Err(OpError::PortInUse), "a port is not its own peer");
    assert_eq!((env.engine.ports_in_use(D1), env.engine.ports_in_use(D2)), (Ok((1, 0)), Ok((1, 0))));
    assert_eq!(again(at(D1, 12), at(D2, 12)), Ok(()));
}

#[test]
fn the_limits_of_both_domains_count() {
    let env = TestEnv::with(Level::Current, DomainConfig { max_port: Some(20), ..DomainConfig::guest(1) });
    assert_eq!(env.engine.connect_static(at(D1, 21), at(D2, 5)), Err(OpError::NoSpace));
    assert_eq!(env.engine.connect_static(at(D2, 5), at(D1, 21)), Err(OpError::NoSpace));
    assert_eq!(env.engine.connect_static(at(D0, 4096), at(D1, 20)), Err(OpError::NoSpace), "of the ABI");
    assert_eq!(env.engine.connect_static(at(D0, u32::MAX), at(D1, 20)), Err(OpError::NoSpace));
    assert_eq!(env.engine.connect_static(at(D0, 4095), at(D1, 20)), Ok(()));
    assert_eq!(env.engine.connect_static(at(NOBODY, 1), at(D1, 2)), Err(OpError::NoDomain));
    assert_eq!(env.engine.connect_static(at(D1, 2), at(NOBODY, 1)), Err(OpError::NoDomain));
}

#[test]
fn one_domain_may_have_both_ends() {
    let env = TestEnv::new();
    env.engine.connect_static(at(D1, 9), at(D1, 5)).unwrap();
    assert_eq!(env.status(D1, Port(9)).kind, StatusKind::Interdomain { dom: D1, port: Port(5) });
    assert!(env.pending(D1, Port(5)) && !env.pending(D1, Port(9)));
    assert_eq!(env.engine.ports_in_use(D1), Ok((2, 0)));
}

#[test]
fn the_guest_closes_a_static_port_as_any_other() {
    let env = TestEnv::new();
    env.engine.connect_static(at(D1, 10), at(D2, 11)).unwrap();
    env.engine.close(D1, Port(10)).unwrap();
    assert_eq!(env.status(D2, Port(11)).kind, StatusKind::Unbound { dom: D1 });
    env.engine.close(D2, Port(11)).unwrap();
    assert!(!env.pending(D2, Port(11)));
    assert_eq!(env.engine.connect_static(at(D1, 10), at(D2, 11)), Ok(()), "and it can be made again");
}

#[test]
fn a_port_that_was_closed_while_others_send_can_be_chosen_at_once() {
    const ROUNDS: u32 = 2_000;
    let env = TestEnv::new();
    let ipi = env.engine.bind_ipi(D0, V0).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    env.engine.send(D0, ipi).unwrap();
                    let _ = env.engine.send(D1, Port(10));
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                env.engine.connect_static(at(D1, 10), at(D2, 11)).unwrap();
                assert!(env.pending(D2, Port(11)));
                env.engine.close(D2, Port(11)).unwrap();
                env.engine.close(D1, Port(10)).unwrap();
            }
            stop.store(true, SeqCst);
        });
    });
}
