// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving and restoring what is not ports: vcpu_infos, callbacks and vectors, timers, sinks, routes, teardown.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use common::memory::{AT, DONE, Memory};
use common::state::{INFO, Machine, OFFSET, configs, control};
use common::{D0, D1, D2, V0, delivered};
use evtchn_abi::{CallbackPpi, CallbackVia, DomId, Gfn, Hypercall, Pirq, Port, VcpuId, Virq};
use evtchn_abi::{HvmOp, HvmParam, args::HvmParamValue};
use evtchn_engine::state::{
    CallbackState, DeliveryState, DomainError, KindState, TimersState, VcpuInfoState, VcpuState, ViaState,
};
use evtchn_engine::test_utils::{Call, Recorder, page};
use evtchn_engine::{
    Callback, Delivery, DomainConfig, DomainKind, DomainState, Engine, Hooks, Level, MachineState,
    OffloadRoute, OpError, RestoreError, TeardownOutcome, Upcall, VcpuInfoPlace, Width,
};
use evtchn_sync::{HeapPage, Page};

const V1: VcpuId = VcpuId(1);
const V2: VcpuId = VcpuId(2);
const MS: u64 = 1_000_000;

/// The three domains, of which 2 is hardware-assisted, and a sink.
fn machine() -> Machine {
    let mut configs = configs();
    configs[2].kind = DomainKind::Hvm;
    configs.push(DomainConfig { delivery: Delivery::Sink, ..DomainConfig::guest(2) });
    Machine::new(&configs)
}

const VMM: DomId = DomId(3);

/// As [`machine`], with something of everything that is not a port.
fn full() -> Machine {
    let machine = machine();
    let engine = &machine.engine;
    machine.register(D1, 1).unwrap();
    engine.set_callback(D2, CallbackVia::Gsi(9)).unwrap();
    engine.set_upcall_vector(D2, V1, 0x41).unwrap();
    engine.set_singleshot_timer(D1, V0, Some(5_000)).unwrap();
    engine.set_periodic_timer(D1, V2, Some(MS)).unwrap();
    engine.set_suspend_port(D1, Port(4)).unwrap();
    engine.set_auto_unmask(D1, true).unwrap();
    let port = engine.alloc_unbound(VMM, DomId::SELF, D1).unwrap();
    engine.bind_interdomain(D1, VMM, port).unwrap();
    machine.calls();
    machine
}

fn moved(machine: &Machine) -> Machine {
    let state = machine.engine.save().unwrap();
    let new = machine.moved(&state);
    assert_eq!(new.engine.save().unwrap(), state);
    new.engine.validate().unwrap();
    new
}

fn deadlines(machine: &Machine) -> Vec<(DomId, VcpuId, Option<u64>)> {
    let calls = machine.calls().into_iter();
    calls
        .filter_map(|call| match call {
            Call::Deadline(id, vcpu, deadline) => Some((id, vcpu, deadline)),
            _ => None,
        })
        .collect()
}

/// The calls that deliver upcalls.
fn upcalls(machine: &Machine) -> Vec<Call> {
    machine.calls().into_iter().filter(|call| matches!(call, Call::Deliver(..))).collect()
}

#[track_caller]
fn assert_wrong(id: DomId, change: impl FnOnce(&mut DomainState), expected: DomainError) {
    let mut state = full().engine.save().unwrap();
    change(&mut state.domains[usize::from(id.0)]);
    let machine = Machine::empty(4);
    let refused = machine.engine.restore(&state, |id| Some(machine.page(id).clone())).unwrap_err();
    assert_eq!(refused, RestoreError::Domain(id, expected));
    assert!(machine.ids().all(|id| !machine.engine.domain_exists(id)));
    assert!(machine.words().iter().all(|&word| word == 0), "memory was written");
    assert_eq!(machine.calls(), []);
    machine.engine.validate().unwrap();
    // The same by itself.
    let refused = machine.engine.restore_domain(&state.domains[usize::from(id.0)], None).unwrap_err();
    assert_eq!(refused, RestoreError::Domain(id, expected));
    assert_eq!(machine.calls(), []);
}

