// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hypercall recording, step by step against the engine.
//!
//! Every record is compared: results and outputs of hypercalls with raw port numbers (the engine must give out the same
//! ones), the toolstack's actions on the second domain, the ports in use at the start of each sequence, and in each dump the
//! pending and mask bits in guest memory, the state, the notified vCPU and the consumer. `link` is left out: it depends on
//! when the recorded kernel looked.

use anyhow::{Context, Result, bail};
use evtchn_engine::Outcome;
use serde_json::{Map, Value, json};

use crate::{
    boot::boot,
    diff::{Leaf, differing},
    excuses::Excuses,
    guest::replay_guest,
    hypercall::Call,
    machine::{Machine, Row},
    recording::{Level, Recording, Step},
    report::{Judge, Report},
    symbols::{InSecond, Symbols, with_raw_numbers},
};

/// The recorder looks at this many of the next free ports when a sequence begins.
const LOOKED_AT: usize = 24;
/// The recorder asks for the status of the ports below this when a sequence begins.
const STATUS_BELOW: u32 = 128;
/// Where the search for the first invalid port ends.
const SEARCH_BELOW: u32 = 1 << 20;

/// Replays a recording, whichever of the two programs made it: hypercalls of a domain with a kernel, or the bare guest.
///
/// # Errors
/// As [`replay_hypercalls`] and [`replay_guest`].
pub fn replay(recording: &Recording, excuses: &Excuses) -> Result<Report> {
    if recording.is_guest() {
        replay_guest(recording, excuses)
    } else {
        replay_hypercalls(recording, excuses)
    }
}

/// Replays every step of a hypercall recording and compares the answers.
///
/// # Errors
/// The recording is not one of hypercalls, or has a step that is not known here.
pub fn replay_hypercalls(recording: &Recording, excuses: &Excuses) -> Result<Report> {
    recording.ensure_replayable()?;
    let machine = boot(&recording.meta).with_context(|| format!("{}: setting up", recording.name))?;
    let mut replay = Replay { machine, symbols: Symbols::default(), masks_known: false };
    let mut judge = Judge::new(&recording.name, recording.steps.len(), excuses);
    for step in &recording.steps {
        let at = || format!("{}: {} step {}", recording.name, step.seq, step.step);
        judge.step(step, replay.step(step).with_context(at)?);
    }
    Ok(judge.finish())
}

/// A replay under way.
struct Replay {
    machine: Machine,
    symbols: Symbols,
    /// Whether the mask bits have been set from a recorded sequence's start before.
    masks_known: bool,
}

impl Replay {
    /// Does what a step did, and says in what it differs. The engine's invariants must hold after it.
    fn step(&mut self, step: &Step) -> Result<Vec<Leaf>> {
        let mut found = match step.level {
            Level::Hypercall => differences(&self.hypercall(step)?, &recorded(step)),
            Level::Domctl => differences(&self.domctl(step)?, &recorded(step)),
            Level::Observe => self.observe(step)?,
            level => bail!("a step of the level {level:?} in a hypercall recording"),
        };
        found.extend(broken_invariant(&self.machine));
        Ok(found)
    }

    fn hypercall(&mut self, step: &Step) -> Result<Value> {
        let call = Call::recorded(step)?;
        let done = self.machine.call(&call);
        let ret = done.ret()?;
        let mut out = call.outputs(ret, &done.block, &self.symbols);
        if !done.kept_to_block {
            out.insert("memory".to_owned(), json!("written behind the block"));
        }
        self.name_new_port(step);
        Ok(answer(ret, out))
    }

    /// Keeps the name of a port that the recorded call returned.
    fn name_new_port(&mut self, step: &Step) {
        let (Some(name), Some(raw)) = (step.out.get("port"), step.out.get("port_raw")) else {
            return;
        };
        if let (Some(name), Some(raw)) = (name.as_str(), number(raw)) {
            let in_second = step.op == "alloc_unbound" && step.args.get("dom").is_some_and(|dom| dom == "X");
            self.symbols.name(in_second, raw, name);
        }
    }

    /// The toolstack's actions on the second domain.
    fn domctl(&mut self, step: &Step) -> Result<Value> {
        if step.op == "create_domain" {
            return self.create_second(step);
        }
        let id = self.symbols.second().context("there is no second domain")?;
        let done = match step.op.as_str() {
            "pause" => self.machine.pause(id, true),
            "unpause" => self.machine.pause(id, false),
            "destroy" => self.machine.destroy(id),
            op => bail!("unknown action `{op}`"),
        };
        let ret = done.map_or_else(|error| error.errno().negated(), |()| 0);
        Ok(answer(ret, Map::new()))
    }

    /// Creates the second domain with the id that the recorded Xen chose.
    fn create_second(&mut self, step: &Step) -> Result<Value> {
        let argument =
            |name: &str| step.args.get(name).and_then(number).with_context(|| format!("no `{name}`"));
        let id = step.out.get("dom_raw").and_then(number).context("no `dom_raw`")?;
        let id = u16::try_from(id)?;
        self.machine.create_second(id, argument("max_evtchn_port")?, argument("max_vcpus")?)?;
        self.symbols.created(id);
        Ok(json!({ "ret": 0, "dom": id }))
    }

