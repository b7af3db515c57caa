// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recording of the bare guest, step by step against the engine.
//!
//! The guest has no operating system: it owns its ports, its shared_info and the pages of the FIFO ABI, and its upcalls
//! stay masked. Here its pages are the engine's too. What the guest wrote to them is written again; the results of its
//! hypercalls, and every word that it showed or took, are compared.

mod memory;
mod names;
mod program;
mod view;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use self::{
    memory::Bits,
    program::{Program, Recorded, number, set},
};
use crate::{
    diff::Leaf,
    excuses::Excuses,
    recording::{Level, Recording, Step},
    replay::{answer, broken_invariant, differences},
    report::{Judge, Report},
};

/// Replays every step of the bare guest's recording and compares.
///
/// # Errors
/// The recording is not one of the bare guest, or has a step that is not known here.
pub fn replay_guest(recording: &Recording, excuses: &Excuses) -> Result<Report> {
    let mut program = Program::start().context("setting up")?;
    let mut judge = Judge::new(&recording.name, recording.steps.len(), excuses);
    for step in &recording.steps {
        let at = || format!("{}: {} step {}", recording.name, step.seq, step.step);
        judge.step(step, compare(&mut program, step).with_context(at)?);
    }
    Ok(judge.finish())
}

/// Does what a step did, and says in what it differs. The engine's invariants must hold after it.
fn compare(program: &mut Program, step: &Step) -> Result<Vec<Leaf>> {
    let args = program.names.resolve(&step.args);
    let (ret, out) = match step.level {
        Level::Guest => hypercall(program, &step.op, &args)?,
        Level::Memory => (0, memory(program, &step.op, &args)?),
        Level::Observe => (0, observe(program, step)?),
        level => bail!("a step of the level {level:?} in the bare guest's recording"),
    };
    let mut found = differences(&answer(ret, out), &theirs(step));
    found.extend(broken_invariant(&program.machine));
    Ok(found)
}

/// The recorded answer. A sequence's start has the console's port as an argument; it is ours to give.
fn theirs(step: &Step) -> Value {
    let start = step.op == "begin";
    answer(step.ret, if start { step.args.clone() } else { step.out.clone() })
}

fn hypercall(program: &mut Program, op: &str, args: &Map<String, Value>) -> Result<Recorded> {
    match op {
        "alloc_unbound many" => program.open_ports(true),
        "alloc_unbound until it fails" => program.open_ports(false),
        "expand_array until it fails" => program.expand_until_it_fails(),
        "set_singleshot_timer(past)" => program.timer(),
        "sched_poll" => program.poll(args.get("what").and_then(Value::as_str).context("no `what`")?),
        op => match op.strip_suffix(" when full") {
            Some(op) => program.bind_when_full(op),
            None => program.operation(op, args),
        },
    }
}

fn observe(program: &mut Program, step: &Step) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    match step.op.as_str() {
        "begin" => {
            program.begin(&step.seq)?;
            set(&mut out, "console_port", program.console);
        }
        // The size of the guest and where it found its two ports: given to it, not found out.
        "meta" => out = step.out.clone(),
        "end" => {}
        op => bail!("unknown observation `{op}`"),
    }
    Ok(out)
}

/// What the guest did to its memory, or saw there.
fn memory(program: &mut Program, op: &str, args: &Map<String, Value>) -> Result<Map<String, Value>> {
    let Program { memory, names, console, .. } = program;
    let vcpu = || number(args, "vcpu").map(|vcpu| vcpu as usize);
    let mut out = Map::new();
    match op {
        "observe" => out = view::observed(memory, names, *console),
        "words" => set(&mut out, "pend", view::words(memory)),
        "clear_upcall_and_sel" => memory.clear_upcall_and_selector(vcpu()?),
        "consume" if !memory.fifo => {
            let (selector, ports) = memory.consume_two_level(vcpu()?);
            set(&mut out, "sel_taken", view::hex(selector));
            set(&mut out, "order", view::order_two_level(&ports, names));
        }
        "consume" | "drain" => {
            let (ready, order) = memory.consume_fifo(vcpu()?, op == "drain");
            set(&mut out, "ready_taken", view::hex(ready.into()));
            set(&mut out, "order", view::order_fifo(&order, names));
        }
        op => {
            let (bits, value) = bit_change(op)?;
            memory.put(bits, number(args, "port_raw")?, value);
        }
    }
    Ok(out)
}

/// The bit that an operation on a port's bits changes, and its new value.
fn bit_change(op: &str) -> Result<(Bits, bool)> {
    Ok(match op {
        "set_mask_bit" => (Bits::Masked, true),
        "clear_mask_bit" => (Bits::Masked, false),
        "set_pending_bit" => (Bits::Pending, true),
        "clear_pending_bit" => (Bits::Pending, false),
        op => bail!("unknown operation `{op}`"),
    })
}
