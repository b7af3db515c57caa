// SPDX-License-Identifier: MIT OR Apache-2.0
//! Creation that fails, and destruction that gives way.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use common::{D0, D1, D2, NOBODY, TestEnv, V0};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Gfn, Pirq, Port, VcpuId, Virq};
use evtchn_engine::test_utils::page;
use evtchn_engine::{Consumer, DomainConfig, Engine, Hooks, OpError, ResetOutcome, TeardownOutcome, Upcall};
use evtchn_sync::HeapPage;

/// Always in a hurry; hands out one page for all frames, and counts the lines that are connected.
#[derive(Default)]
struct Hurried {
    patient: AtomicBool,
    asked: AtomicU32,
    lines: AtomicU32,
    frame: Arc<HeapPage>,
}

impl Hooks for Hurried {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, _: DomId, _: Gfn) -> Option<Arc<HeapPage>> {
        Some(self.frame.clone())
    }

    fn preempt(&self, _: DomId) -> bool {
        self.asked.fetch_add(1, SeqCst);
        !self.patient.load(SeqCst)
    }

    fn pirq_bind(&self, _: DomId, _: Pirq, _: bool) -> Result<(), evtchn_engine::PirqRefused> {
        self.lines.fetch_add(1, SeqCst);
        Ok(())
    }

    fn pirq_unbind(&self, _: DomId, _: Pirq) {
        self.lines.fetch_sub(1, SeqCst);
    }
}

fn engine() -> Engine<Hurried> {
    let engine = Engine::new(Hurried::default());
    let one = DomainConfig { nr_pirqs: 4, ..DomainConfig::guest(2) };
    for (id, config) in [(D0, DomainConfig::dom0(2)), (D1, one), (D2, DomainConfig::guest(2))] {
        engine.create_domain(id, config).unwrap();
        engine.set_shared_info(id, Some(page())).unwrap();
    }
    engine
}

/// Opens some ports of domain 1.
fn open<H: Hooks>(engine: &Engine<H>, ports: u32) {
    (0..ports).for_each(|_| assert!(engine.bind_ipi(D1, V0).is_ok()));
}

/// Tears domain 1 down, however often it gives way; how often it did.
fn tear_down(engine: &Engine<Hurried>) -> (u32, Option<Arc<HeapPage>>) {
    let mut times = 0;
    loop {
        match engine.tear_down(D1).unwrap() {
            TeardownOutcome::Done(page) => return (times, page),
            TeardownOutcome::Again => times += 1,
        }
    }
}

#[test]
fn it_gives_way_after_every_64_ports_and_ends_though_always_preempted() {
    let engine = engine();
    let far: Vec<_> = (0..1_000).map(|_| engine.alloc_unbound(D2, DomId::SELF, D1).unwrap()).collect();
    far.iter().for_each(|&far| assert!(engine.bind_interdomain(D1, D2, far).is_ok()));
    assert!(matches!(engine.tear_down(D1), Ok(TeardownOutcome::Again)));
    assert_eq!(engine.ports_in_use(D1), Ok((936, 0)), "the highest are closed first");
    assert_eq!(engine.status(D2, DomId::SELF, far[999]).unwrap().kind, StatusKind::Unbound { dom: D1 });
    assert!(matches!(
        engine.status(D2, DomId::SELF, far[0]).unwrap().kind,
        StatusKind::Interdomain { dom: D1, .. }
    ));
    let (more, page) = tear_down(&engine);
    assert_eq!(more, 14);
    assert!(page.is_some() && !engine.domain_exists(D1));
    for far in far {
        assert_eq!(engine.status(D2, DomId::SELF, far).unwrap().kind, StatusKind::Unbound { dom: D1 });
    }
    engine.validate().unwrap();
}

#[test]
fn a_few_ports_need_no_second_call() {
    let engine = engine();
    open(&engine, 63);
    assert!(matches!(engine.tear_down(D1), Ok(TeardownOutcome::Done(Some(_)))));
    assert_eq!(engine.hooks().asked.load(SeqCst), 0);
    assert_eq!(engine.tear_down(D1).map(drop), Err(OpError::NoDomain));
    assert_eq!(engine.tear_down(NOBODY).map(drop), Err(OpError::NoDomain));
}

#[test]
fn between_two_calls_the_domain_is_there_without_new_ports() {
    let engine = engine();
    let far = engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    let near = engine.bind_interdomain(D1, D2, far).unwrap();
    open(&engine, 100);
    assert!(matches!(engine.tear_down(D1), Ok(TeardownOutcome::Again)));
    assert_eq!(engine.create_domain(D1, DomainConfig::guest(1)), Err(OpError::DomainExists));
    assert_eq!(engine.bind_ipi(D1, V0), Err(OpError::Dying));
    assert_eq!(engine.connect_static((D1, Port(900)), (D2, Port(900))), Err(OpError::Dying));
    assert_eq!(engine.set_virq_handler(Virq::CONSOLE, D1), Err(OpError::Dying));
    assert_eq!(engine.init_control(D1, V0, Gfn(1), 0), Err(OpError::Dying));
    assert_eq!((engine.send(D2, far), engine.send(D1, near)), (Ok(()), Ok(())), "what is left works");
    assert!(engine.destroy_domain(D1).unwrap().is_some(), "goes on, and does not give way");
    assert_eq!(engine.send(D2, far), Ok(()));
}

