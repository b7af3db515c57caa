// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs on two machines, one of which was saved and restored on the way: the same from then on, down to
//! the last byte of memory.
#![allow(missing_docs)]

mod common;

use common::state::{Machine, VCPUS, configs};
use evtchn_abi::{DomId, Pirq, Port, VcpuId, Virq};
use evtchn_engine::{Consumer, MachineState};
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
    /// Saved, moved, and gone on with.
    Migrate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let dom = || (0..3u16).prop_map(DomId);
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
        let mut stayed = Machine::new(&configs());
        let mut moved = Machine::new(&configs());
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