#[test]
fn everything_that_is_not_a_port_comes_back() {
    let machine = full();
    let state = machine.engine.save().unwrap();
    let [one, two, vmm] = [1, 2, 3].map(|id: usize| &state.domains[id]);
    let info = VcpuInfoState { gfn: INFO.0, offset: OFFSET + 64 };
    let timers = |singleshot, period| TimersState { singleshot, period, last_tick: 0 };
    assert_eq!(
        one.vcpus,
        [
            VcpuState { vcpu: 0, timers: timers(Some(5_000), None), ..VcpuState::default() },
            VcpuState { vcpu: 1, info: Some(info), ..VcpuState::default() },
            VcpuState { vcpu: 2, timers: timers(None, Some(MS)), ..VcpuState::default() },
        ]
    );
    assert_eq!(two.vcpus, [VcpuState { vcpu: 1, upcall_vector: Some(0x41), ..VcpuState::default() }]);
    assert_eq!(two.callback, CallbackState { param: 9, via: ViaState::Gsi { line: 9 } });
    assert_eq!((one.suspend_port, one.auto_unmask), (Some(4), true));
    assert_eq!((two.suspend_port, two.auto_unmask), (None, false));
    assert_eq!(vmm.config.delivery, DeliveryState::Sink);
    moved(&machine);
}

#[test]
fn a_domain_without_more_than_ports_says_so() {
    let state = Machine::new(&configs()).engine.save_domain(D1).unwrap();
    assert_eq!((&state.vcpus[..], state.callback), (&[][..], CallbackState::default()));
    assert_eq!((state.suspend_port, state.teardown, state.auto_unmask), (None, None, false));
}

#[test]
fn the_number_of_lines_comes_back() {
    let machine =
        Machine::new(&[DomainConfig { nr_gsis: 7, kind: DomainKind::Hvm, ..DomainConfig::guest(1) }]);
    let new = moved(&machine);
    new.engine.set_callback(D0, CallbackVia::Gsi(7)).unwrap();
    assert_eq!(new.engine.save_domain(D0).unwrap().callback.via, ViaState::None, "no such line");
    new.engine.set_callback(D0, CallbackVia::Gsi(6)).unwrap();
    assert_eq!(new.engine.save_domain(D0).unwrap().callback.via, ViaState::Gsi { line: 6 });
}

// vcpu_infos

#[test]
fn a_registered_vcpu_info_is_used_again_and_all_of_it_announced() {
    for fifo in [false, true] {
        let mut machine = Machine::new(&configs());
        if fifo {
            assert_eq!(machine.init_control(D1, 1), "Ok(())");
            assert_eq!(machine.expand_array(D1), "Ok(())");
        }
        machine.register(D1, 1).unwrap();
        let ipi = machine.engine.bind_ipi(D1, V1).unwrap();
        // The guest has looked at everything.
        let (info, start) = machine.info(D1, 1);
        info.u8(start).unwrap().store(0, SeqCst);
        info.u64(start + 8).unwrap().store(0, SeqCst);
        let mut new = moved(&machine);
        let place = VcpuInfoPlace::Registered { gfn: INFO, offset: OFFSET as usize + 64 };
        assert_eq!(new.engine.vcpu_info(D1, V1), Ok(place));
        assert_eq!(new.calls(), [delivered(D1, 1)]);
        let (info, start) = new.info(D1, 1);
        assert_eq!(info.u8(start).unwrap().load(SeqCst), 1);
        assert_eq!(info.u64(start + 8).unwrap().load(SeqCst), u64::MAX);
        assert_eq!(new.page(D1).u8(64).unwrap().load(SeqCst), 0, "the one in shared_info is left alone");
        // It works, and cannot be registered again.
        info.u64(start + 8).unwrap().store(0, SeqCst);
        info.u8(start).unwrap().store(0, SeqCst);
        new.engine.send(D1, ipi).unwrap();
        assert_eq!(new.calls(), [delivered(D1, 1)]);
        match fifo {
            true => assert_eq!(new.take_fifo(D1, 1), Some((ipi, true))),
            false => assert_eq!(new.take_bits(D1, 1), [ipi]),
        }
        assert_eq!(new.engine.register_vcpu_info(D1, V1, INFO, 0), Err(OpError::HasVcpuInfo));
    }
}

