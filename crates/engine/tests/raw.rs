// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls as a guest makes them: copying, faults, dispatch.
#![allow(missing_docs)]

mod common;

use std::num::NonZeroU64;

use common::memory::{AT, DONE, Memory, failed};
use common::{D0, D1, D2, TestEnv, V0};
use evtchn_abi::args::{
    AllocUnbound, BindInterdomain, BindIpi, BindVcpu, BindVirq, EvtchnOp, InitControl, Reset, SchedPoll,
    SchedPoll32, Send, SetPriority, Status, StatusUnion,
};
use evtchn_abi::{ChannelStatus, DomId, Errno, Op, Port, VcpuId, Virq};
use evtchn_engine::{DomainConfig, DomainKind, Level, OpError, Outcome, Width};

fn op(env: &TestEnv, dom: DomId, op: Op, memory: &mut Memory) -> Outcome {
    env.engine.event_channel_op(dom, op.0, AT, memory)
}

#[test]
fn a_channel_is_set_up_through_the_raw_door() {
    let env = TestEnv::new();
    let mut memory = Memory::with(&AllocUnbound { dom: DomId::SELF, remote_dom: D2, ..Default::default() });
    assert_eq!(op(&env, D1, Op::ALLOC_UNBOUND, &mut memory), DONE);
    let arg: AllocUnbound = memory.get(AT);
    assert_eq!((arg.dom, arg.remote_dom, arg.port), (DomId::SELF, D2, Port(1)), "inputs unchanged");

    let arg = BindInterdomain { remote_dom: D1, remote_port: arg.port, ..Default::default() };
    let mut memory = Memory::with(&arg);
    assert_eq!(op(&env, D2, Op::BIND_INTERDOMAIN, &mut memory), DONE);
    let port = memory.get::<BindInterdomain>(AT).local_port;

    assert_eq!(op(&env, D2, Op::SEND, &mut Memory::with(&Send { port })), DONE);
    assert!(env.pending(D1, Port(1)));
}

#[test]
fn unknown_commands_are_enosys_and_the_argument_is_not_touched() {
    let env = TestEnv::new();
    for command in [15, 100, u32::MAX, 0x7fff_ffff] {
        let mut memory = Memory::new();
        let outcome = env.engine.event_channel_op(D1, command, u64::MAX, &mut memory);
        assert_eq!((outcome, memory.reads), (failed(Errno::ENOSYS), 0));
    }
}

#[test]
fn every_operation_with_a_bad_pointer_is_efault_and_does_nothing() {
    let env = TestEnv::new();
    env.engine.bind_ipi(D1, V0).unwrap();
    for command in 0..=14 {
        for address in [1023, 1024, u64::MAX, u64::MAX - 3] {
            let outcome = env.engine.event_channel_op(D1, command, address, &mut Memory::new());
            assert_eq!(outcome, failed(Errno::EFAULT), "op {command} at {address:#x}");
        }
    }
    assert_eq!(env.engine.ports_in_use(D1), Ok((1, 0)));
}

#[test]
fn each_argument_is_read_once_as_a_whole() {
    let env = TestEnv::new();
    for command in 0..=14 {
        let mut memory = Memory::new();
        let _ = env.engine.event_channel_op(D1, command, AT, &mut memory);
        assert_eq!(memory.reads, 1, "op {command}");
    }
}

#[test]
fn a_result_that_cannot_be_written_back_is_efault_and_the_port_stays() {
    let env = TestEnv::new();
    let mut memory = Memory::with(&BindIpi::default());
    memory.read_only = 0..1024;
    assert_eq!(op(&env, D1, Op::BIND_IPI, &mut memory), failed(Errno::EFAULT));
    assert_eq!(env.engine.ports_in_use(D1), Ok((1, 0)));
}

#[test]
fn operations_without_results_write_nothing() {
    let env = TestEnv::new();
    let port = env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
    for command in [Op::SEND, Op::UNMASK, Op::BIND_VCPU, Op::CLOSE] {
        let mut memory = Memory::with(&BindVcpu { port, vcpu: V0 });
        memory.read_only = 0..1024;
        assert_eq!(op(&env, D1, command, &mut memory), DONE, "{command}");
    }
}

