// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving and restoring how vCPUs learn of events.
#![allow(missing_docs)]

mod common;

use common::full::{V1, assert_wrong, moved};
use common::memory::{AT, DONE, Memory};
use common::state::Machine;
use common::{D0, D1, D2, V0};
use evtchn_abi::{CallbackPpi, CallbackVia, DomId, Hypercall, VcpuId};
use evtchn_abi::{HvmOp, HvmParam, args::HvmParamValue};
use evtchn_engine::state::{CallbackState, DomainError, KindState, ViaState};
use evtchn_engine::test_utils::{Call, Recorder};
use evtchn_engine::{Callback, DomainConfig, DomainKind, DomainState, Engine, OpError, Upcall};

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
fn an_embedder_can_ask_what_it_has_to_tell_a_new_machine() {
    let machine = hvm(24);
    assert_eq!(machine.engine.callback(D0), Ok(CallbackVia::None.into()));
    assert_eq!(machine.engine.upcall_vector(D0, V1), Ok(None));
    set_param(&machine.engine, 2 << 56 | 0xf3);
    machine.engine.set_upcall_vector(D0, V1, 0x40).unwrap();
    let new = moved(&machine).engine;
    assert_eq!(new.callback(D0), Ok(CallbackVia::Vector(0xf3).into()));
    assert_eq!([V0, V1].map(|vcpu| new.upcall_vector(D0, vcpu)), [Ok(None), Ok(Some(0x40))]);
    set_param(&new, 24);
    assert_eq!(new.callback(D0), Ok(CallbackVia::None.into()), "it has no such line");
    assert_eq!(new.callback(D1), Err(OpError::NoDomain));
    assert_eq!(new.upcall_vector(D0, VcpuId(2)), Err(OpError::NoVcpu));
    let paravirtual = Machine::new(&[DomainConfig::guest(1)]);
    assert_eq!(paravirtual.engine.callback(D0), Err(OpError::NotHvm));
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
