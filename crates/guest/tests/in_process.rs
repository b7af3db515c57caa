// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine in the same process as a guest's hypervisor.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use evtchn_abi::args::{PhysdevIrqStatusQuery, StatusKind};
use evtchn_abi::{
    CallbackVia, DomId, Errno, Gfn, HvmParam, Layout, Op, Pirq, Port, Priority, VcpuId, Virq, args::Close,
};
use evtchn_engine::test_utils::page;
use evtchn_engine::{DomainConfig, DomainKind, Engine, Hooks, PirqStatus, Upcall};
use evtchn_guest::{
    Answer, Event, Events, Frames, Hypercall, InProcess, Recording, Settings, Table, TwoLevel, TwoLevelVcpu,
    WithClock,
};
use evtchn_sync::{HeapPage, Page};

const GUEST: DomId = DomId(1);
const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);
const NEVER: VcpuId = VcpuId(9);

/// A machine whose every frame is memory.
#[derive(Default)]
struct Machine {
    preempts: AtomicBool,
    deadline: AtomicU64,
    ended: AtomicU64,
}

impl Hooks for Machine {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, _: DomId, gfn: Gfn) -> Option<Arc<HeapPage>> {
        (gfn.0 < 0x100).then(page)
    }

    fn preempt(&self, _: DomId) -> bool {
        self.preempts.load(SeqCst)
    }

    fn set_deadline(&self, _: DomId, _: VcpuId, deadline: Option<u64>) {
        self.deadline.store(deadline.unwrap_or(u64::MAX), SeqCst);
    }

    fn pirq_status(&self, _: DomId, pirq: Pirq) -> PirqStatus {
        let mut status = PirqStatus::default();
        (status.needs_eoi, status.shared) = (pirq.0 & 1 != 0, pirq.0 & 2 != 0);
        status
    }

    fn pirq_eoi(&self, _: DomId, pirq: Pirq) -> bool {
        self.ended.store(pirq.0.into(), SeqCst);
        false
    }
}

fn machine(kind: DomainKind) -> (Engine<Machine>, Arc<HeapPage>) {
    let engine = Engine::new(Machine::default());
    engine.create_domain(GUEST, DomainConfig { kind, nr_pirqs: 16, ..DomainConfig::guest(2) }).unwrap();
    let shared = page();
    engine.set_shared_info(GUEST, Some(shared.clone())).unwrap();
    (engine, shared)
}

/// Everything that a guest can ask, wrong things too; the answers as text.
fn everything(xen: &dyn Hypercall) -> Vec<String> {
    let answers = RefCell::new(Vec::new());
    let note = |answer: &dyn std::fmt::Debug| answers.borrow_mut().push(format!("{answer:?}"));
    note(&xen.alloc_unbound(DomId::SELF, GUEST));
    note(&xen.alloc_unbound(DomId(7), GUEST));
    note(&xen.bind_interdomain(DomId::SELF, Port(1)));
    note(&xen.bind_interdomain(DomId::SELF, Port(1)));
    note(&xen.bind_virq(Virq(0), V1));
    note(&xen.bind_virq(Virq(0), V1));
    note(&xen.bind_virq(Virq(0), NEVER));
    note(&xen.bind_pirq(Pirq(3), 0));
    note(&xen.bind_pirq(Pirq(u32::MAX), 0));
    note(&xen.bind_ipi(V1));
    note(&xen.bind_ipi(NEVER));
    for port in (0..6).map(Port) {
        note(&xen.status(DomId::SELF, port));
    }
    note(&xen.status(DomId::SELF, Port(64)));
    note(&xen.bind_vcpu(Port(1), V1));
    note(&xen.bind_vcpu(Port(5), V0));
    note(&xen.send(Port(1)));
    note(&xen.send(Port(3)));
    note(&xen.unmask(Port(1)));
    note(&xen.unmask(Port(4096)));
    note(&xen.expand_array(Gfn(2)));
    note(&xen.set_priority(Port(1), Priority(3)));
    note(&xen.init_control(V0, Gfn(1), 0));
    note(&xen.init_control(V0, Gfn(1), 0));
    note(&xen.init_control(NEVER, Gfn(1), 0));
    note(&xen.expand_array(Gfn(2)));
    note(&xen.expand_array(Gfn(0x200)));
    note(&xen.set_priority(Port(1), Priority(3)));
    note(&xen.set_priority(Port(1), Priority(16)));
    note(&xen.close(Port(1)));
    note(&xen.close(Port(1)));
    note(&xen.reset_cont(DomId::SELF));
    note(&xen.reset(DomId::SELF));
    note(&xen.reset(DomId(7)));
    note(&xen.yield_now());
    note(&xen.block());
    note(&xen.poll(&[], None));
    note(&xen.poll(&[Port(9)], None));
    note(&xen.poll(&[Port(0); 129], None));
    note(&xen.shutdown(0));
    note(&xen.register_vcpu_info(V1, Gfn(3), 64));
    note(&xen.register_vcpu_info(V1, Gfn(3), 64));
    note(&xen.register_vcpu_info(NEVER, Gfn(3), 64));
    note(&xen.set_periodic_timer(V1, 1_000_000));
    note(&xen.set_periodic_timer(V1, 999_999));
    note(&xen.set_periodic_timer(NEVER, 999_999));
    note(&xen.stop_periodic_timer(V1));
    note(&xen.stop_periodic_timer(NEVER));
    note(&xen.set_singleshot_timer(V0, 7));
    note(&xen.set_singleshot_timer(V1, 7));
    note(&xen.set_singleshot_timer(NEVER, 7));
    note(&xen.stop_singleshot_timer(V0));
    note(&xen.stop_singleshot_timer(V1));
    note(&xen.vcpu_is_up(V0));
    note(&xen.set_callback(CallbackVia::Vector(0xf3)));
    note(&xen.hvm_param(HvmParam::CALLBACK_IRQ));
    note(&xen.hvm_param(HvmParam::STORE_PFN));
    note(&xen.set_upcall_vector(V1, 0xf3));
    note(&xen.set_upcall_vector(V1, 15));
    note(&xen.set_upcall_vector(NEVER, 0xf3));
    note(&xen.pirq_status(Pirq(1)));
    note(&xen.pirq_status(Pirq(u32::MAX)));
    note(&xen.pirq_eoi(Pirq(2)));
    note(&xen.pirq_eoi(Pirq(u32::MAX)));
    note(&xen.set_pirq_eoi_page(Gfn(1), true));
    note(&xen.set_timer_op(NonZeroU64::new(5)));
    note(&xen.set_timer_op(None));
    answers.into_inner()
}

