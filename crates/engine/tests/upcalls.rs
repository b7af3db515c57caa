// SPDX-License-Identifier: MIT OR Apache-2.0
//! How upcalls reach the vCPUs of a domain: the kinds, which comes first, what a change does, and blocking.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use common::memory::{AT, DONE, Memory, failed};
use common::{D0, D1, D2, NOBODY, TestEnv, V0, delivered};
use evtchn_abi::args::{EvtchnUpcallVector, HvmParamValue};
use evtchn_abi::{CallbackPpi, CallbackVia, DomId, Errno, HvmOp, HvmParam, Port, SchedOp, VcpuId};
use evtchn_engine::test_utils::Call;
use evtchn_engine::{Callback, DomainConfig, DomainKind, Level, OpError, Outcome, PollOutcome, Upcall};
use evtchn_sync::Page;

const V1: VcpuId = VcpuId(1);
const VECTOR: CallbackVia = CallbackVia::Vector(0xf3);
const GSI: CallbackVia = CallbackVia::Gsi(9);
const PPI: CallbackPpi = CallbackPpi { irq: 31, edge: false, active_low: true };

fn hvm_config() -> DomainConfig {
    DomainConfig { kind: DomainKind::Hvm, ..DomainConfig::guest(4) }
}

/// Domain 1 is hardware-assisted, with 4 vCPUs.
fn hvm() -> TestEnv {
    TestEnv::with(Level::Current, hvm_config())
}

/// What an event for a vCPU of domain 1 leads to.
fn told(env: &TestEnv, vcpu: VcpuId) -> Vec<Call> {
    let port = env.engine.bind_ipi(D1, vcpu).unwrap();
    env.quiet(D1);
    env.engine.send(D1, port).unwrap();
    assert!(env.upcall(D1, vcpu.0), "the byte is set in any case");
    env.calls()
}

fn deliver(vcpu: VcpuId, upcall: Upcall) -> Vec<Call> {
    vec![Call::Deliver(D1, vcpu, upcall)]
}

#[test]
fn each_callback_has_its_kind_of_upcall() {
    let line = Upcall::PciIntx { device: 3, pin: 2 };
    // The callback, and what vCPU 0 and vCPU 1 get.
    let table: [(Callback, Option<Upcall>, Option<Upcall>); 8] = [
        (CallbackVia::None.into(), None, None),
        (VECTOR.into(), Some(Upcall::Vector(0xf3)), Some(Upcall::Vector(0xf3))),
        (GSI.into(), Some(Upcall::Gsi(9)), None),
        (CallbackVia::Gsi(47).into(), Some(Upcall::Gsi(47)), None),
        (CallbackVia::Gsi(48).into(), None, None),
        (CallbackVia::Gsi(0).into(), None, None),
        (CallbackVia::PciIntx { device: 3, pin: 2 }.into(), Some(line), None),
        (PPI.into(), Some(Upcall::Ppi(PPI)), Some(Upcall::Ppi(PPI))),
    ];
    let env = hvm();
    assert_eq!((told(&env, V0), told(&env, V1)), (vec![], vec![]), "none at first");
    for (callback, first, second) in table {
        env.engine.set_callback(D1, callback).unwrap();
        for (vcpu, upcall) in [(V0, first), (V1, second)] {
            let expected = upcall.map_or(vec![], |upcall| deliver(vcpu, upcall));
            assert_eq!(told(&env, vcpu), expected, "{callback:?}");
            assert_eq!(env.engine.pending_upcall(D1, vcpu), Ok(upcall), "{callback:?}");
        }
    }
}

