// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains without pages: every event is a call.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;

use common::{D1, V0, delivered};
use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Gfn, Pirq, Port, VcpuId, Virq};
use evtchn_engine::test_utils::{Call, Recorder, page};
use evtchn_engine::{
    Consumer, Delivery, DomainConfig, Engine, Hooks, Level, OpError, PollOutcome, ResetOutcome, Upcall,
};
use evtchn_sync::HeapPage;

const VMM: DomId = DomId(7);

fn sink() -> DomainConfig {
    DomainConfig { delivery: Delivery::Sink, nr_pirqs: 4, ..DomainConfig::guest(4) }
}

/// Domain 7 is a sink, domain 1 an ordinary guest.
struct Env(common::TestEnv);

impl Env {
    fn new() -> Self {
        let env = common::TestEnv::at(Level::Current);
        env.engine.create_domain(VMM, sink()).unwrap();
        Self(env)
    }

    fn engine(&self) -> &Engine<Recorder> {
        &self.0.engine
    }

    /// A port of the sink and the one of domain 1 that it is connected to.
    fn pair(&self) -> (Port, Port) {
        let near = self.engine().alloc_unbound(VMM, DomId::SELF, D1).unwrap();
        let far = self.engine().bind_interdomain(D1, VMM, near).unwrap();
        self.0.quiet(D1);
        (near, far)
    }

    fn calls(&self) -> Vec<Call> {
        self.0.calls()
    }
}

#[test]
fn each_send_is_one_call_and_none_merge() {
    let env = Env::new();
    let (near, far) = env.pair();
    env.engine().bind_vcpu(VMM, near, VcpuId(3)).unwrap();
    for _ in 0..3 {
        env.engine().send(D1, far).unwrap();
    }
    assert_eq!(env.calls(), [Call::Sink(VMM, near, VcpuId(3)); 3]);
}

#[test]
fn a_sink_signals_guests_as_any_domain_does() {
    let env = Env::new();
    let (near, far) = env.pair();
    env.engine().send(VMM, near).unwrap();
    assert!(env.0.pending(D1, far));
    assert_eq!(env.calls(), [delivered(D1, 0)]);
}

#[test]
fn all_that_raises_a_port_comes_to_the_callback() {
    let env = Env::new();
    let engine = env.engine();
    let ipi = engine.bind_ipi(VMM, VcpuId(2)).unwrap();
    let timer = engine.bind_virq(VMM, Virq::TIMER, VcpuId(1)).unwrap();
    let line = engine.bind_pirq(VMM, Pirq(3), 0).unwrap();
    engine.send(VMM, ipi).unwrap();
    assert_eq!(engine.raise_virq(VMM, VcpuId(1), Virq::TIMER), Ok(true));
    assert_eq!(engine.raise_pirq(VMM, Pirq(3)), Ok(true));
    let waiting = engine.alloc_unbound(D1, DomId::SELF, VMM).unwrap();
    let bound = engine.bind_interdomain(VMM, D1, waiting).unwrap();
    let events = [(ipi, 2), (timer, 1), (line, 0), (bound, 0)];
    assert_eq!(env.calls(), events.map(|(port, vcpu)| Call::Sink(VMM, port, VcpuId(vcpu))));
}

#[test]
fn the_embedders_consumers_signal_sinks_and_sinks_signal_them() {
    let env = Env::new();
    let consumer = Consumer::new(2).unwrap();
    let port = env.engine().alloc_consumer(common::D0, D1, V0, VMM, consumer).unwrap();
    let far = env.engine().bind_interdomain(VMM, D1, port).unwrap();
    env.calls();
    env.engine().notify_consumer(D1, port).unwrap();
    env.engine().send(VMM, far).unwrap();
    assert_eq!(env.calls(), [Call::Sink(VMM, far, V0), Call::Consumer(consumer, D1, V0, port)]);
}

#[test]
fn nothing_is_ever_pending() {
    let env = Env::new();
    let (near, far) = env.pair();
    env.engine().send(D1, far).unwrap();
    env.calls();
    assert_eq!(env.engine().unmask(VMM, near), Ok(()));
    assert_eq!(env.calls(), []);
    let row = env.engine().debug_dump(VMM).unwrap()[0];
    assert!(!row.pending && row.port == near);
    let status = env.engine().status(VMM, DomId::SELF, near).unwrap();
    assert_eq!(status.kind, StatusKind::Interdomain { dom: D1, port: far });
}

#[test]
fn a_poll_waits_for_the_next_event() {
    let env = Env::new();
    let (near, far) = env.pair();
    env.engine().send(D1, far).unwrap();
    assert_eq!(env.engine().sched_poll(VMM, VcpuId(1), &[near]), Ok(PollOutcome::Sleep));
    env.calls();
    env.engine().send(D1, far).unwrap();
    assert_eq!(env.calls(), [Call::Sink(VMM, near, V0), Call::WakePoller(VMM, VcpuId(1))]);
    assert!(!env.engine().is_polling(VMM, VcpuId(1)));
}

