// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs on two machines, one of which was saved and restored on the way: the same from then on, down to
//! the last byte of memory.
#![allow(missing_docs)]

mod common;

use common::state::{Machine, VCPUS, configs};
use evtchn_abi::{CallbackVia, DomId, Pirq, Port, VcpuId, Virq};
use evtchn_engine::{Consumer, Delivery, DomainConfig, DomainKind, MachineState};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc(DomId, DomId),
    Bind(DomId, DomId, Port),
    Ipi(DomId, u32),
    Virq(DomId, Virq, u32),
    Pirq(DomId, Pirq),
    Consumer(DomId, DomId),
    Close(DomId, Port),
    FreeConsumer(DomId, Port),
    Send(DomId, Port),
    Raise(DomId, Virq, u32),
    Line(DomId, Pirq),
    Notify(DomId, Port),
    Move(DomId, Port, u32),
    Priority(DomId, Port, u32),
    Mask(DomId, Port),
    Unmask(DomId, Port),
    Handler(Virq, DomId),
    InitControl(DomId, u32),
    Expand(DomId),
    Reset(DomId),
    Take(DomId, u32),
    Register(DomId, u32),
    Once(DomId, u32, Option<u64>),
    Period(DomId, u32, Option<u64>),
    Passed(DomId, u32, u64),
    Callback(DomId, CallbackVia),
    Vector(DomId, u32, u8),
    AutoUnmask(DomId, bool),
    Eoi(DomId, Pirq),
    SuspendPort(DomId, Port),
    Suspended(DomId),
    /// Saved, moved, and gone on with.
    Migrate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let dom = || prop_oneof![9 => 0..3u16, 1 => Just(3)].prop_map(DomId);
    let port = || prop_oneof![9 => 1..12u32, 1 => 60..68u32].prop_map(Port);
    let vcpu = || 0..VCPUS;
    let pirq = || (0..3u32).prop_map(Pirq);
    let virq =
        || prop::sample::select(vec![Virq::TIMER, Virq::DEBUG, Virq::CONSOLE, Virq::DOM_EXC, Virq::ARGO]);
    let step = prop_oneof![
        4 => (dom(), dom()).prop_map(|(d, r)| Step::Alloc(d, r)),
        6 => (dom(), dom(), port()).prop_map(|(d, r, p)| Step::Bind(d, r, p)),
        1 => (dom(), vcpu()).prop_map(|(d, v)| Step::Ipi(d, v)),
        2 => (dom(), virq(), vcpu()).prop_map(|(d, n, v)| Step::Virq(d, n, v)),
        1 => (dom(), pirq()).prop_map(|(d, n)| Step::Pirq(d, n)),
        1 => (dom(), dom()).prop_map(|(d, r)| Step::Consumer(d, r)),
        2 => (dom(), port()).prop_map(|(d, p)| Step::Close(d, p)),
        1 => (dom(), port()).prop_map(|(d, p)| Step::FreeConsumer(d, p)),
        8 => (dom(), port()).prop_map(|(d, p)| Step::Send(d, p)),
        2 => (dom(), virq(), vcpu()).prop_map(|(d, n, v)| Step::Raise(d, n, v)),
        1 => (dom(), pirq()).prop_map(|(d, n)| Step::Line(d, n)),
        1 => (dom(), port()).prop_map(|(d, p)| Step::Notify(d, p)),
        2 => (dom(), port(), vcpu()).prop_map(|(d, p, v)| Step::Move(d, p, v)),
        2 => (dom(), port(), prop::sample::select(vec![0, 7, 15])).prop_map(|(d, p, n)| Step::Priority(d, p, n)),
        1 => (dom(), port()).prop_map(|(d, p)| Step::Mask(d, p)),
        2 => (dom(), port()).prop_map(|(d, p)| Step::Unmask(d, p)),
        1 => (virq(), dom()).prop_map(|(n, d)| Step::Handler(n, d)),
        2 => (dom(), vcpu()).prop_map(|(d, v)| Step::InitControl(d, v)),
        1 => dom().prop_map(Step::Expand),
        1 => dom().prop_map(Step::Reset),
        6 => (dom(), vcpu()).prop_map(|(d, v)| Step::Take(d, v)),
        1 => (dom(), vcpu()).prop_map(|(d, v)| Step::Register(d, v)),
        2 => timer(),
        2 => upcalls(),
        1 => (dom(), any::<bool>()).prop_map(|(d, on)| Step::AutoUnmask(d, on)),
        1 => (dom(), pirq()).prop_map(|(d, n)| Step::Eoi(d, n)),
        1 => (dom(), port()).prop_map(|(d, p)| Step::SuspendPort(d, p)),
        1 => dom().prop_map(Step::Suspended),
        2 => Just(Step::Migrate),
    ];
    let fifo = prop::collection::vec((dom(), vcpu()), 0..4);
    let begin = fifo.prop_map(|fifo| {
        fifo.into_iter().flat_map(|(d, v)| [Step::InitControl(d, v), Step::Expand(d)]).collect::<Vec<_>>()
    });
    (begin, prop::collection::vec(step, 1..150)).prop_map(|(mut begin, steps)| {
        begin.extend(steps);
        begin
    })
}

