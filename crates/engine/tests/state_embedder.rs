// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving and restoring what concerns the embedder: sinks, EOIs, suspending, teardown, routes that it carries out.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use common::full::{V1, V2, VMM, assert_wrong, full, moved};
use common::state::{Machine, configs, control};
use common::{D0, D1, D2, V0, delivered};
use evtchn_abi::{DomId, Gfn, Pirq, Port, VcpuId};
use evtchn_engine::state::DomainError;
use evtchn_engine::test_utils::{Call, page};
use evtchn_engine::{
    Delivery, DomainConfig, Engine, Hooks, MachineState, OffloadRoute, OpError, RestoreError,
    TeardownOutcome, Upcall,
};
use evtchn_sync::HeapPage;

#[test]
fn a_sink_is_a_sink_again_and_hears_of_each_send() {
    let machine = full();
    let port = Port(1); // of both
    let new = moved(&machine);
    new.calls();
    new.engine.send(D1, port).unwrap();
    new.engine.send(D1, port).unwrap();
    assert_eq!(new.calls(), [Call::Sink(VMM, port, V0); 2]);
    assert_eq!(new.engine.set_shared_info(VMM, Some(page())).map(drop), Err(OpError::NotSupported));
}

#[test]
fn a_sink_has_no_page_and_no_fifo() {
    let state = full().engine.save_domain(VMM).unwrap();
    let machine = Machine::empty(4);
    let refused = machine.engine.restore_domain(&state, Some(page()));
    assert_eq!(refused, Err(RestoreError::Domain(VMM, DomainError::SharedInfo)));
    assert_eq!(machine.engine.restore_domain(&state, None), Ok(()));
    let mut fifo = Machine::new(&configs());
    fifo.init_control(D1, 0);
    let fifo = fifo.engine.save_domain(D1).unwrap().fifo;
    assert_wrong(VMM, |state| state.fifo = fifo, DomainError::FifoNotAllowed);
}

#[test]
fn a_machine_asks_no_page_for_a_sink() {
    let state = full().engine.save().unwrap();
    let machine = Machine::empty(4);
    let mut asked = Vec::new();
    machine
        .engine
        .restore(&state, |id| {
            asked.push(id);
            Some(page())
        })
        .unwrap();
    assert_eq!(asked, [D0, D1, D2]);
}

#[test]
fn a_sink_that_comes_back_finds_its_peers_and_is_raised() {
    let machine = full();
    let state = machine.engine.save_domain(VMM).unwrap();
    machine.engine.destroy_domain(VMM).unwrap();
    machine.engine.restore_domain(&state, None).unwrap();
    assert_eq!(machine.calls(), [Call::Sink(VMM, Port(1), V0)]);
    machine.engine.validate().unwrap();
}

#[test]
fn an_eoi_unmasks_as_before() {
    for on in [false, true] {
        let machine = Machine::new(&configs());
        let port = machine.engine.bind_pirq(D1, Pirq(2), 0).unwrap();
        machine.engine.set_auto_unmask(D1, on).unwrap();
        machine.mask(D1, port);
        machine.engine.raise_pirq(D1, Pirq(2)).unwrap();
        let new = moved(&machine);
        assert_eq!(new.engine.pirq_is_masked(D1, Pirq(2)), Ok(true));
        new.engine.pirq_eoi(D1, Pirq(2)).unwrap();
        assert_eq!(new.engine.pirq_is_masked(D1, Pirq(2)), Ok(!on));
        assert_eq!(new.calls(), Vec::from_iter(on.then_some(delivered(D1, 0))));
    }
}

#[test]
fn the_toolstack_is_told_of_a_suspend_after_a_restore() {
    let machine = Machine::new(&configs());
    let port = machine.engine.alloc_unbound(D0, D1, D0).unwrap();
    let local = machine.engine.bind_interdomain(D0, D1, port).unwrap();
    machine.engine.set_suspend_port(D1, port).unwrap();
    common::set_bit(machine.page(D0), 2048, local.0, false);
    let new = moved(&machine);
    new.engine.suspended(D1).unwrap();
    assert!(common::bit(new.page(D0), 2048, local.0));
}

#[test]
fn a_suspend_port_that_no_port_can_be_is_refused() {
    for port in [0, 1 << 31, u32::MAX] {
        assert_wrong(D1, |state| state.suspend_port = Some(port), DomainError::SuspendPort(port));
    }
}

/// Hooks that make everything give way.
#[derive(Default)]
struct Busy;

impl Hooks for Busy {
    type Page = Arc<HeapPage>;
    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
    fn wake_poller(&self, _: DomId, _: VcpuId) {}
    fn preempt(&self, _: DomId) -> bool {
        true
    }
}

/// Domain 1 with 100 channels to domain 2, of which 64 are torn down.
fn half_torn_down() -> (Engine<Busy>, MachineState) {
    let engine = Engine::new(Busy);
    for id in [D1, D2] {
        engine.create_domain(id, DomainConfig::guest(1)).unwrap();
    }
    for _ in 0..100 {
        let port = engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
        engine.bind_interdomain(D1, D2, port).unwrap();
    }
    assert!(matches!(engine.tear_down(D1), Ok(TeardownOutcome::Again)));
    let state = engine.save().unwrap();
    (engine, state)
}

