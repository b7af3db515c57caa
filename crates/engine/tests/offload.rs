// SPDX-License-Identifier: MIT OR Apache-2.0
//! Routes that the embedder carries out: what is offered, and that it is taken back in time.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{D0, D1, D2, V0};
use evtchn_abi::{DomId, Gfn, Port, VcpuId};
use evtchn_engine::test_utils::page;
use evtchn_engine::{
    Consumer, Delivery, DomainConfig, Engine, Hooks, OffloadRoute, ResetOutcome, State, Upcall,
};
use evtchn_sync::HeapPage;

type Table = BTreeMap<(DomId, Port), OffloadRoute>;

/// A kernel that takes all routes, and finds its embedder at fault if one is loaded twice or unloaded for nothing.
#[derive(Default)]
struct Kernel {
    routes: Mutex<Table>,
    declines: AtomicBool,
}

impl Hooks for Kernel {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, _: DomId, _: Gfn) -> Option<Arc<HeapPage>> {
        Some(page())
    }

    fn offload(&self, route: &OffloadRoute) -> bool {
        if self.declines.load(SeqCst) {
            return false;
        }
        let before = self.routes.lock().unwrap().insert((route.sender, route.sender_port), *route);
        assert_eq!(before, None, "loaded twice");
        true
    }

    fn unload(&self, route: &OffloadRoute) {
        let before = self.routes.lock().unwrap().remove(&(route.sender, route.sender_port));
        assert_eq!(before, Some(*route), "unloaded as loaded");
    }
}

fn engine() -> Engine<Kernel> {
    let engine = Engine::new(Kernel::default());
    for (id, config) in
        [(D0, DomainConfig::dom0(4)), (D1, DomainConfig::guest(4)), (D2, DomainConfig::guest(4))]
    {
        engine.create_domain(id, config).unwrap();
        engine.set_shared_info(id, Some(page())).unwrap();
    }
    engine
}

/// Each loaded route as sender, its port, receiver, its port, vCPU.
fn loaded(engine: &Engine<Kernel>) -> Vec<(DomId, u32, DomId, u32, u32)> {
    let routes = engine.hooks().routes.lock().unwrap();
    let parts = |r: &OffloadRoute| (r.sender, r.sender_port.0, r.receiver, r.receiver_port.0, r.vcpu.0);
    routes.values().map(parts).collect()
}

/// A port of `a` and the one of `b` that it is connected to.
fn pair(engine: &Engine<Kernel>, a: DomId, b: DomId) -> (Port, Port) {
    let far = engine.alloc_unbound(b, DomId::SELF, a).unwrap();
    (engine.bind_interdomain(a, b, far).unwrap(), far)
}

#[test]
fn an_ipi_is_one_route_and_a_channel_two() {
    let engine = engine();
    let ipi = engine.bind_ipi(D1, VcpuId(2)).unwrap();
    assert_eq!(loaded(&engine), [(D1, 1, D1, 1, 2)]);
    assert!(engine.hooks().routes.lock().unwrap()[&(D1, ipi)].is_ipi());
    let far = engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
    assert_eq!(loaded(&engine).len(), 1, "nobody is there yet");
    engine.bind_vcpu(D2, far, VcpuId(3)).unwrap();
    engine.bind_interdomain(D1, D2, far).unwrap();
    assert_eq!(loaded(&engine), [(D1, 1, D1, 1, 2), (D1, 2, D2, 1, 3), (D2, 1, D1, 2, 0)]);
    assert!(!engine.hooks().routes.lock().unwrap()[&(D2, far)].is_ipi());
}

#[test]
fn a_channel_within_one_domain_is_two_routes() {
    let engine = engine();
    let (near, far) = pair(&engine, D1, D1);
    assert_eq!(loaded(&engine), [(D1, far.0, D1, near.0, 0), (D1, near.0, D1, far.0, 0)]);
    engine.close(D1, near).unwrap();
    assert_eq!(loaded(&engine), []);
}

#[test]
fn a_close_of_either_end_takes_both_routes_back() {
    let engine = engine();
    for closer in [D1, D2] {
        let (near, far) = pair(&engine, D1, D2);
        assert_eq!(loaded(&engine).len(), 2);
        engine.close(closer, if closer == D1 { near } else { far }).unwrap();
        assert_eq!(loaded(&engine), []);
        engine.close(if closer == D1 { D2 } else { D1 }, if closer == D1 { far } else { near }).unwrap();
    }
    let ipi = engine.bind_ipi(D1, V0).unwrap();
    engine.close(D1, ipi).unwrap();
    assert_eq!(loaded(&engine), []);
}