fn timer() -> impl Strategy<Value = Step> {
    let vcpu = || ((0..4u16).prop_map(DomId), 0..VCPUS);
    let time = || (0..20u64).prop_map(|ms| ms * 1_000_000);
    let maybe = || prop::option::of(time());
    prop_oneof![
        1 => (vcpu(), maybe()).prop_map(|((d, v), t)| Step::Once(d, v, t)),
        1 => (vcpu(), maybe()).prop_map(|((d, v), t)| Step::Period(d, v, t)),
        2 => (vcpu(), time()).prop_map(|((d, v), t)| Step::Passed(d, v, t)),
    ]
}

fn upcalls() -> impl Strategy<Value = Step> {
    let dom = || (0..4u16).prop_map(DomId);
    let via = prop::sample::select(vec![
        CallbackVia::None,
        CallbackVia::Gsi(9),
        CallbackVia::Gsi(200),
        CallbackVia::PciIntx { device: 3, pin: 1 },
        CallbackVia::Vector(0xf3),
    ]);
    prop_oneof![
        (dom(), via).prop_map(|(d, via)| Step::Callback(d, via)),
        (dom(), 0..VCPUS, 0..64u8).prop_map(|(d, v, vector)| Step::Vector(d, v, vector)),
    ]
}

/// Domain 0 and two guests, one of them hardware-assisted, and a sink.
fn machine() -> Machine {
    let mut configs = configs();
    configs[2].kind = DomainKind::Hvm;
    configs.push(DomainConfig { delivery: Delivery::Sink, ..DomainConfig::guest(VCPUS) });
    Machine::new(&configs)
}

fn run(machine: &mut Machine, step: Step) -> String {
    let engine = &machine.engine;
    match step {
        Step::Alloc(dom, remote) => format!("{:?}", engine.alloc_unbound(dom, DomId::SELF, remote)),
        Step::Bind(dom, remote, port) => format!("{:?}", engine.bind_interdomain(dom, remote, port)),
        Step::Ipi(dom, vcpu) => format!("{:?}", engine.bind_ipi(dom, VcpuId(vcpu))),
        Step::Virq(dom, virq, vcpu) => format!("{:?}", engine.bind_virq(dom, virq, VcpuId(vcpu))),
        Step::Pirq(dom, pirq) => format!("{:?}", engine.bind_pirq(dom, pirq, pirq.0 % 2)),
        Step::Consumer(dom, remote) => {
            let consumer = Consumer::new(1 + u8::try_from(remote.0).unwrap()).unwrap();
            format!("{:?}", engine.alloc_consumer(dom, dom, VcpuId(1), remote, consumer))
        }
        Step::Close(dom, port) => format!("{:?}", engine.close(dom, port)),
        Step::FreeConsumer(dom, port) => format!("{:?}", engine.free_consumer(dom, port)),
        Step::Send(dom, port) => format!("{:?}", engine.send(dom, port)),
        Step::Raise(dom, virq, vcpu) => format!("{:?}", engine.raise_virq(dom, VcpuId(vcpu), virq)),
        Step::Line(dom, pirq) => format!("{:?}", engine.raise_pirq(dom, pirq)),
        Step::Notify(dom, port) => format!("{:?}", engine.notify_consumer(dom, port)),
        Step::Move(dom, port, vcpu) => format!("{:?}", engine.bind_vcpu(dom, port, VcpuId(vcpu))),
        Step::Priority(dom, port, priority) => format!("{:?}", engine.set_priority(dom, port, priority)),
        Step::Unmask(dom, port) => format!("{:?}", engine.unmask(dom, port)),
        Step::Handler(virq, dom) => format!("{:?}", engine.set_virq_handler(virq, dom)),
        Step::Register(dom, vcpu) => format!("{:?}", machine.register(dom, vcpu)),
        Step::Once(dom, vcpu, deadline) => {
            format!("{:?}", engine.set_singleshot_timer(dom, VcpuId(vcpu), deadline))
        }
        Step::Period(dom, vcpu, period) => {
            format!("{:?}", engine.set_periodic_timer(dom, VcpuId(vcpu), period))
        }
        Step::Passed(dom, vcpu, now) => format!("{:?}", engine.deadline_passed(dom, VcpuId(vcpu), now)),
        Step::Callback(dom, via) => format!("{:?}", engine.set_callback(dom, via)),
        Step::Vector(dom, vcpu, vector) => {
            format!("{:?}", engine.set_upcall_vector(dom, VcpuId(vcpu), vector))
        }
        Step::AutoUnmask(dom, on) => format!("{:?}", engine.set_auto_unmask(dom, on)),
        Step::Eoi(dom, pirq) => format!("{:?}", engine.pirq_eoi(dom, pirq)),
        Step::SuspendPort(dom, port) => format!("{:?}", engine.set_suspend_port(dom, port)),
        Step::Suspended(dom) => format!("{:?}", engine.suspended(dom)),
        Step::Mask(dom, port) => {
            machine.mask(dom, port);
            String::new()
        }
        Step::InitControl(dom, vcpu) => machine.init_control(dom, vcpu),
        Step::Expand(dom) => machine.expand_array(dom),
        Step::Reset(dom) => machine.reset(dom),
        Step::Take(dom, vcpu) if machine.guest(dom).controls.contains(&vcpu) => {
            format!("{:?}", machine.take_fifo(dom, vcpu))
        }
        Step::Take(dom, _) if machine.uses_fifo(dom) => String::new(),
        Step::Take(dom, vcpu) => format!("{:?}", machine.take_bits(dom, vcpu)),
        Step::Migrate => String::new(),
    }
}