#[test]
fn a_vcpus_own_vector_comes_before_the_domains_callback() {
    for callback in [CallbackVia::None, VECTOR, GSI] {
        let env = hvm();
        env.engine.set_callback(D1, callback).unwrap();
        env.engine.set_upcall_vector(D1, V0, 0x30).unwrap();
        assert_eq!(told(&env, V0), deliver(V0, Upcall::VcpuVector(0x30)));
        env.engine.set_upcall_vector(D1, V0, 0x31).unwrap();
        assert_eq!(told(&env, V0), deliver(V0, Upcall::VcpuVector(0x31)));
        let other = if callback == VECTOR { deliver(V1, Upcall::Vector(0xf3)) } else { vec![] };
        assert_eq!(told(&env, V1), other);
    }
}

#[test]
fn a_domain_without_interrupt_controllers_has_vectors_only() {
    let env = TestEnv::with(Level::Current, DomainConfig { nr_gsis: 0, ..hvm_config() });
    env.engine.set_callback(D1, GSI).unwrap();
    assert_eq!(told(&env, V0), []);
    env.engine.set_callback(D1, VECTOR).unwrap();
    for ignored in [GSI, CallbackVia::PciIntx { device: 1, pin: 1 }, CallbackVia::None] {
        env.engine.set_callback(D1, ignored).unwrap();
        assert_eq!(told(&env, V0), deliver(V0, Upcall::Vector(0xf3)), "{ignored:?}");
    }
}

#[test]
fn an_upcall_is_delivered_once_until_the_guest_clears_it() {
    let env = hvm();
    env.engine.set_callback(D1, VECTOR).unwrap();
    let ports: Vec<Port> = (0..128).map(|_| env.engine.bind_ipi(D1, V0).unwrap()).collect();
    env.engine.send(D1, ports[0]).unwrap();
    env.engine.send(D1, ports[100]).unwrap();
    assert_eq!(env.calls().len(), 1);
    for _ in 0..3 {
        assert_eq!(env.engine.upcall_pending(D1, V0), Ok(true), "at each entry");
    }
    assert_eq!(env.engine.upcall_pending(D1, V1), Ok(false));
    env.set_upcall(D1, 0, 0);
    assert_eq!(env.engine.upcall_pending(D1, V0), Ok(false));
}

#[test]
fn the_upcall_mask_is_for_paravirtual_guests() {
    for (env, entered) in [(TestEnv::new(), false), (hvm(), true)] {
        let _ = env.engine.set_callback(D1, VECTOR);
        env.page(D1).u8(1).unwrap().store(1, SeqCst);
        assert_eq!(told(&env, V0).len(), 1, "a byte that is set is told");
        assert_eq!(env.engine.upcall_pending(D1, V0), Ok(entered));
        env.page(D1).u8(1).unwrap().store(0, SeqCst);
        assert_eq!(env.engine.upcall_pending(D1, V0), Ok(true));
    }
}

#[test]
fn a_change_prods_each_vcpu_with_a_pending_upcall_once() {
    let env = hvm();
    for vcpu in [0, 2] {
        env.set_upcall(D1, vcpu, 1);
    }
    env.engine.set_callback(D1, VECTOR).unwrap();
    let vectors = [V0, VcpuId(2)].map(|vcpu| Call::Deliver(D1, vcpu, Upcall::Vector(0xf3)));
    assert_eq!(env.calls(), vectors);
    env.engine.set_callback(D1, GSI).unwrap();
    assert_eq!(env.calls(), deliver(V0, Upcall::Gsi(9)));
    assert_eq!(env.engine.pending_upcall(D1, V0), Ok(Some(Upcall::Gsi(9))));
    env.engine.set_callback(D1, CallbackVia::None).unwrap();
    assert_eq!(env.calls(), []);
    assert_eq!(env.engine.pending_upcall(D1, V0), Ok(None), "the old line is no longer asserted");
}

#[test]
fn a_new_vector_prods_its_vcpu_once() {
    let env = hvm();
    for pending in [0, 1] {
        env.set_upcall(D1, 1, pending);
        env.engine.set_upcall_vector(D1, V1, 0x10).unwrap();
        assert_eq!(env.calls(), deliver(V1, Upcall::VcpuVector(0x10)));
    }
}

