// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving and restoring what is not ports: that it comes back, under traffic too; registered vcpu_infos.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use common::full::{MS, V1, VMM, assert_wrong, full, moved};
use common::state::{INFO, Machine, OFFSET, configs};
use common::{D0, D1, D2, V0, delivered};
use evtchn_abi::{CallbackVia, DomId, Gfn, VcpuId};
use evtchn_engine::state::{
    CallbackState, DeliveryState, DomainError, TimersState, VcpuInfoState, VcpuState, ViaState,
};
use evtchn_engine::test_utils::{Call, Recorder, page};
use evtchn_engine::{DomainConfig, DomainKind, Engine, Level, OpError, RestoreError, VcpuInfoPlace, Width};
use evtchn_sync::Page;

/// The calls that deliver upcalls.
fn upcalls(machine: &Machine) -> Vec<Call> {
    machine.calls().into_iter().filter(|call| matches!(call, Call::Deliver(..))).collect()
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