#[test]
fn an_upcall_that_waits_in_a_registered_vcpu_info_is_delivered_once() {
    let machine = Machine::new(&configs());
    let ipi = machine.engine.bind_ipi(D1, V1).unwrap();
    machine.register(D1, 1).unwrap();
    machine.engine.send(D1, ipi).unwrap();
    assert_eq!(moved(&machine).calls(), [delivered(D1, 1)]);
}

#[test]
fn a_vcpu_beyond_shared_info_has_its_vcpu_info_again() {
    let engine = Engine::new(Recorder::default());
    engine.create_domain(D1, DomainConfig::guest(48)).unwrap();
    let frame = engine.hooks().frame(D1, INFO);
    engine.register_vcpu_info(D1, VcpuId(40), INFO, 128).unwrap();
    let state = engine.save_domain(D1).unwrap();
    let new = Engine::new(engine.hooks().successor());
    new.restore_domain(&state, Some(page())).unwrap();
    assert_eq!(new.hooks().take(), [delivered(D1, 40)]);
    assert_eq!(frame.u32(132).unwrap().load(SeqCst), 0);
    new.drop_vcpu_infos(D1).unwrap();
    assert_eq!(new.vcpu_info(D1, VcpuId(40)), Ok(VcpuInfoPlace::Nowhere));
}

#[test]
fn a_guest_that_has_changed_its_width_since_can_be_restored() {
    let machine = Machine::new(&configs());
    machine.engine.set_width(D1, Width::Bits32).unwrap();
    machine.engine.register_vcpu_info(D1, V1, INFO, 12).unwrap();
    machine.engine.set_width(D1, Width::Bits64).unwrap();
    moved(&machine);
}

#[test]
fn a_misplaced_vcpu_info_is_refused() {
    let wrong = |gfn, offset, expected| {
        assert_wrong(D1, |state| state.vcpus[1].info = Some(VcpuInfoState { gfn, offset }), expected);
    };
    for offset in [1, 2, 4033, 4036, 4095, 4096, u32::MAX] {
        wrong(INFO.0, offset, DomainError::VcpuInfo(1));
    }
    for gfn in [1 << 52, u64::MAX] {
        wrong(gfn, 0, DomainError::VcpuInfo(1));
    }
    wrong(0xdead, 0, DomainError::Frame(0xdead));
    assert_wrong(
        VMM,
        |state| {
            let info = Some(VcpuInfoState { gfn: INFO.0, offset: 0 });
            state.vcpus = vec![VcpuState { vcpu: 1, info, ..VcpuState::default() }];
        },
        DomainError::VcpuInfo(1),
    );
}

#[test]
fn an_older_level_lets_its_hooks_judge_the_frame() {
    let mut state = full().engine.save_domain(D1).unwrap();
    state.vcpus[1].info = Some(VcpuInfoState { gfn: 1 << 52, offset: 0 });
    let engine = Engine::with_level(Recorder::default(), Level::Xen4_17);
    let refused = engine.restore_domain(&state, None);
    assert_eq!(refused, Err(RestoreError::Domain(D1, DomainError::Frame(1 << 52))));
    drop(engine.hooks().frame(D1, Gfn(1 << 52)));
    assert_eq!(engine.restore_domain(&state, None), Ok(()));
}

#[test]
fn vcpus_that_are_not_there_or_out_of_order_are_refused() {
    assert_wrong(D1, |state| state.vcpus[2].vcpu = 3, DomainError::Vcpu(3));
    assert_wrong(D1, |state| state.vcpus[2].vcpu = u32::MAX, DomainError::Vcpu(u32::MAX));
    assert_wrong(D1, |state| state.vcpus.swap(0, 1), DomainError::Vcpu(0));
    assert_wrong(D1, |state| state.vcpus[1].vcpu = 0, DomainError::Vcpu(0));
}

// Callbacks and vectors

fn hvm(nr_gsis: u32) -> Machine {
    Machine::new(&[DomainConfig { kind: DomainKind::Hvm, nr_gsis, ..DomainConfig::guest(2) }])
}

