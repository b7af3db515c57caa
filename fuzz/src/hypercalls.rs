// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls with any number, command, argument and vCPU, from three domains.

use evtchn_abi::{DomId, Hypercall, Op, SchedOp, VcpuId};
use evtchn_engine::Outcome;

use crate::common::state::{Machine, configs};
use crate::input::Input;

/// The guest's memory that hypercalls may name.
const MEMORY: usize = 48;
/// How often a reset that gives way is called again. The hooks here never ask for that.
const AGAIN: u32 = 2;

/// Any hypercalls: each is answered with 0 or an error number, and the books balance.
pub fn hypercalls(input: &[u8]) {
    let machine = Machine::new(&configs());
    let mut input = Input(input);
    let mut count = 0u32;
    while !input.is_empty() {
        hypercall(&machine, DomId(input.below(3) as u16), &mut input);
        count += 1;
        if count.is_multiple_of(32) {
            machine.engine.validate().expect("the books balance");
        }
    }
    machine.engine.validate().expect("the books balance");
}

/// One hypercall of `caller`, as the input says. Most are of event_channel_op.
pub fn hypercall(machine: &Machine, caller: DomId, input: &mut Input<'_>) {
    let kind = input.byte();
    let vcpu = VcpuId(u32::from(kind >> 4) % 5);
    let number = match kind & 15 {
        0 => Hypercall::EVENT_CHANNEL_OP_COMPAT.0,
        1 => Hypercall::SCHED_OP.0,
        2 => u64::from_le_bytes(input.bytes()),
        _ => Hypercall::EVENT_CHANNEL_OP.0,
    };
    let command = match number {
        n if n == Hypercall::SCHED_OP.0 => u64::from(SchedOp::POLL.0),
        _ => u64::from(input.number()),
    };
    let mut memory: [u8; MEMORY] = argument(input);
    let address = if kind & 15 == 3 { u64::from_le_bytes(input.bytes()) } else { 0 };
    let mut args = [command, address, 0, 0, 0];
    if number == Hypercall::EVENT_CHANNEL_OP_COMPAT.0 {
        args[0] = address;
    }
    let call = |args, memory: &mut [u8]| machine.engine.hypercall(caller, vcpu, number, args, memory);
    let mut outcome = call(args, &mut memory);
    for _ in 0..AGAIN {
        if outcome != Outcome::Again {
            break;
        }
        args[0] = Op::RESET_CONT.0.into();
        outcome = call(args, &mut memory);
    }
    match outcome {
        Outcome::Done(answer) => assert!((-133..=0).contains(&answer), "answer {answer}"),
        Outcome::Block { .. } => drop(machine.engine.finish_poll(caller, vcpu)),
        Outcome::Again | Outcome::NotMine => {}
    }
    machine.calls();
}

/// Eight numbers that are small mostly, so that they name ports, domains and frames that exist.
fn argument(input: &mut Input<'_>) -> [u8; MEMORY] {
    let mut memory = [0; MEMORY];
    let words = input.below(4) as usize + 1;
    for word in memory.chunks_exact_mut(4).take(words) {
        word.copy_from_slice(&input.number().to_le_bytes());
    }
    if input.byte() & 1 == 1 {
        // A domain id in half a word, before a port: as bind_interdomain has it.
        memory[2..4].copy_from_slice(&input.bytes::<2>());
    }
    memory
}