#[test]
fn pages_are_refused() {
    let env = Env::new();
    let engine = env.engine();
    let _frame = engine.hooks().frame(VMM, Gfn(1));
    assert_eq!(engine.set_shared_info(VMM, Some(page())).err(), Some(OpError::NotSupported));
    assert!(engine.set_shared_info(VMM, None).is_ok());
    assert_eq!(engine.init_control(VMM, V0, Gfn(1), 0), Err(OpError::NotSupported));
    assert_eq!(engine.register_vcpu_info(VMM, V0, Gfn(1), 0), Err(OpError::NotSupported));
    assert_eq!(engine.expand_array(VMM, Gfn(1)), Err(OpError::NotSupported));
    let (near, far) = env.pair();
    assert_eq!(engine.set_priority(VMM, near, 1), Err(OpError::NotImplemented), "as with two-level");
    engine.send(D1, far).unwrap();
    assert_eq!(env.calls(), [Call::Sink(VMM, near, V0)]);
}

#[test]
fn a_sink_has_room_for_all_ports_and_respects_its_limit() {
    let engine = Engine::new(Recorder::default());
    engine.create_domain(VMM, DomainConfig { max_port: None, ..sink() }).unwrap();
    engine.create_domain(D1, DomainConfig { max_port: Some(5), ..sink() }).unwrap();
    let fill = |id| (0..).take_while(|_| engine.bind_ipi(id, V0).is_ok()).count();
    assert_eq!((fill(VMM), fill(D1)), (131_071, 5));
    let last = Port(131_071);
    engine.send(VMM, last).unwrap();
    assert_eq!(engine.hooks().take(), [Call::Sink(VMM, last, V0)]);
}

#[test]
fn a_closed_port_calls_no_more_and_a_reset_closes_all() {
    let env = Env::new();
    let (near, far) = env.pair();
    env.engine().close(VMM, near).unwrap();
    env.engine().send(D1, far).unwrap();
    assert_eq!(env.calls(), []);
    env.engine().bind_ipi(VMM, V0).unwrap();
    assert_eq!(env.engine().reset(VMM, DomId::SELF), Ok(ResetOutcome::Done));
    assert_eq!(env.engine().ports_in_use(VMM), Ok((0, 0)));
    assert!(env.engine().destroy_domain(VMM).unwrap().is_none());
}

/// Counts events.
#[derive(Default)]
struct Counter(AtomicU32);

impl Hooks for Counter {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn sink_event(&self, _: DomId, _: Port, _: VcpuId) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn threads_that_signal_at_once_are_all_heard() {
    const EACH: u32 = 20_000;
    let engine = Engine::new(Counter::default());
    engine.create_domain(VMM, sink()).unwrap();
    engine.create_domain(D1, sink()).unwrap();
    let near = engine.alloc_unbound(VMM, DomId::SELF, D1).unwrap();
    let far = engine.bind_interdomain(D1, VMM, near).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                let port = engine.alloc_unbound(VMM, DomId::SELF, D1).unwrap();
                engine.close(VMM, port).unwrap();
            }
        });
        let senders =
            [0, 1, 2].map(|_| scope.spawn(|| (0..EACH).for_each(|_| engine.send(D1, far).unwrap())));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        stop.store(true, SeqCst);
    });
    assert_eq!(engine.hooks().0.load(SeqCst), 3 * EACH + 1, "and one for the binding");
    engine.validate().unwrap();
}

/// Closes each port that is raised.
#[derive(Default)]
struct OneShot(OnceLock<Weak<Engine<Self>>>);

impl Hooks for OneShot {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn sink_event(&self, domain: DomId, port: Port, _: VcpuId) {
        let engine = self.0.get().and_then(Weak::upgrade).unwrap();
        engine.close(domain, port).unwrap();
        drop(engine.set_shared_info(domain, None)); // waits for readers: there must be none on this thread
    }
}

#[test]
fn the_callback_may_call_the_engine() {
    let engine = Arc::new(Engine::new(OneShot::default()));
    engine.hooks().0.set(Arc::downgrade(&engine)).unwrap();
    engine.create_domain(VMM, sink()).unwrap();
    let ipi = engine.bind_ipi(VMM, V0).unwrap();
    engine.send(VMM, ipi).unwrap();
    assert_eq!(engine.ports_in_use(VMM), Ok((0, 0)));
    engine.bind_virq(VMM, Virq::TIMER, V0).unwrap();
    assert_eq!(engine.raise_virq(VMM, V0, Virq::TIMER), Ok(true));
    assert_eq!(engine.ports_in_use(VMM), Ok((0, 0)));
}

#[test]
fn the_callback_may_call_the_engine_while_a_port_is_bound() {
    let engine = Arc::new(Engine::new(OneShot::default()));
    engine.hooks().0.set(Arc::downgrade(&engine)).unwrap();
    engine.create_domain(VMM, sink()).unwrap();
    engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
    let far = engine.alloc_unbound(D1, DomId::SELF, VMM).unwrap();
    engine.bind_interdomain(VMM, D1, far).unwrap(); // raises the near end
    assert_eq!((engine.ports_in_use(VMM), engine.ports_in_use(D1)), (Ok((0, 0)), Ok((1, 0))));
}