/// The callback's parameter by a hypercall, and what it is afterwards.
fn hvm_param(engine: &Engine<Recorder>, op: HvmOp, value: u64) -> u64 {
    let arg = HvmParamValue { domid: DomId::SELF, pad: [0; 2], index: HvmParam::CALLBACK_IRQ, value };
    let mut memory = Memory::with(&arg);
    let args = [u64::from(op.0), AT, 0, 0, 0];
    assert_eq!(engine.hypercall(D0, V0, Hypercall::HVM_OP.0, args, &mut memory), DONE);
    memory.get::<HvmParamValue>(AT).value
}

/// As the guest gives it.
fn set_param(engine: &Engine<Recorder>, value: u64) {
    hvm_param(engine, HvmOp::SET_PARAM, value);
}

fn get_param(engine: &Engine<Recorder>) -> u64 {
    hvm_param(engine, HvmOp::GET_PARAM, 0)
}

#[test]
fn every_kind_of_callback_comes_back_and_delivers() {
    let ppi = CallbackPpi { irq: 31, edge: false, active_low: true };
    let kinds: [(Callback, Option<Upcall>); 6] = [
        (CallbackVia::None.into(), None),
        (CallbackVia::Gsi(9).into(), Some(Upcall::Gsi(9))),
        (CallbackVia::Gsi(24).into(), None), // a line that the domain does not have
        (CallbackVia::PciIntx { device: 3, pin: 1 }.into(), Some(Upcall::PciIntx { device: 3, pin: 1 })),
        (CallbackVia::Vector(0xf3).into(), Some(Upcall::Vector(0xf3))),
        (ppi.into(), Some(Upcall::Ppi(ppi))),
    ];
    for (callback, upcall) in kinds {
        let machine = hvm(24);
        machine.engine.set_callback(D0, callback).unwrap();
        let param = get_param(&machine.engine);
        let ipi = machine.engine.bind_ipi(D0, V0).unwrap();
        machine.engine.send(D0, ipi).unwrap();
        let new = moved(&machine);
        let expected: Vec<_> = upcall.map(|upcall| Call::Deliver(D0, V0, upcall)).into_iter().collect();
        assert_eq!(new.calls(), expected, "{callback:?}");
        assert_eq!(new.engine.pending_upcall(D0, V0), Ok(upcall), "{callback:?}");
        assert_eq!(get_param(&new.engine), param, "{callback:?}");
    }
}

#[test]
fn a_parameter_comes_back_as_it_was_set() {
    for value in [0x0200_1234_5678_9af3, 0x0100_ffff_ffff_ffff, 0x0300_0000_0000_0001, 24, 0x0900] {
        let machine = hvm(24);
        set_param(&machine.engine, value);
        assert_eq!(get_param(&moved(&machine).engine), value, "{value:#x}");
    }
}

#[test]
fn a_vector_that_cannot_be_given_up_comes_back_with_the_parameter_that_was_ignored() {
    let ppi = CallbackPpi { irq: 7, edge: true, active_low: false };
    for way in [Callback::from(CallbackVia::Vector(0x33)), ppi.into()] {
        let machine = hvm(0);
        machine.engine.set_callback(D0, way).unwrap();
        set_param(&machine.engine, 9);
        let state = machine.engine.save_domain(D0).unwrap().callback;
        assert_eq!(state, CallbackState { param: 9, via: way.into() });
        moved(&machine);
    }
}

#[test]
fn the_vector_of_a_vcpu_comes_first_and_is_used_again() {
    let machine = hvm(24);
    machine.engine.set_callback(D0, CallbackVia::Vector(0xf3)).unwrap();
    machine.engine.set_upcall_vector(D0, V1, 0x10).unwrap();
    for vcpu in [V0, V1] {
        let ipi = machine.engine.bind_ipi(D0, vcpu).unwrap();
        machine.engine.send(D0, ipi).unwrap();
    }
    let expected = [Upcall::Vector(0xf3), Upcall::VcpuVector(0x10)];
    let expected = [Call::Deliver(D0, V0, expected[0]), Call::Deliver(D0, V1, expected[1])];
    assert_eq!(moved(&machine).calls(), expected);
}

#[test]
fn a_vector_without_an_event_brings_no_upcall() {
    let machine = hvm(24);
    machine.engine.set_upcall_vector(D0, V1, 0x10).unwrap();
    assert_eq!(moved(&machine).calls(), []);
}