#[test]
fn a_moved_port_is_offered_anew() {
    let engine = engine();
    let (near, far) = pair(&engine, D1, D2);
    engine.bind_vcpu(D2, far, VcpuId(2)).unwrap();
    engine.bind_vcpu(D2, far, VcpuId(2)).unwrap();
    assert_eq!(loaded(&engine), [(D1, near.0, D2, far.0, 2), (D2, far.0, D1, near.0, 0)]);
    engine.hooks().declines.store(true, SeqCst);
    engine.bind_vcpu(D2, far, VcpuId(1)).unwrap();
    assert_eq!(loaded(&engine), [(D2, far.0, D1, near.0, 0)], "an offer may be declined");
    engine.hooks().declines.store(false, SeqCst);
    engine.bind_vcpu(D2, far, VcpuId(3)).unwrap();
    assert_eq!(loaded(&engine)[0], (D1, near.0, D2, far.0, 3), "and is made again");
}

#[test]
fn a_refused_operation_changes_no_route() {
    let engine = engine();
    let (near, far) = pair(&engine, D1, D2);
    let before = loaded(&engine);
    assert!(engine.bind_vcpu(D2, far, VcpuId(99)).is_err());
    assert!(engine.bind_interdomain(D1, D2, far).is_err());
    assert!(engine.close(D1, Port(50)).is_err());
    assert!(engine.init_control(D2, VcpuId(99), Gfn(1), 0).is_err());
    assert_eq!(loaded(&engine), before);
    assert!(engine.send(D1, near).is_ok(), "the engine stays the authority");
}

#[test]
fn what_no_kernel_can_do_is_not_offered() {
    let engine = engine();
    engine
        .create_domain(DomId(3), DomainConfig { delivery: Delivery::Sink, ..DomainConfig::guest(1) })
        .unwrap();
    pair(&engine, D1, DomId(3));
    engine.bind_ipi(DomId(3), V0).unwrap();
    let consumed = engine.alloc_consumer(D0, D1, V0, D2, Consumer::new(1).unwrap()).unwrap();
    engine.bind_interdomain(D2, D1, consumed).unwrap();
    engine.bind_virq(D1, evtchn_abi::Virq::TIMER, V0).unwrap();
    assert_eq!(loaded(&engine), []);
}

#[test]
fn a_switch_to_fifo_takes_the_routes_to_the_domain_back() {
    let engine = engine();
    let (near, far) = pair(&engine, D1, D2);
    engine.bind_ipi(D2, V0).unwrap();
    engine.init_control(D2, V0, Gfn(1), 0).unwrap();
    assert_eq!(loaded(&engine), [(D2, far.0, D1, near.0, 0)], "those from it stay");
    engine.bind_vcpu(D2, far, VcpuId(1)).unwrap();
    engine.bind_ipi(D2, V0).unwrap();
    assert_eq!(loaded(&engine).len(), 1);
    assert_eq!(engine.reset(D2, DomId::SELF), Ok(ResetOutcome::Done));
    let ipi = engine.bind_ipi(D2, V0).unwrap().0;
    assert_eq!(loaded(&engine), [(D2, ipi, D2, ipi, 0)], "two-level again");
}

#[test]
fn reset_and_death_leave_no_route() {
    let engine = engine();
    for _ in 0..3 {
        pair(&engine, D1, D2);
        pair(&engine, D0, D2);
        engine.bind_ipi(D2, V0).unwrap();
    }
    assert_eq!(loaded(&engine).len(), 15);
    assert_eq!(engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
    assert_eq!(loaded(&engine).len(), 9);
    engine.destroy_domain(D2).unwrap();
    assert_eq!(loaded(&engine), []);
}

/// Is the route what the engine says of the port that it leads to? Called while the table is locked, so that it cannot be
/// unloaded meanwhile; looks at records without a lock.
fn is_true(engine: &Engine<Kernel>, route: &OffloadRoute) -> bool {
    let rows = engine.debug_dump(route.receiver).unwrap();
    let row = rows.iter().find(|row| row.port == route.receiver_port);
    let bound = State::Interdomain { remote: route.sender, port: route.sender_port };
    row.is_some_and(|row| (row.state == bound || route.is_ipi()) && row.vcpu == route.vcpu)
}

#[test]
fn while_a_route_is_loaded_it_is_true() {
    const ROUNDS: u32 = 400;
    let engine = engine();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers = [(D1, D2), (D2, D1), (D1, D1)].map(|(a, b)| {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let far = engine.alloc_unbound(b, DomId::SELF, a).unwrap();
                    let near = engine.bind_interdomain(a, b, far).unwrap();
                    engine.bind_vcpu(b, far, VcpuId(round % 4)).unwrap();
                    let ipi = engine.bind_ipi(a, VcpuId(round % 4)).unwrap();
                    engine.send(a, near).unwrap();
                    engine.close(b, far).unwrap();
                    engine.close(a, near).unwrap();
                    engine.close(a, ipi).unwrap();
                }
            })
        });
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let routes = engine.hooks().routes.lock().unwrap();
                let wrong = routes.values().find(|route| !is_true(&engine, route));
                assert_eq!(wrong, None);
            }
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        done.store(true, SeqCst);
    });
    assert_eq!(loaded(&engine), []);
    engine.validate().unwrap();
}
