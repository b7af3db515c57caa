// SPDX-License-Identifier: MIT OR Apache-2.0
//! The observer: every call is told, with its end, and nothing is held meanwhile.
#![allow(missing_docs)]

mod common;

use std::sync::{Arc, Mutex, OnceLock, Weak};

use common::{D0, D1, D2, NOBODY, V0};
use evtchn_abi::{CallbackVia, DomId, Gfn, Op, Pirq, Port, VcpuId, Virq};
use evtchn_engine::test_utils::page;
use evtchn_engine::{
    Action, Consumer, DomainConfig, DomainKind, Engine, Hooks, Observed, OpError, PollOutcome,
    TeardownOutcome, Upcall, Width,
};
use evtchn_sync::HeapPage;

/// Writes down all but raises, and looks into the engine each time: that would hang if a lock were held.
#[derive(Default)]
struct Tracer {
    seen: Mutex<Vec<Observed>>,
    engine: OnceLock<Weak<Engine<Self>>>,
}

impl Hooks for Tracer {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, _: DomId, _: Gfn) -> Option<Arc<HeapPage>> {
        Some(page())
    }

    fn preempt(&self, _: DomId) -> bool {
        true
    }

    fn observe(&self, event: Observed) {
        if let Some(engine) = self.engine.get().and_then(Weak::upgrade) {
            engine.validate().unwrap();
            evtchn_sync::wait_for_readers();
        }
        if !matches!(event, Observed::Raised { .. }) {
            self.seen.lock().unwrap().push(event);
        }
    }
}

fn engine() -> Arc<Engine<Tracer>> {
    let engine = Arc::new(Engine::new(Tracer::default()));
    engine.hooks().engine.set(Arc::downgrade(&engine)).unwrap();
    for (id, config) in
        [(D0, DomainConfig::dom0(2)), (D1, DomainConfig { nr_pirqs: 4, ..DomainConfig::guest(2) })]
    {
        engine.create_domain(id, config).unwrap();
        engine.set_shared_info(id, Some(page())).unwrap();
    }
    take(&engine);
    engine
}

fn take(engine: &Engine<Tracer>) -> Vec<Observed> {
    std::mem::take(&mut engine.hooks().seen.lock().unwrap())
}

fn action(domain: DomId, action: Action, result: Result<(), OpError>) -> Observed {
    Observed::Action { domain, action, result }
}

fn operation(op: Op, port: Port, result: Result<(), OpError>) -> Observed {
    Observed::Operation { caller: D1, op, port, result }
}

#[test]
fn every_operation_of_event_channel_op_is_told() {
    let engine = engine();
    let waiting = engine.alloc_unbound(D1, DomId::SELF, D1).unwrap();
    let local = engine.bind_interdomain(D1, D1, waiting).unwrap();
    let virq = engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    let pirq = engine.bind_pirq(D1, Pirq(1), 0).unwrap();
    let ipi = engine.bind_ipi(D1, V0).unwrap();
    engine.send(D1, local).unwrap();
    engine.caller(D1, V0).unwrap().send(local).unwrap();
    engine.status(D1, DomId::SELF, local).unwrap();
    engine.bind_vcpu(D1, local, VcpuId(1)).unwrap();
    engine.unmask(D1, local).unwrap();
    engine.init_control(D1, V0, Gfn(1), 0).unwrap();
    engine.expand_array(D1, Gfn(2)).unwrap();
    engine.set_priority(D1, ipi, 16).unwrap_err();
    engine.close(D1, Port(60)).unwrap_err();
    let _ = engine.reset(D1, DomId::SELF).unwrap();
    let _ = engine.reset_cont(D1, DomId::SELF).unwrap();
    let expected = [
        operation(Op::ALLOC_UNBOUND, waiting, Ok(())),
        operation(Op::BIND_INTERDOMAIN, local, Ok(())),
        operation(Op::BIND_VIRQ, virq, Ok(())),
        operation(Op::BIND_PIRQ, pirq, Ok(())),
        operation(Op::BIND_IPI, ipi, Ok(())),
        operation(Op::SEND, local, Ok(())),
        operation(Op::SEND, local, Ok(())),
        operation(Op::STATUS, local, Ok(())),
        operation(Op::BIND_VCPU, local, Ok(())),
        operation(Op::UNMASK, local, Ok(())),
        operation(Op::INIT_CONTROL, Port(0), Ok(())),
        operation(Op::EXPAND_ARRAY, Port(0), Ok(())),
        operation(Op::SET_PRIORITY, ipi, Err(OpError::Invalid)),
        operation(Op::CLOSE, Port(60), Err(OpError::WrongState)),
        operation(Op::RESET, Port(0), Ok(())),
        operation(Op::RESET_CONT, Port(0), Ok(())),
    ];
    assert_eq!(take(&engine), expected);
}