#[test]
fn an_error_leaves_the_argument_as_it_was() {
    let env = TestEnv::new();
    let filled = [0xa5; 24];
    for command in 0..=14 {
        let mut memory = Memory::new();
        memory.bytes[AT as usize..AT as usize + 24].copy_from_slice(&filled);
        let outcome = env.engine.event_channel_op(D1, command, AT, &mut memory);
        assert!(matches!(outcome, Outcome::Done(..0)), "op {command}: {outcome:?}");
        assert_eq!(memory.bytes[AT as usize..AT as usize + 24], filled, "op {command}");
    }
}

#[test]
fn status_keeps_the_callers_bytes_where_the_state_has_none() {
    let env = TestEnv::new();
    let ipi = env.engine.bind_ipi(D1, VcpuId(2)).unwrap();
    let unbound = env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
    let (connected, _) = env.pair(D1, D2);
    let virq = env.engine.bind_virq(D1, Virq::DEBUG, VcpuId(3)).unwrap();
    let ask = |port| {
        let u = StatusUnion([0xee; 8]);
        let mut memory = Memory::with(&Status { dom: DomId::SELF, port, u, ..Default::default() });
        assert_eq!(op(&env, D1, Op::STATUS, &mut memory), DONE);
        let status: Status = memory.get(AT);
        (status.status, status.vcpu.0, status.u.0)
    };
    let ee = 0xee;
    assert_eq!(ask(Port(0)), (ChannelStatus::CLOSED, 0, [ee; 8]));
    assert_eq!(ask(ipi), (ChannelStatus::IPI, 2, [ee; 8]));
    assert_eq!(ask(unbound), (ChannelStatus::UNBOUND, 0, [2, 0, ee, ee, ee, ee, ee, ee]));
    assert_eq!(ask(connected), (ChannelStatus::INTERDOMAIN, 0, [2, 0, ee, ee, 1, 0, 0, 0]));
    assert_eq!(ask(virq), (ChannelStatus::VIRQ, 3, [1, 0, 0, 0, ee, ee, ee, ee]));
}

#[test]
fn the_fifo_operations_answer_as_a_xen_without_them() {
    let config = DomainConfig { fifo: false, ..DomainConfig::guest(4) };
    let env = TestEnv::with(Level::Current, config);
    let mut memory = Memory::with(&InitControl { vcpu: VcpuId(99), ..Default::default() });
    assert_eq!(op(&env, D1, Op::INIT_CONTROL, &mut memory), failed(Errno::EOPNOTSUPP));
    assert_eq!(op(&env, D1, Op::EXPAND_ARRAY, &mut memory), failed(Errno::EOPNOTSUPP));
    let priority =
        |port| op(&env, D1, Op::SET_PRIORITY, &mut Memory::with(&SetPriority { port, priority: 99 }));
    assert_eq!(priority(Port(0)), failed(Errno::ENOSYS));
    assert_eq!(priority(Port(64)), failed(Errno::EINVAL));
}

#[test]
fn reset_takes_two_bytes() {
    let env = TestEnv::new();
    env.engine.bind_ipi(D1, V0).unwrap();
    let mut memory = Memory::new();
    memory.put(1022, &Reset { dom: DomId::SELF });
    assert_eq!(env.engine.event_channel_op(D1, Op::RESET.0, 1022, &mut memory), DONE);
    assert_eq!(env.engine.ports_in_use(D1), Ok((0, 0)));
    let again = env.engine.event_channel_op(D1, Op::RESET_CONT.0, 1022, &mut memory);
    assert_eq!(again, failed(Errno::EBUSY));
}

#[test]
fn the_compat_form_has_its_outputs_behind_the_command() {
    let env = TestEnv::new();
    let mut arg = EvtchnOp { cmd: Op::BIND_VIRQ, ..Default::default() };
    arg.set_arguments(&BindVirq { virq: Virq::DEBUG, vcpu: VcpuId(1), ..Default::default() });
    let mut memory = Memory::with(&arg);
    assert_eq!(env.engine.event_channel_op_compat(D1, AT, &mut memory), DONE);
    let result: EvtchnOp = memory.get(AT);
    assert_eq!(result.cmd, Op::BIND_VIRQ);
    assert_eq!(result.arguments::<BindVirq>().unwrap().port, Port(1));
}

#[test]
fn the_compat_form_knows_ops_0_to_9_only() {
    let env = TestEnv::new();
    for command in (10..=16).chain([u32::MAX]).map(Op) {
        let mut memory = Memory::with(&EvtchnOp { cmd: command, ..Default::default() });
        let outcome = env.engine.event_channel_op_compat(D1, AT, &mut memory);
        assert_eq!(outcome, failed(Errno::ENOSYS), "{command}");
    }
    let fault = env.engine.event_channel_op_compat(D1, 1024 - 27, &mut Memory::new());
    assert_eq!(fault, failed(Errno::EFAULT));
}