#[test]
fn callbacks_are_refused_for_their_reasons() {
    let env = hvm();
    assert_eq!(env.engine.set_callback(D2, VECTOR), Err(OpError::NotHvm));
    assert_eq!(env.engine.set_callback(NOBODY, VECTOR), Err(OpError::NoDomain));
    let set = |dom, vcpu, vector| env.engine.set_upcall_vector(dom, VcpuId(vcpu), vector);
    assert_eq!(set(D2, 99, 0), Err(OpError::NotHvm));
    assert_eq!(set(NOBODY, 0, 0x30), Err(OpError::NoDomain));
    assert_eq!(set(D1, 99, 0x0f), Err(OpError::Invalid), "before ENOENT");
    assert_eq!(set(D1, 0, 0), Err(OpError::Invalid), "it cannot be switched off");
    assert_eq!(set(D1, 4, 0x30), Err(OpError::NoVcpu));
    assert_eq!(env.engine.upcall_pending(D1, VcpuId(4)), Err(OpError::NoVcpu));
    assert_eq!(env.engine.upcall_pending(NOBODY, V0), Err(OpError::NoDomain));
    assert_eq!(env.calls(), []);
}

#[test]
fn a_vcpu_that_cannot_be_told_is_woken_by_its_port_alone() {
    let env = hvm();
    let ports = [0, 1].map(|_| env.engine.bind_ipi(D1, V1).unwrap());
    assert_eq!(env.engine.sched_poll(D1, V1, &ports[..1]), Ok(PollOutcome::Sleep));
    env.engine.send(D1, ports[1]).unwrap();
    assert_eq!(env.calls(), [], "its upcall byte is set, but nobody says so");
    assert!(env.engine.is_polling(D1, V1));
    env.engine.send(D1, ports[0]).unwrap();
    assert_eq!(env.calls(), [Call::WakePoller(D1, V1)]);
    // The byte that is set keeps nobody from sleeping either.
    env.set_pending(D1, ports[0], false);
    assert_eq!(env.engine.sched_poll(D1, V1, &ports[..1]), Ok(PollOutcome::Sleep));
    env.engine.set_callback(D1, VECTOR).unwrap();
    assert_eq!(env.calls(), [Call::Deliver(D1, V1, Upcall::Vector(0xf3)), Call::WakePoller(D1, V1)]);
}

fn hvm_op(env: &TestEnv, dom: DomId, op: HvmOp, memory: &mut Memory) -> Outcome {
    env.engine.hypercall(dom, V0, 34, [op.0.into(), AT, 0, 0, 0], memory)
}

fn param(domid: DomId, value: u64) -> Memory {
    Memory::with(&HvmParamValue { domid, index: HvmParam::CALLBACK_IRQ, value, ..Default::default() })
}

fn get_param(env: &TestEnv, dom: DomId, domid: DomId) -> (Outcome, u64) {
    let mut memory = param(domid, 0xabcd);
    let outcome = hvm_op(env, dom, HvmOp::GET_PARAM, &mut memory);
    (outcome, memory.get::<HvmParamValue>(AT).value)
}

#[test]
fn the_raw_door_sets_each_kind_of_callback() {
    let env = hvm();
    let intx = Upcall::PciIntx { device: 3, pin: 2 };
    let table = [
        (2 << 56 | 0xf3, Some(Upcall::Vector(0xf3))),
        (9, Some(Upcall::Gsi(9))),
        (0x1234_0009, Some(Upcall::Gsi(9))),
        (1 << 56 | 3 << 11 | 2, Some(intx)),
        (1 << 56 | 0xffff << 16 | 3 << 11 | 7 << 8 | 0xfc | 2, Some(intx)),
        (0, None),
        (0x100, None),
        (48, None),
        (3 << 56 | 9, None),
        (0xff << 56 | 9, None),
    ];
    for (value, upcall) in table {
        env.quiet(D1);
        assert_eq!(hvm_op(&env, D1, HvmOp::SET_PARAM, &mut param(DomId::SELF, value)), DONE);
        let expected = upcall.map_or(vec![], |upcall| deliver(V0, upcall));
        assert_eq!(told(&env, V0), expected, "{value:#x}");
        assert_eq!(get_param(&env, D1, D1), (DONE, value), "as it was set");
    }
}