#[test]
fn wrong_vectors_are_refused() {
    for vector in [0, 1, 0x0f] {
        let change = |state: &mut DomainState| state.vcpus[0].upcall_vector = Some(vector);
        assert_wrong(D2, change, DomainError::UpcallVector(1));
    }
    assert_wrong(D1, |state| state.vcpus[2].upcall_vector = Some(0x40), DomainError::UpcallVector(2));
}

#[test]
fn callbacks_that_do_not_follow_from_their_parameter_are_refused() {
    let vector = 0x0200_0000_0000_00f3;
    let ppi = |edge, active_low| ViaState::Ppi { irq: 0xf3, edge, active_low };
    for (param, via) in [
        (0, ViaState::Gsi { line: 9 }),
        (9, ViaState::None),
        (9, ViaState::Gsi { line: 8 }),
        (48, ViaState::Gsi { line: 48 }), // there are 48
        (0, ViaState::Gsi { line: 0 }),
        (0x0100_0000_0000_1803, ViaState::Intx { device: 3, pin: 2 }),
        (0x0100_0000_0000_0000, ViaState::Intx { device: 32, pin: 4 }),
        (vector, ViaState::Vector { vector: 0xf4 }),
        (vector, ViaState::None),
        (9, ViaState::Vector { vector: 0xf3 }),
        (vector, ppi(true, false)),
        (vector | 0x400, ppi(false, false)), // no PPI has this flag
        (9, ppi(false, false)),
    ] {
        let callback = CallbackState { param, via };
        assert_wrong(D2, |state| state.callback = callback, DomainError::Callback);
    }
    // Without interrupt controllers only a vector can have stayed.
    let without = |param, via| {
        move |state: &mut DomainState| {
            state.config.nr_gsis = 0;
            state.callback = CallbackState { param, via };
        }
    };
    assert_wrong(D2, without(9, ViaState::Gsi { line: 9 }), DomainError::Callback);
    assert_wrong(D2, without(vector, ViaState::Vector { vector: 0xf4 }), DomainError::Callback);
    // Paravirtual domains have none.
    let callback = CallbackState { param: vector, via: ViaState::Vector { vector: 0xf3 } };
    assert_wrong(D1, |state| state.callback = callback, DomainError::Callback);
    assert_wrong(D1, |state| state.callback.param = 1, DomainError::Callback);
}

#[test]
fn a_domain_that_was_saved_with_a_vector_may_not_be_called_paravirtual() {
    assert_wrong(D2, |state| state.config.kind = KindState::Pv, DomainError::Callback);
}

// Timers

#[test]
fn deadlines_are_asked_for_again_and_come_at_their_time() {
    let machine = full();
    let timer = machine.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    let new = moved(&machine);
    assert_eq!(deadlines(&new), [(D1, V0, Some(5_000)), (D1, V2, Some(MS))]);
    assert_eq!(new.engine.deadline(D1, V0), Ok(Some(5_000)));
    assert_eq!(new.engine.deadline_passed(D1, V0, 4_999), Ok(false));
    assert!(!common::bit(new.page(D1), 2048, timer.0));
    assert_eq!(new.engine.deadline_passed(D1, V0, 5_000), Ok(true));
    assert!(common::bit(new.page(D1), 2048, timer.0));
    assert_eq!(new.engine.deadline(D1, V0), Ok(None));
}

#[test]
fn a_periodic_timer_goes_on_without_drift() {
    let machine = Machine::new(&configs());
    let engine = &machine.engine;
    engine.set_periodic_timer(D1, V0, Some(10 * MS)).unwrap();
    assert_eq!(engine.deadline_passed(D1, V0, 10 * MS), Ok(true));
    assert_eq!(engine.deadline_passed(D1, V0, 23 * MS), Ok(true));
    let new = moved(&machine);
    assert_eq!(deadlines(&new), [(D1, V0, Some(30 * MS))], "not 33");
    assert_eq!(new.engine.deadline_passed(D1, V0, 30 * MS), Ok(true));
    assert_eq!(deadlines(&new), [(D1, V0, Some(40 * MS))]);
}