    fn observe(&mut self, step: &Step) -> Result<Vec<Leaf>> {
        let ours = match step.op.as_str() {
            "begin" => self.begin(step)?,
            "dump" => json!({ "ports": self.dump() }),
            "valid_limit" => json!({ "first_invalid": self.first_invalid() }),
            op => bail!("unknown observation `{op}`"),
        };
        Ok(differences(&ours, &without_links(&step.out)))
    }

    /// Starts a sequence as the recorder does: takes the next free ports to look at their mask bits, gives them back, and
    /// asks which ports are in use.
    fn begin(&mut self, step: &Step) -> Result<Value> {
        self.symbols.begin();
        let ports = self.next_free_ports()?;
        let mut ours = json!({ "used": self.used() });
        if let Some(unmasked) = step.out.get("unmasked") {
            ours["unmasked"] = self.unmasked(&ports, unmasked);
            self.set_masks(&ports, unmasked)?;
        }
        Ok(ours)
    }

    fn next_free_ports(&mut self) -> Result<Vec<u32>> {
        let ports: Vec<u32> = (0..LOOKED_AT).map_while(|_| self.machine.allocate().ok()).collect();
        ports.iter().rev().try_for_each(|port| self.machine.close(*port))?;
        Ok(ports)
    }

    /// Those of `ports` that are not masked; before the first recorded state is known, that one.
    fn unmasked(&self, ports: &[u32], recorded: &Value) -> Value {
        if !self.masks_known {
            return recorded.clone();
        }
        ports.iter().filter(|port| !self.machine.is_masked(**port)).map(|port| json!(port)).collect()
    }

    /// Sets the mask bits of `ports` as recorded: they are guest memory, and earlier programs have left them.
    fn set_masks(&mut self, ports: &[u32], unmasked: &Value) -> Result<()> {
        let unmasked = unmasked.as_array().map(Vec::as_slice).unwrap_or_default();
        for port in ports {
            self.machine.set_masked(*port, !unmasked.contains(&json!(port)))?;
        }
        self.masks_known = true;
        Ok(())
    }

    fn used(&mut self) -> Vec<u32> {
        (1..STATUS_BELOW).filter(|port| self.machine.is_used(*port)).collect()
    }

    fn first_invalid(&mut self) -> Option<u32> {
        (0..SEARCH_BELOW).find(|port| self.machine.status(*port).outcome != Outcome::Done(0))
    }

    /// The named ports that are not free, as the debug key prints them.
    fn dump(&self) -> Value {
        let row = |(in_second, port, name): (InSecond, u32, &str)| {
            let domain = if in_second { self.symbols.second()? } else { self.machine.id() };
            Some((name.to_owned(), row_json(port, self.machine.row(domain, port)?)))
        };
        Value::Object(self.symbols.ports().filter_map(row).collect())
    }
}

fn row_json(port: u32, row: Row) -> Value {
    let Row { pending, masked, state, vcpu, consumer } = row;
    json!({ "raw": port, "p": u8::from(pending), "m": u8::from(masked), "s": state, "n": vcpu, "x": consumer })
}

/// A dump without the `link` of each port.
fn without_links(out: &Map<String, Value>) -> Value {
    let mut out = out.clone();
    if let Some(Value::Object(ports)) = out.get_mut("ports") {
        ports.values_mut().filter_map(Value::as_object_mut).for_each(|row| drop(row.remove("link")));
    }
    Value::Object(out)
}

/// The recorded answer of a step.
fn recorded(step: &Step) -> Value {
    answer(step.ret, with_raw_numbers(&step.out))
}

/// What is wrong with the engine's own bookkeeping, as a difference.
pub(crate) fn broken_invariant(machine: &Machine) -> Option<Leaf> {
    let text = machine.broken_invariant()?;
    Some(Leaf { field: "invariant".to_owned(), ours: Some(json!(text)), theirs: None })
}

/// A result and outputs as one value.
pub(crate) fn answer(ret: i64, mut out: Map<String, Value>) -> Value {
    out.insert("ret".to_owned(), json!(ret));
    Value::Object(out)
}

/// The leaves in which two values differ.
pub(crate) fn differences(ours: &Value, theirs: &Value) -> Vec<Leaf> {
    let mut found = Vec::new();
    differing("", Some(ours), Some(theirs), &mut found);
    found
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::stored;

    #[test]
    fn an_unprivileged_domain_is_answered_as_by_xen() {
        let recording = Recording::load(&stored("xen4.17.7_linux6.1.192_domu.hyper-fixed")).unwrap();
        let report = replay_hypercalls(&recording, &Excuses::none()).unwrap();
        assert_eq!((report.compared, report.failure()), (692, None), "{report}");
    }
}
