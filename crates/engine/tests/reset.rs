// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reset, and the death of a domain.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use common::{D0, D1, D2, TestEnv, V0};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Pirq, Port, VcpuId, Virq};
use evtchn_engine::test_utils::page;
use evtchn_engine::{Consumer, DomainConfig, Engine, Hooks, Level, OpError, ResetOutcome, Upcall};
use evtchn_sync::HeapPage;

#[test]
fn a_reset_closes_every_kind_of_port() {
    let config = DomainConfig { nr_pirqs: 4, ..DomainConfig::guest(4) };
    let env = TestEnv::with(Level::Current, config);
    let (_, far) = env.pair(D1, D2);
    env.engine.bind_ipi(D1, V0).unwrap();
    env.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    env.engine.bind_pirq(D1, Pirq(1), 0).unwrap();
    env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
    env.set_mask(D1, Port(2), true);
    assert_eq!(env.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
    assert_eq!(env.engine.ports_in_use(D1), Ok((0, 0)));
    assert_eq!(env.status(D2, far).kind, StatusKind::Unbound { dom: D1 });
    assert!(env.masked(D1, Port(2)));
    assert_eq!(env.engine.bind_virq(D1, Virq::TIMER, V0), Ok(Port(1)));
    assert_eq!(env.engine.reset(D1, D1), Ok(ResetOutcome::Done), "by its own number");
}

#[test]
fn who_may_reset_whom() {
    let env = TestEnv::new();
    env.engine.bind_ipi(D2, V0).unwrap();
    assert_eq!(env.engine.reset(D1, D2), Err(OpError::NotPermitted));
    assert_eq!(env.engine.reset(D1, DomId(999)), Err(OpError::NoDomain));
    assert_eq!(env.engine.reset(D0, D2), Err(OpError::NotPaused));
    assert_eq!(env.engine.reset_cont(D0, D2), Err(OpError::NotPaused), "before EBUSY");
    env.engine.set_paused(D2, true).unwrap();
    assert_eq!(env.engine.reset(D0, D2), Ok(ResetOutcome::Done));
    assert_eq!(env.engine.ports_in_use(D2), Ok((0, 0)));
    env.engine.set_paused(D2, false).unwrap();
    assert_eq!(env.engine.reset(D0, D2), Err(OpError::NotPaused));
}

#[test]
fn continuing_while_no_reset_runs_is_ebusy() {
    let env = TestEnv::new();
    assert_eq!(env.engine.reset_cont(D1, DomId::SELF), Err(OpError::ResetPhase));
}

#[test]
fn ports_that_xen_consumes_survive_a_reset_and_not_the_domain() {
    let env = TestEnv::new();
    let port = env.engine.alloc_consumer(D0, D1, V0, D2, Consumer::new(2).unwrap()).unwrap();
    env.engine.bind_interdomain(D2, D1, port).unwrap();
    env.engine.bind_ipi(D1, V0).unwrap();
    assert_eq!(env.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
    assert_eq!(env.engine.ports_in_use(D1), Ok((1, 1)));
    env.engine.destroy_domain(D1).unwrap();
    assert_eq!(env.status(D2, Port(1)).kind, StatusKind::Unbound { dom: D1 });
}

/// Asks every reset to give way while the flag is set.
#[derive(Default)]
struct Impatient(AtomicBool);

impl Hooks for Impatient {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn preempt(&self, _: DomId) -> bool {
        self.0.load(SeqCst)
    }
}

fn impatient(ports: u32) -> Engine<Impatient> {
    let engine = Engine::new(Impatient(AtomicBool::new(true)));
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    engine.set_shared_info(D1, Some(page())).unwrap();
    (0..ports).for_each(|_| assert!(engine.bind_ipi(D1, V0).is_ok()));
    engine
}

#[test]
fn a_reset_that_gives_way_is_continued() {
    let engine = impatient(200);
    assert_eq!(engine.reset(D1, D1), Ok(ResetOutcome::Again));
    assert_eq!(engine.reset(D1, D1), Err(OpError::ResetPhase), "one at a time");
    let (left, _) = engine.ports_in_use(D1).unwrap();
    assert!(left > 0 && left < 200);
    let mut rounds = 0;
    while engine.reset_cont(D1, D1).unwrap() == ResetOutcome::Again {
        rounds += 1;
        assert!(rounds < 10, "no progress while preemption is always wanted");
    }
    assert_eq!(engine.ports_in_use(D1), Ok((0, 0)));
    assert_eq!(engine.reset_cont(D1, D1), Err(OpError::ResetPhase));
}

#[test]
fn ports_opened_behind_a_reset_are_eagain_and_end_it() {
    let engine = impatient(100);
    assert_eq!(engine.reset(D1, D1), Ok(ResetOutcome::Again));
    engine.hooks().0.store(false, SeqCst);
    assert_eq!(engine.bind_ipi(D1, V0), Ok(Port(1)));
    assert_eq!(engine.reset_cont(D1, D1), Err(OpError::OpenedMeanwhile));
    assert_eq!(engine.ports_in_use(D1), Ok((1, 0)));
    assert_eq!(engine.reset(D1, D1), Ok(ResetOutcome::Done));
}

#[test]
fn reserved_and_used_ids_make_no_domain() {
    let env = TestEnv::new();
    for id in [0x7ff0, 0x7ff4, 0x7fff, 0xffff] {
        let made = env.engine.create_domain(DomId(id), DomainConfig::default());
        assert_eq!(made, Err(OpError::Invalid));
    }
    let made = env.engine.create_domain(D1, DomainConfig::default());
    assert_eq!(made, Err(OpError::DomainExists));
    let made = env.engine.create_domain(DomId(9), DomainConfig::guest(0));
    assert_eq!(made, Err(OpError::Invalid), "no vCPUs");
    assert!(env.engine.domain_exists(D1) && !env.engine.domain_exists(DomId(9)));
}

#[test]
fn a_dead_domains_peers_are_unbound_for_its_id_and_hear_nothing() {
    let env = TestEnv::new();
    let pairs: Vec<_> = (0..200).map(|_| env.pair(D1, D2)).collect();
    let own = env.engine.alloc_unbound(D1, DomId::SELF, DomId::SELF).unwrap();
    env.engine.bind_interdomain(D1, D1, own).unwrap();
    env.quiet(D1);
    env.engine.destroy_domain(D1).unwrap();
    assert!(!env.engine.domain_exists(D1));
    assert_eq!(env.calls(), []);
    for (_, far) in pairs {
        assert_eq!(env.status(D2, far).kind, StatusKind::Unbound { dom: D1 });
        assert_eq!(env.engine.send(D2, far), Ok(()));
    }
    assert_eq!(env.engine.send(D1, Port(1)), Err(OpError::NoDomain));
    assert_eq!(env.engine.destroy_domain(D1).err(), Some(OpError::NoDomain));
}

#[test]
fn a_new_domain_with_the_id_can_bind_what_the_dead_one_left() {
    let env = TestEnv::new();
    let (_, far) = env.pair(D1, D2);
    env.engine.destroy_domain(D1).unwrap();
    env.engine.create_domain(D1, DomainConfig::default()).unwrap();
    assert_eq!(env.engine.bind_interdomain(D1, D2, far), Ok(Port(1)));
}