/// By way of a format without names, and one with.
fn stored(state: &MachineState) -> MachineState {
    let state: MachineState = postcard::from_bytes(&postcard::to_allocvec(state).unwrap()).unwrap();
    serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap()
}

/// What restoring says again is all that differs: selectors and upcalls that are set, and HEADs of queues with nothing on.
fn only_announcements(before: &Machine, after: &Machine) {
    let shared = before.shared.iter().zip(&after.shared);
    for (old, new) in shared {
        use evtchn_sync::Page;
        for at in (0..4096).step_by(8) {
            let word = |page: &evtchn_sync::HeapPage| {
                page.u64(at).unwrap().load(std::sync::atomic::Ordering::SeqCst)
            };
            let (old, new) = (word(old), word(new));
            let may_grow = at < 64 * VCPUS as usize && (at % 64 == 0 || at % 64 == 8);
            assert!(old == new || may_grow && old & new == old, "offset {at}: {old:#x}, {new:#x}");
        }
    }
    assert_eq!(
        before.dumps().concat().iter().map(no_selector).collect::<Vec<_>>(),
        after.dumps().concat().iter().map(no_selector).collect::<Vec<_>>()
    );
}

fn no_selector(row: &evtchn_engine::DumpRow) -> evtchn_engine::DumpRow {
    match row.link {
        evtchn_engine::Link::Selector(_) => {
            evtchn_engine::DumpRow { link: evtchn_engine::Link::Selector(false), ..*row }
        }
        _ => *row,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(120) })]

    #[test]
    fn a_machine_that_was_moved_goes_on_as_it_would_have(steps in steps()) {
        let mut stayed = machine();
        let mut moved = machine();
        for step in steps {
            prop_assert_eq!(run(&mut stayed, step), run(&mut moved, step), "{:?}", step);
            if matches!(step, Step::Migrate) {
                let state = moved.engine.save().unwrap();
                prop_assert_eq!(&state, &stored(&state));
                moved = moved.moved(&state);
                only_announcements(&stayed, &moved);
                // The one that stayed sees the announcements, too.
                stayed.copy_memory(&moved);
                moved.calls();
                let again = moved.engine.save().unwrap();
                prop_assert_eq!(state, again);
            }
            prop_assert_eq!(stayed.calls(), moved.calls(), "{:?}", step);
            prop_assert_eq!(stayed.dumps(), moved.dumps(), "{:?}", step);
            prop_assert_eq!(stayed.announcements(), moved.announcements(), "{:?}", step);
            moved.engine.validate().unwrap();
        }
        prop_assert!(stayed.words() == moved.words());
    }
}