#[test]
fn everything_that_the_domain_held_is_given_back() {
    let engine = engine();
    engine.init_control(D1, V0, Gfn(1), 0).unwrap();
    engine.init_control(D1, VcpuId(1), Gfn(1), 512).unwrap();
    (0..3).for_each(|gfn| engine.expand_array(D1, Gfn(gfn)).unwrap());
    assert_eq!(Arc::strong_count(&engine.hooks().frame), 6);
    engine.set_virq_handler(Virq::CONSOLE, D1).unwrap();
    engine.bind_virq(D1, Virq::CONSOLE, V0).unwrap();
    engine.bind_pirq(D1, Pirq(1), 0).unwrap();
    engine.alloc_consumer(D0, D1, V0, D2, Consumer::new(1).unwrap()).unwrap();
    open(&engine, 200);
    assert!(matches!(engine.tear_down(D1), Ok(TeardownOutcome::Again)));
    // A guest that runs on gives what it likes: it goes with the domain.
    engine.expand_array(D1, Gfn(9)).unwrap();
    let caller = engine.caller(D1, V0).unwrap();
    tear_down(&engine);
    assert_eq!(Arc::strong_count(&engine.hooks().frame), 1, "unpinned, though somebody holds the domain");
    assert_eq!(engine.hooks().lines.load(SeqCst), 0);
    assert!(engine.bind_virq(D0, Virq::CONSOLE, V0).is_ok(), "the hardware domain handles it again");
    assert_eq!(engine.raise_global_virq(Virq::CONSOLE), Ok(true));
    drop(caller);
    engine.validate().unwrap();
}

#[test]
fn the_embedder_may_free_its_consumers_late() {
    let engine = engine();
    let port = engine.alloc_consumer(D0, D1, V0, D2, Consumer::new(1).unwrap()).unwrap();
    let far = engine.bind_interdomain(D2, D1, port).unwrap();
    engine.destroy_domain(D1).unwrap();
    assert_eq!(engine.free_consumer(D1, port), Err(OpError::NoDomain));
    assert_eq!(engine.notify_consumer(D1, port), Err(OpError::NoDomain));
    assert_eq!(engine.send(D2, far), Ok(()));
}

#[test]
fn a_reset_that_gave_way_does_not_hold_up_the_end() {
    let engine = engine();
    open(&engine, 300);
    assert_eq!(engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Again));
    let (times, _) = tear_down(&engine);
    assert!(times > 0);
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    assert_eq!(engine.reset_cont(D1, DomId::SELF), Err(OpError::ResetPhase), "nothing is inherited");
}

#[test]
fn a_creation_that_fails_leaves_nothing() {
    let engine = Engine::new(Hurried::default());
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    let port = engine.bind_ipi(D1, V0).unwrap();
    assert_eq!(engine.create_domain(D1, DomainConfig::dom0(1)), Err(OpError::DomainExists));
    assert_eq!(engine.send(D1, port), Ok(()), "the one that is there goes on");
    assert_eq!(engine.create_domain(D2, DomainConfig::dom0(0)), Err(OpError::Invalid));
    assert_eq!(engine.create_domain(D2, DomainConfig::dom0(8_193)), Err(OpError::Invalid));
    assert!(!engine.domain_exists(D2));
    assert_eq!(engine.bind_virq(D1, Virq::CONSOLE, V0), Err(OpError::VirqElsewhere), "no role was given");
    engine.create_domain(D2, DomainConfig::dom0(1)).unwrap();
    assert!(engine.bind_virq(D2, Virq::CONSOLE, V0).is_ok());
    engine.validate().unwrap();
}

#[test]
fn senders_and_binders_meet_a_domain_that_dies_in_steps() {
    const ROUNDS: u32 = 40;
    let engine = engine();
    engine.destroy_domain(D1).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for sender in [D0, D2] {
            let (engine, stop) = (&engine, &stop);
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    for port in (1..200).map(Port) {
                        let _ = engine.bind_interdomain(sender, D1, port);
                        let _ = engine.send(sender, port);
                        let _ = engine.close(sender, Port(port.0 / 2));
                    }
                    engine.hooks().patient.store(true, SeqCst);
                    let _ = engine.reset(sender, DomId::SELF);
                    engine.hooks().patient.store(false, SeqCst);
                }
            });
        }
        for _ in 0..ROUNDS {
            engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
            engine.set_shared_info(D1, Some(page())).unwrap();
            for port in 0..250 {
                engine.alloc_unbound(D1, DomId::SELF, if port % 2 == 0 { D0 } else { D2 }).unwrap();
            }
            tear_down(&engine);
        }
        stop.store(true, SeqCst);
    });
    engine.validate().unwrap();
    for id in [D0, D2] {
        engine.destroy_domain(id).unwrap();
    }
}

#[test]
fn a_send_succeeds_at_every_moment_of_its_peers_death() {
    const ROUNDS: u32 = 2_000;
    let engine = engine();
    engine.destroy_domain(D1).unwrap();
    let port = engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut vcpu = engine.caller(D2, V0).unwrap();
            while !stop.load(SeqCst) {
                assert_eq!((engine.send(D2, port), vcpu.send(port)), (Ok(()), Ok(())));
            }
        });
        for _ in 0..ROUNDS {
            engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
            engine.set_shared_info(D1, Some(page())).unwrap();
            engine.bind_interdomain(D1, D2, port).unwrap();
            engine.destroy_domain(D1).unwrap();
        }
        stop.store(true, SeqCst);
        sender.join().unwrap();
    });
    engine.validate().unwrap();
}

#[test]
fn of_two_that_destroy_a_domain_one_gets_its_page() {
    for _ in 0..200 {
        let env = TestEnv::new();
        open(&env.engine, 100);
        let destroy = || env.engine.destroy_domain(D1);
        let results = thread::scope(|scope| {
            let other = scope.spawn(destroy);
            [destroy(), other.join().unwrap()]
        });
        let pages = results.iter().filter(|result| matches!(result, Ok(Some(_)))).count();
        let refused = results.iter().filter(|result| matches!(result, Err(OpError::NoDomain))).count();
        assert_eq!((pages, refused), (1, 1));
    }
}