#[test]
fn the_compat_form_is_for_paravirtual_guests() {
    let config = DomainConfig { kind: DomainKind::Hvm, ..DomainConfig::guest(1) };
    let env = TestEnv::with(Level::Current, config);
    let outcome = env.engine.event_channel_op_compat(D1, u64::MAX, &mut Memory::new());
    assert_eq!(outcome, failed(Errno::ENOSYS));
}

#[test]
fn hypercalls_are_routed_by_number() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, V0).unwrap();
    let mut memory = Memory::with(&Send { port });
    let mut call = |number, args: [u64; 2]| {
        let args = [args[0], args[1], 0, 0, 0];
        env.engine.hypercall(D1, V0, number, args, &mut memory)
    };
    assert_eq!(call(32, [4, AT]), DONE);
    assert_eq!(call(32, [0xffff_ffff_0000_0004, AT]), DONE, "the upper half is no part of an int");
    assert_eq!(call(16, [u64::MAX, 0]), failed(Errno::EFAULT));
    for number in [0, 1, 17, 24, 30, 33, 34, 36, 63, u64::MAX] {
        assert_eq!(call(number, [4, AT]), Outcome::NotMine);
    }
    assert_eq!(call(29, [0, AT]), Outcome::NotMine);
}

fn poll(env: &TestEnv, memory: &mut Memory) -> Outcome {
    env.engine.hypercall(D1, V0, 29, [3, AT, 0, 0, 0], memory)
}

#[test]
fn a_poll_blocks_until_its_deadline() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, VcpuId(1)).unwrap();
    for timeout in [0, 77] {
        let arg = SchedPoll { ports: 0x200, nr_ports: 1, timeout, ..Default::default() };
        let mut memory = Memory::with(&arg);
        memory.put(0x200, &Send { port });
        assert_eq!(poll(&env, &mut memory), Outcome::Block { deadline: NonZeroU64::new(timeout) });
        assert!(env.engine.finish_poll(D1, V0));
    }
    env.set_pending(D1, port, true);
    let mut memory = Memory::with(&SchedPoll { ports: 0x200, nr_ports: 1, ..Default::default() });
    memory.put(0x200, &Send { port });
    assert_eq!(poll(&env, &mut memory), DONE);
}

#[test]
fn a_poll_reads_its_ports_one_at_a_time() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, VcpuId(1)).unwrap();
    let arg = SchedPoll { ports: 1020, nr_ports: 2, ..Default::default() };
    let mut memory = Memory::with(&arg);
    memory.put(1020, &Send { port });
    assert_eq!(poll(&env, &mut memory), failed(Errno::EFAULT), "the second port");
    assert!(!env.engine.is_polling(D1, V0));
    env.set_pending(D1, port, true);
    assert_eq!(poll(&env, &mut memory), DONE, "the second is not looked at");
    memory.put(AT, &SchedPoll { ports: u64::MAX, nr_ports: 129, ..Default::default() });
    assert_eq!(poll(&env, &mut memory), failed(Errno::EINVAL));
}

#[test]
fn a_narrow_guest_has_its_own_form_of_poll() {
    let config = DomainConfig { width: Width::Bits32, ..DomainConfig::guest(2) };
    let env = TestEnv::with(Level::Current, config);
    let port = env.engine.bind_ipi(D1, VcpuId(1)).unwrap();
    let mut memory = Memory::with(&SchedPoll32 { ports: 0x200, nr_ports: 1, timeout: 5 });
    memory.put(0x200, &Send { port });
    assert_eq!(poll(&env, &mut memory), Outcome::Block { deadline: NonZeroU64::new(5) });
}

#[test]
fn a_caller_that_does_not_exist_is_esrch() {
    let env = TestEnv::new();
    let nobody = DomId(77);
    assert_eq!(env.engine.send(nobody, Port(1)), Err(OpError::NoDomain));
    let outcome = op(&env, nobody, Op::BIND_IPI, &mut Memory::new());
    assert_eq!(outcome, failed(Errno::ESRCH));
    assert_eq!(env.engine.alloc_unbound(nobody, D0, D0), Err(OpError::NoDomain));
}