#[test]
fn the_life_of_a_domain_is_told() {
    let engine = engine();
    engine.create_domain(D2, DomainConfig { max_port: None, ..DomainConfig::guest(1) }).unwrap();
    engine.create_domain(D2, DomainConfig::guest(1)).unwrap_err();
    engine.set_shared_info(D2, Some(page())).unwrap();
    engine.set_shared_info(D2, None).unwrap();
    engine.set_paused(D2, true).unwrap();
    engine.set_width(D2, Width::Bits32).unwrap();
    engine.set_suspend_port(D2, Port(4)).unwrap();
    let expected = [
        action(D2, Action::CreateDomain, Ok(())),
        action(D2, Action::CreateDomain, Err(OpError::DomainExists)),
        action(D2, Action::SetSharedInfo { present: true }, Ok(())),
        action(D2, Action::SetSharedInfo { present: false }, Ok(())),
        action(D2, Action::SetPaused(true), Ok(())),
        action(D2, Action::SetWidth(Width::Bits32), Ok(())),
        action(D2, Action::SetSuspendPort(Port(4)), Ok(())),
    ];
    assert_eq!(take(&engine), expected);
    (0..64).for_each(|_| assert!(engine.bind_ipi(D2, V0).is_ok()));
    take(&engine);
    assert!(matches!(engine.tear_down(D2), Ok(TeardownOutcome::Again)));
    assert!(matches!(engine.tear_down(D2), Ok(TeardownOutcome::Done(None))));
    engine.destroy_domain(D2).unwrap_err();
    let expected = [
        action(D2, Action::DestroyDomain { done: false }, Ok(())),
        action(D2, Action::DestroyDomain { done: true }, Ok(())),
        action(D2, Action::DestroyDomain { done: false }, Err(OpError::NoDomain)),
    ];
    assert_eq!(take(&engine), expected);
}

#[test]
fn interrupts_are_told_whether_bound_or_not() {
    let engine = engine();
    engine.bind_pirq(D1, Pirq(1), 0).unwrap();
    engine.bind_virq(D0, Virq::DOM_EXC, V0).unwrap();
    take(&engine);
    engine.raise_virq(D1, V0, Virq::TIMER).unwrap();
    engine.raise_virq(D1, VcpuId(9), Virq::TIMER).unwrap_err();
    engine.raise_global_virq(Virq::DOM_EXC).unwrap();
    engine.raise_global_virq(Virq::TIMER).unwrap_err();
    engine.raise_pirq(D1, Pirq(1)).unwrap();
    engine.raise_pirq(NOBODY, Pirq(1)).unwrap_err();
    engine.pirq_eoi(D1, Pirq(1)).unwrap();
    engine.pirq_status(D1, Pirq(9)).unwrap_err();
    engine.set_auto_unmask(D1, true).unwrap();
    engine.set_virq_handler(Virq::CONSOLE, D1).unwrap();
    engine.suspended(D1).unwrap();
    let (timer, bound) = (Virq::TIMER, true);
    let dom_exc = Action::RaiseGlobalVirq { virq: Virq::DOM_EXC, bound };
    let expected = [
        action(D1, Action::RaiseVirq { virq: timer, vcpu: V0, bound: false }, Ok(())),
        action(D1, Action::RaiseVirq { virq: timer, vcpu: VcpuId(9), bound: false }, Err(OpError::NoVcpu)),
        action(D0, dom_exc, Ok(())),
        action(DomId::INVALID, Action::RaiseGlobalVirq { virq: timer, bound: false }, Err(OpError::NoVirq)),
        action(D1, Action::RaisePirq { pirq: Pirq(1), bound }, Ok(())),
        action(NOBODY, Action::RaisePirq { pirq: Pirq(1), bound: false }, Err(OpError::NoDomain)),
        action(D1, Action::PirqEoi(Pirq(1)), Ok(())),
        action(D1, Action::PirqStatus(Pirq(9)), Err(OpError::NoPirq)),
        action(D1, Action::SetAutoUnmask(true), Ok(())),
        action(D1, Action::SetVirqHandler(Virq::CONSOLE), Ok(())),
        action(D1, Action::Suspended, Ok(())),
        action(D0, dom_exc, Ok(())),
    ];
    assert_eq!(take(&engine), expected);
}