#[test]
fn what_a_typed_caller_sets_a_guest_reads() {
    let env = hvm();
    assert_eq!(get_param(&env, D1, DomId::SELF), (DONE, 0));
    env.engine.set_callback(D1, GSI).unwrap();
    assert_eq!(get_param(&env, D1, DomId::SELF), (DONE, 9));
}

#[test]
fn who_may_set_the_callback_of_whom() {
    let served = DomainConfig { target: Some(D1), ..DomainConfig::guest(1) };
    let env = hvm();
    env.engine.create_domain(DomId(3), served).unwrap();
    env.engine.create_domain(DomId(4), hvm_config()).unwrap();
    let table = [
        (D1, DomId::SELF, DONE),
        (D1, D1, DONE),
        (D0, D1, DONE),
        (DomId(3), D1, DONE),
        (D2, D1, failed(Errno::EPERM)),
        (DomId(4), D1, failed(Errno::EPERM)),
        (D2, DomId::SELF, failed(Errno::EINVAL)),
        (D1, D2, failed(Errno::EINVAL)),
        (D0, NOBODY, failed(Errno::ESRCH)),
        (D0, DomId::XEN, failed(Errno::ESRCH)),
    ];
    for op in [HvmOp::SET_PARAM, HvmOp::GET_PARAM] {
        for (caller, domid, expected) in table {
            let outcome = hvm_op(&env, caller, op, &mut param(domid, 9));
            assert_eq!(outcome, expected, "{op}: {caller} for {domid}");
        }
    }
}

#[test]
fn the_raw_door_sets_a_vector() {
    let env = hvm();
    let set = |dom, vcpu, vector| {
        let mut memory = Memory::with(&EvtchnUpcallVector { vcpu: VcpuId(vcpu), vector, pad: [0xff; 3] });
        hvm_op(&env, dom, HvmOp::SET_EVTCHN_UPCALL_VECTOR, &mut memory)
    };
    assert_eq!(set(D1, 1, 0x10), DONE);
    assert_eq!(env.calls(), deliver(V1, Upcall::VcpuVector(0x10)));
    assert_eq!(set(D1, 9, 0x0f), failed(Errno::EINVAL));
    assert_eq!(set(D1, 9, 0x10), failed(Errno::ENOENT));
    assert_eq!(set(D2, 9, 0x10), failed(Errno::EINVAL));
    let args = [HvmOp::SET_EVTCHN_UPCALL_VECTOR.0.into(), u64::MAX, 0, 0, 0];
    assert_eq!(env.engine.hypercall(D2, V0, 34, args, &mut Memory::new()), failed(Errno::EINVAL));
    assert_eq!(env.engine.hypercall(D1, V0, 34, args, &mut Memory::new()), failed(Errno::EFAULT));
}

#[test]
fn other_parameters_and_commands_are_the_embedders() {
    let env = hvm();
    for op in [HvmOp::SET_PARAM, HvmOp::GET_PARAM] {
        let arg = HvmParamValue { domid: NOBODY, index: HvmParam::STORE_EVTCHN, ..Default::default() };
        assert_eq!(hvm_op(&env, D1, op, &mut Memory::with(&arg)), Outcome::NotMine);
        let args = [op.0.into(), 1020, 0, 0, 0];
        assert_eq!(env.engine.hypercall(D1, V0, 34, args, &mut Memory::new()), failed(Errno::EFAULT));
    }
    assert_eq!(hvm_op(&env, D1, HvmOp(2), &mut param(D1, 0)), Outcome::NotMine);
    let mut memory = param(D1, 0);
    memory.read_only = 0..1024;
    assert_eq!(hvm_op(&env, D1, HvmOp::GET_PARAM, &mut memory), failed(Errno::EFAULT));
}