#[test]
fn a_stopped_periodic_timer_remembers_when_it_came_last() {
    let machine = Machine::new(&configs());
    machine.engine.set_periodic_timer(D1, V0, Some(10 * MS)).unwrap();
    machine.engine.deadline_passed(D1, V0, 10 * MS).unwrap();
    machine.engine.set_periodic_timer(D1, V0, None).unwrap();
    let new = moved(&machine);
    assert_eq!(deadlines(&new), [], "nothing is wanted");
    new.engine.set_periodic_timer(D1, V0, Some(10 * MS)).unwrap();
    assert_eq!(new.engine.deadline(D1, V0), Ok(Some(20 * MS)));
}

#[test]
fn wrong_periods_are_refused() {
    for period in [0, MS - 1, (u64::MAX >> 2) + 1, u64::MAX] {
        assert_wrong(D1, |state| state.vcpus[2].timers.period = Some(period), DomainError::Timer(2));
    }
    let mut state = full().engine.save_domain(D1).unwrap();
    state.vcpus[2].timers = TimersState { singleshot: Some(u64::MAX), period: Some(MS), last_tick: u64::MAX };
    let new = Machine::empty(4);
    new.engine.restore_domain(&state, None).unwrap();
    assert_eq!(new.engine.deadline_passed(D1, V2, u64::MAX), Ok(true));
}

#[test]
fn a_timer_that_comes_while_the_domain_is_saved_is_in_the_state_or_has_raised_its_event() {
    for fifo in [false, true] {
        for round in 0..200 {
            let mut machine = Machine::new(&configs());
            if fifo {
                machine.init_control(D1, 0);
                // Every other time the event can only be kept, and so only be in the state.
                if round % 2 == 0 {
                    machine.expand_array(D1);
                }
            }
            let timer = machine.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
            machine.engine.set_singleshot_timer(D1, V0, Some(500)).unwrap();
            let go = AtomicBool::new(false);
            let (state, new) = thread::scope(|scope| {
                let passing = scope.spawn(|| {
                    while !go.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                    machine.engine.deadline_passed(D1, V0, 500)
                });
                go.store(true, SeqCst);
                (0..round % 20).for_each(|_| std::hint::spin_loop());
                let state = machine.engine.save_domain(D1).unwrap();
                let new = Machine { guests: machine.guests.clone(), ..Machine::empty(3) };
                new.copy_memory(&machine);
                assert_eq!(passing.join().unwrap(), Ok(true));
                (state, new)
            });
            new.engine.restore_domain(&state, Some(new.page(D1).clone())).unwrap();
            let mut new = new;
            let comes = new.engine.deadline_passed(D1, V0, 500).unwrap();
            if fifo {
                if round % 2 == 1 {
                    new.expand_array(D1);
                }
                assert_eq!(new.take_fifo(D1, 0), Some((timer, true)), "round {round}, {comes}");
            } else {
                assert_eq!(new.take_bits(D1, 0), [timer], "round {round}, {comes}");
            }
        }
    }
}

// Sinks

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

// The rest

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

/// Everything goes on while domain 1 is saved again and again: its peers send, its timers come, its callbacks change.
#[test]
fn a_domain_is_saved_under_traffic_and_every_state_can_be_restored() {
    let machine = full();
    let stop = AtomicBool::new(false);
    let engine = &machine.engine;
    let (send, receive) = {
        let waiting = engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
        (engine.bind_interdomain(D2, D1, waiting).unwrap(), waiting)
    };
    engine.bind_vcpu(D1, receive, V1).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                engine.send(D2, send).unwrap();
            }
        });
        scope.spawn(|| {
            for now in 0.. {
                engine.set_singleshot_timer(D1, V0, Some(now)).unwrap();
                engine.deadline_passed(D1, V0, now).unwrap();
                engine.set_callback(D2, CallbackVia::Vector(now as u8)).unwrap();
                engine.set_upcall_vector(D2, V0, 16 + now as u8 % 16).unwrap();
                if stop.load(SeqCst) {
                    break;
                }
            }
        });
        for _ in 0..100 {
            let state = engine.save().unwrap();
            let new = Machine::empty(4);
            new.copy_memory(&machine);
            engine.send(D2, send).unwrap();
            new.engine.restore(&state, |id| Some(new.page(id).clone())).unwrap();
            new.engine.validate().unwrap();
            assert_eq!(new.engine.save().unwrap(), state);
            assert!(upcalls(&new).contains(&delivered(D1, 1)));
        }
        stop.store(true, SeqCst);
    });
}