#[test]
fn polls_consumers_and_static_channels_are_told() {
    let engine = engine();
    let port = engine.alloc_consumer(D0, D1, V0, D0, Consumer::new(1).unwrap()).unwrap();
    engine.notify_consumer(D1, port).unwrap();
    engine.free_consumer(D1, port).unwrap();
    engine.free_consumer(D1, port).unwrap_err();
    engine.connect_static((D1, Port(7)), (D0, Port(8))).unwrap();
    assert_eq!(engine.sched_poll(D1, V0, &[Port(7)]), Ok(PollOutcome::Sleep));
    assert!(engine.finish_poll(D1, V0) && !engine.finish_poll(D1, V0));
    engine.sched_poll(D1, V0, &[Port(9)]).unwrap_err();
    let poll = |sleeps| Action::Poll { vcpu: V0, ports: 1, sleeps };
    let finish = |was_polling| Action::FinishPoll { vcpu: V0, was_polling };
    let expected = [
        action(D1, Action::AllocConsumer(port), Ok(())),
        action(D1, Action::NotifyConsumer(port), Ok(())),
        action(D1, Action::FreeConsumer(port), Ok(())),
        action(D1, Action::FreeConsumer(port), Err(OpError::WrongState)),
        action(D1, Action::ConnectStatic { port: Port(7), second: D0, second_port: Port(8) }, Ok(())),
        action(D1, poll(true), Ok(())),
        action(D1, finish(true), Ok(())),
        action(D1, finish(false), Ok(())),
        action(D1, poll(false), Err(OpError::WrongState)),
    ];
    assert_eq!(take(&engine), expected);
}

#[test]
fn upcalls_and_timers_are_told() {
    let engine = engine();
    engine.create_domain(D2, DomainConfig { kind: DomainKind::Hvm, ..DomainConfig::guest(1) }).unwrap();
    take(&engine);
    engine.set_callback(D2, CallbackVia::Vector(0xf3)).unwrap();
    engine.set_upcall_vector(D2, V0, 3).unwrap_err();
    engine.register_vcpu_info(D2, V0, Gfn(1), 64).unwrap();
    engine.drop_vcpu_infos(D2).unwrap();
    engine.set_singleshot_timer(D2, V0, Some(10)).unwrap();
    engine.set_periodic_timer(D2, V0, Some(1)).unwrap_err();
    assert_eq!(engine.deadline_passed(D2, V0, 20), Ok(true));
    assert_eq!(engine.sched_block(D2, V0), Ok(PollOutcome::Sleep));
    let param = CallbackVia::Vector(0xf3).to_param();
    let virq = Virq::TIMER;
    let expected = [
        action(D2, Action::SetCallback(param), Ok(())),
        action(D2, Action::SetUpcallVector { vcpu: V0, vector: 3 }, Err(OpError::Invalid)),
        action(D2, Action::RegisterVcpuInfo { vcpu: V0, gfn: Gfn(1), offset: 64 }, Ok(())),
        action(D2, Action::DropVcpuInfos, Ok(())),
        action(D2, Action::SetSingleshotTimer { vcpu: V0, deadline: Some(10) }, Ok(())),
        action(D2, Action::SetPeriodicTimer { vcpu: V0, period_ns: Some(1) }, Err(OpError::Invalid)),
        action(D2, Action::DeadlinePassed { vcpu: V0, now: 20, due: true }, Ok(())),
        action(D2, Action::RaiseVirq { virq, vcpu: V0, bound: false }, Ok(())),
        action(D2, Action::Block { vcpu: V0, sleeps: true }, Ok(())),
    ];
    assert_eq!(take(&engine), expected);
}