#[test]
fn the_typed_door_answers_as_the_raw_one() {
    for kind in [DomainKind::Pv, DomainKind::Hvm] {
        let [typed, raw] = [machine(kind).0, machine(kind).0];
        let typed = everything(&InProcess::new(&typed, GUEST, V0));
        // What is recorded goes by the raw functions.
        let raw = everything(&Recording::new(InProcess::new(&raw, GUEST, V0), |_| ()));
        assert_eq!(typed, raw);
    }
}

#[test]
fn with_a_clock_it_answers_as_without() {
    let [bare, clocked] = [(); 2].map(|()| machine(DomainKind::Hvm).0);
    let bare = everything(&InProcess::new(&bare, GUEST, V0));
    let clocked = WithClock::new(InProcess::new(&clocked, GUEST, V0), || 0, |_: VcpuId, _: u64| {});
    assert_eq!(everything(&clocked), bare);
}

#[test]
fn a_delay_is_measured_and_asked_for_by_the_clock() {
    let (engine, shared) = machine(DomainKind::Pv);
    let (now, asked) = (Cell::new(1_000), RefCell::new(Vec::new()));
    let kernel = WithClock::new(
        InProcess::new(&engine, GUEST, V0),
        || now.get(),
        |vcpu: VcpuId, deadline| asked.borrow_mut().push((vcpu, deadline)),
    );
    let calls = Cell::new(0);
    let handler = |_: &Event<'_>| {
        calls.set(calls.get() + 1);
        Answer::Spurious
    };
    let memory = Frames::<_, [_; 0]>::two_level(shared, &Layout::X86_64);
    let abi = TwoLevel::new(memory, [TwoLevelVcpu::new()]);
    let guest = Events::new(abi, kernel, Table::<_, 2, 64, 1>::new());
    guest.start();
    guest.online(V0).unwrap();
    let channel = guest.bind_ipi(Settings::on(V0).late_eoi(), handler).unwrap();
    // Each event is for nothing, until that is too much.
    while asked.borrow().is_empty() {
        guest.notify(channel).unwrap();
        let _ = guest.upcall(V0);
        assert!(calls.get() < 100);
    }
    let before = calls.get();
    let (vcpu, deadline) = asked.borrow()[0];
    assert!(vcpu == V0 && deadline > 1_000);
    guest.notify(channel).unwrap();
    for (time, handled) in [(deadline - 1, before), (deadline, before + 1)] {
        now.set(time);
        guest.expire(V0);
        let _ = guest.upcall(V0);
        assert_eq!(calls.get(), handled);
    }
}

#[test]
fn a_caller_that_does_not_exist_is_refused_by_both_doors() {
    let (engine, _) = machine(DomainKind::Pv);
    for (domain, error) in [(DomId(7), Errno::ESRCH), (GUEST, Errno::ENOENT)] {
        let xen = InProcess::new(&engine, domain, NEVER);
        assert_eq!(xen.block(), Err(error));
        assert_eq!(xen.poll(&[], None), Err(error));
        assert_eq!(xen.set_timer_op(None), Err(error));
        assert_eq!(Recording::new(&xen, |_| ()).block(), Err(error));
    }
}