fn sched_op(env: &TestEnv, vcpu: VcpuId, command: SchedOp) -> Outcome {
    env.engine.hypercall(D1, vcpu, 29, [command.0.into(), u64::MAX, 0, 0, 0], &mut Memory::new())
}

const BLOCK: Outcome = Outcome::Block { deadline: None };

#[test]
fn a_block_lets_upcalls_in_and_looks_again() {
    let env = TestEnv::new();
    let mask = env.page(D1).u8(64 + 1).unwrap();
    mask.store(1, SeqCst);
    assert_eq!(sched_op(&env, V1, SchedOp::BLOCK), BLOCK);
    assert_eq!(mask.load(SeqCst), 0);
    mask.store(1, SeqCst);
    env.set_upcall(D1, 1, 1);
    assert_eq!(sched_op(&env, V1, SchedOp::BLOCK), DONE);
    assert_eq!(mask.load(SeqCst), 0);
    assert_eq!(sched_op(&env, V0, SchedOp::BLOCK), BLOCK, "that was another vCPU's");
    assert_eq!(sched_op(&env, VcpuId(4), SchedOp::BLOCK), failed(Errno::ENOENT));
    assert_eq!(env.engine.sched_block(NOBODY, V0), Err(OpError::NoDomain));
    assert!(!env.engine.is_polling(D1, V0) && env.calls().is_empty());
}

#[test]
fn a_hardware_assisted_vcpu_blocks_by_its_callback() {
    let env = hvm();
    let mask = env.page(D1).u8(1).unwrap();
    mask.store(1, SeqCst);
    env.set_upcall(D1, 0, 1);
    assert_eq!(sched_op(&env, V0, SchedOp::BLOCK), BLOCK, "there is no callback");
    env.engine.set_callback(D1, VECTOR).unwrap();
    assert_eq!(sched_op(&env, V0, SchedOp::BLOCK), DONE);
    assert_eq!(mask.load(SeqCst), 1, "not its byte");
}

#[test]
fn the_other_commands_of_the_scheduler_are_the_embedders() {
    let env = TestEnv::new();
    for command in [SchedOp::YIELD, SchedOp::SHUTDOWN, SchedOp(4), SchedOp(u32::MAX)] {
        assert_eq!(sched_op(&env, V0, command), Outcome::NotMine);
    }
}

#[test]
fn a_callback_that_changes_while_events_come_is_used_for_the_last_one() {
    for _ in 0..2_000 {
        let env = hvm();
        let port = env.engine.bind_ipi(D1, V0).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| env.engine.send(D1, port).unwrap());
            env.engine.set_callback(D1, VECTOR).unwrap();
        });
        assert!(env.calls().contains(&Call::Deliver(D1, V0, Upcall::Vector(0xf3))));
    }
}

#[test]
fn no_upcall_is_slept_through() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, V0).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                env.engine.send(D1, port).unwrap();
            }
        });
        for _ in 0..5_000 {
            env.page(D1).u8(1).unwrap().store(1, SeqCst);
            env.calls();
            if env.engine.sched_block(D1, V0) == Ok(PollOutcome::Sleep) {
                // It sleeps until it is told.
                while !env.calls().contains(&delivered(D1, 0)) {
                    std::hint::spin_loop();
                }
            }
            env.set_upcall(D1, 0, 0);
            env.page(D1).u64(8).unwrap().store(0, SeqCst);
            env.set_pending(D1, port, false);
        }
        stop.store(true, SeqCst);
    });
}

#[test]
fn a_caller_sees_its_own_upcall() {
    let env = hvm();
    env.engine.set_callback(D1, VECTOR).unwrap();
    let mut caller = env.engine.caller(D1, V1).unwrap();
    assert_eq!(caller.pending_upcall(), None);
    told(&env, V1);
    assert_eq!(caller.pending_upcall(), Some(Upcall::Vector(0xf3)));
}