#[test]
fn a_teardown_that_gave_way_goes_on() {
    let (engine, state) = half_torn_down();
    assert_eq!((state.domains[0].teardown, state.domains[0].ports.len()), (Some(36), 36));
    let new = Engine::new(Busy);
    new.restore(&state, |_| Some(page())).unwrap();
    assert_eq!(new.save().unwrap(), state);
    new.validate().unwrap();
    assert_eq!(new.send(D2, Port(36)), Ok(()), "still connected");
    assert_eq!(new.bind_ipi(D1, V0), Err(OpError::Dying));
    assert!(matches!(new.tear_down(D1), Ok(TeardownOutcome::Done(Some(_)))));
    assert!(!new.domain_exists(D1));
    new.validate().unwrap();
    // By itself, beside its peer.
    let alone = engine.save_domain(D1).unwrap();
    assert_eq!(alone, state.domains[0]);
    engine.destroy_domain(D1).unwrap();
    assert_eq!(engine.save_domain(D1), Err(OpError::NoDomain));
    engine.restore_domain(&alone, None).unwrap();
    engine.validate().unwrap();
    assert_eq!(engine.destroy_domain(D1).map(|page| page.is_none()), Ok(true));
    engine.validate().unwrap();
}

#[test]
fn a_teardown_that_would_leave_ports_behind_is_refused() {
    let (_, state) = half_torn_down();
    for next in [0, 35, 128, u32::MAX] {
        let mut wrong = state.clone();
        wrong.domains[0].teardown = Some(next);
        let engine = Engine::new(Busy);
        let refused = engine.restore(&wrong, |_| None);
        assert_eq!(refused, Err(RestoreError::Domain(D1, DomainError::Teardown(next))));
        assert_eq!(engine.save().unwrap().domains, []);
    }
}

/// A kernel that takes all routes, and finds its embedder at fault if one is loaded twice or unloaded for nothing.
#[derive(Default)]
struct Kernel {
    routes: Mutex<BTreeSet<Parts>>,
    refuses: AtomicBool,
}

/// Sender, its port, receiver, its port, vCPU.
type Parts = (DomId, u32, DomId, u32, u32);

fn parts(route: &OffloadRoute) -> Parts {
    (route.sender, route.sender_port.0, route.receiver, route.receiver_port.0, route.vcpu.0)
}

impl Hooks for Kernel {
    type Page = Arc<HeapPage>;
    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
    fn wake_poller(&self, _: DomId, _: VcpuId) {}
    fn pin(&self, _: DomId, _: Gfn) -> Option<Arc<HeapPage>> {
        (!self.refuses.load(SeqCst)).then(page)
    }
    fn offload(&self, route: &OffloadRoute) -> bool {
        assert!(self.routes.lock().unwrap().insert(parts(route)), "loaded twice");
        true
    }
    fn unload(&self, route: &OffloadRoute) {
        assert!(self.routes.lock().unwrap().remove(&parts(route)), "unloaded as loaded");
    }
}

/// Domains 1 and 2 with a channel and an IPI each, a channel of 1 to itself, and channels of 1 to a FIFO domain and a sink.
fn routed() -> Engine<Kernel> {
    let engine = Engine::new(Kernel::default());
    for id in [D0, D1, D2] {
        engine.create_domain(id, DomainConfig::guest(3)).unwrap();
    }
    let sink = DomainConfig { delivery: Delivery::Sink, ..DomainConfig::guest(1) };
    engine.create_domain(VMM, sink).unwrap();
    engine.init_control(D0, V0, control(0), 0).unwrap();
    for peer in [D2, D1, D0, VMM] {
        let port = engine.alloc_unbound(peer, DomId::SELF, D1).unwrap();
        engine.bind_interdomain(D1, peer, port).unwrap();
    }
    engine.bind_vcpu(D2, Port(1), V2).unwrap();
    for id in [D1, D2] {
        engine.bind_ipi(id, V1).unwrap();
    }
    engine
}

#[test]
fn routes_are_offered_again_when_a_machine_is_restored() {
    let engine = routed();
    let routes = engine.hooks().routes.lock().unwrap().clone();
    // Both ways to domain 2 and within domain 1, one way from the FIFO domain, and two IPIs.
    assert_eq!(routes.len(), 7, "{routes:?}");
    let new = Engine::new(Kernel::default());
    new.restore(&engine.save().unwrap(), |_| Some(page())).unwrap();
    assert_eq!(*new.hooks().routes.lock().unwrap(), routes);
    for id in [D1, D2] {
        new.destroy_domain(id).unwrap();
    }
    assert!(new.hooks().routes.lock().unwrap().is_empty());
}

#[test]
fn routes_are_offered_again_when_a_domain_finds_its_peers() {
    let engine = routed();
    let routes = engine.hooks().routes.lock().unwrap().clone();
    for id in [D1, D2] {
        let state = engine.save_domain(id).unwrap();
        engine.destroy_domain(id).unwrap();
        assert!(engine.hooks().routes.lock().unwrap().len() < routes.len());
        engine.restore_domain(&state, Some(page())).unwrap();
        assert_eq!(*engine.hooks().routes.lock().unwrap(), routes);
        engine.validate().unwrap();
    }
}

#[test]
fn no_route_is_offered_by_a_restore_that_fails() {
    let state = routed().save().unwrap();
    let new = Engine::new(Kernel { refuses: true.into(), ..Kernel::default() });
    let refused = new.restore(&state, |_| None);
    assert_eq!(refused, Err(RestoreError::Domain(D0, DomainError::Frame(control(0).0))));
    assert!(new.hooks().routes.lock().unwrap().is_empty());
}