#[test]
fn an_argument_that_is_too_short_cannot_be_read() {
    let (engine, _) = machine(DomainKind::Pv);
    let xen = InProcess::new(&engine, GUEST, V0);
    assert_eq!(xen.event_channel_op(Op::CLOSE, &mut [0; 3]), Err(Errno::EFAULT));
    let mut close = Close { port: Port(1) }.to_bytes();
    assert_eq!(xen.event_channel_op(Op(15), &mut close), Err(Errno::ENOSYS));
}

#[test]
fn a_vcpu_that_is_to_sleep_waits_until_the_event() {
    let (engine, shared) = machine(DomainKind::Pv);
    let port = engine.bind_ipi(GUEST, V0).unwrap();
    // Masked, so that there is an event to poll for and no upcall.
    shared.u64(2560).unwrap().store(u64::MAX, SeqCst);
    let waits = RefCell::new(Vec::new());
    let xen = InProcess::new(&engine, GUEST, V0).with_wait(|deadline| {
        assert!(engine.is_polling(GUEST, V0));
        waits.borrow_mut().push(deadline);
        engine.send(GUEST, port).unwrap();
    });
    let deadline = NonZeroU64::new(77);
    assert_eq!(xen.poll(&[port], deadline), Ok(()));
    assert_eq!(xen.poll(&[port], deadline), Ok(())); // pending already: does not wait
    assert_eq!(*waits.borrow(), [deadline]);
    assert!(!engine.is_polling(GUEST, V0));
}

#[test]
fn a_poll_is_over_when_the_wait_is() {
    let (engine, _) = machine(DomainKind::Pv);
    let port = engine.bind_ipi(GUEST, V0).unwrap();
    let xen = InProcess::new(&engine, GUEST, V0);
    assert_eq!(xen.poll(&[port], None), Ok(()));
    assert!(!engine.is_polling(GUEST, V0));
}

#[test]
fn a_block_waits_unless_an_upcall_is_there() {
    let (engine, shared) = machine(DomainKind::Pv);
    let port = engine.bind_ipi(GUEST, V0).unwrap();
    let waits = AtomicU64::new(0);
    let xen = InProcess::new(&engine, GUEST, V0).with_wait(|deadline| {
        assert_eq!(deadline, None);
        waits.fetch_add(1, SeqCst);
    });
    shared.u8(1).unwrap().store(1, SeqCst); // upcalls are masked: block lets them in
    xen.block().unwrap();
    assert_eq!((waits.load(SeqCst), shared.u8(1).unwrap().load(SeqCst)), (1, 0));
    engine.send(GUEST, port).unwrap();
    xen.block().unwrap();
    assert_eq!(waits.load(SeqCst), 1);
}

#[test]
fn a_reset_that_gives_way_is_brought_to_its_end() {
    for raw in [false, true] {
        let (engine, _) = machine(DomainKind::Pv);
        engine.hooks().preempts.store(true, SeqCst);
        let xen = InProcess::new(&engine, GUEST, V0);
        (0..300).for_each(|_| assert!(xen.bind_ipi(V0).is_ok()));
        let mut arg = DomId::SELF.0.to_le_bytes();
        match raw {
            false => xen.reset(DomId::SELF).unwrap(),
            true => xen.event_channel_op(Op::RESET, &mut arg).unwrap(),
        }
        for port in (1..300).map(Port) {
            assert_eq!(xen.status(DomId::SELF, port).unwrap().kind(), Some(StatusKind::Closed));
        }
        assert_eq!(xen.reset_cont(DomId::SELF), Err(Errno::EBUSY));
    }
}

#[test]
fn timers_and_pirqs_are_those_of_the_engine() {
    let (engine, _) = machine(DomainKind::Hvm);
    let xen = InProcess::new(&engine, GUEST, V0);
    let deadline = || engine.hooks().deadline.load(SeqCst);
    xen.set_timer_op(NonZeroU64::new(500)).unwrap();
    assert_eq!(deadline(), 500);
    xen.set_timer_op(None).unwrap();
    assert_eq!(deadline(), u64::MAX);
    xen.set_timer_op(NonZeroU64::new(u64::MAX)).unwrap(); // negative: has passed
    assert_eq!(deadline(), 0);
    xen.set_singleshot_timer(V0, 600).unwrap();
    assert_eq!(deadline(), 600);

    assert_eq!(xen.pirq_status(Pirq(1)).unwrap().flags, PhysdevIrqStatusQuery::NEEDS_EOI);
    assert_eq!(xen.pirq_status(Pirq(2)).unwrap().flags, PhysdevIrqStatusQuery::SHARED);
    xen.pirq_eoi(Pirq(6)).unwrap();
    assert_eq!(engine.hooks().ended.load(SeqCst), 6);
}

#[test]
fn the_engine_can_be_owned() {
    let engine = Arc::new(machine(DomainKind::Pv).0);
    let xen = InProcess::new(engine.clone(), GUEST, V1);
    let port = xen.bind_ipi(V1).unwrap();
    assert_eq!((xen.domain(), xen.vcpu()), (GUEST, V1));
    assert_eq!(xen.engine().status(GUEST, GUEST, port).unwrap().kind, StatusKind::Ipi);
}
