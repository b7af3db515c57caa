// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two recordings of one device program: Xen's and ours.
//!
//! Compared are, sequence by sequence and in order, the steps of the levels `device` and `hypercall`: operation, arguments,
//! result and outputs. Left out is what depends on the machine: raw port numbers, literal ports in arguments ("the first
//! free one" and such), and the vCPU that a status reports, which Linux chooses. Steps that only a machine with a toolstack
//! records (`observe`, `domctl`, the sequence that has Xen raise VIRQs) are not part of the comparison.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    diff::{Leaf, differing},
    excuses::Excuses,
    recording::{Level, Recording, Step},
    report::{Judge, Report},
};

/// Has Xen raise VIRQs through the toolstack and destroys a domain: not in a recording made without one.
const TOOLSTACK_SEQUENCE: &str = "d.virq.fires";
/// Output and argument fields that depend on the machine, beside those that end in `_raw`.
const MACHINE_FIELDS: [&str; 2] = ["raw", "link"];
/// Fields that hold ports: a symbol, or a literal number that depends on the machine.
const PORT_FIELDS: [&str; 3] = ["port", "remote_port", "ports"];

type Sequences<'a> = Vec<(&'a str, Vec<&'a Step>)>;

/// Compares `ours`, recorded under `evtchn run`, with `xen`, the recording of a real machine.
///
/// A sequence that one side lacks or whose number of steps differs is a difference (`steps`). Where the two programs
/// themselves part (another operation at the same place) the rest of that sequence is not compared.
#[must_use]
pub fn compare_device(xen: &Recording, ours: &Recording, excuses: &Excuses) -> Report {
    let mut judge = Judge::new(&xen.name, xen.steps.len(), excuses);
    let theirs = sequences(xen);
    let mut ours: BTreeMap<&str, Vec<&Step>> = sequences(ours).into_iter().collect();
    for (seq, theirs) in theirs {
        let ours = ours.remove(seq).unwrap_or_default();
        compare_sequence(&mut judge, seq, &ours, &theirs);
    }
    for (seq, ours) in ours {
        judge.sequence(seq, lengths(ours.len(), 0));
    }
    judge.finish()
}

/// The comparable steps, by sequence in order of appearance.
fn sequences(recording: &Recording) -> Sequences<'_> {
    let mut sequences: Sequences<'_> = Vec::new();
    for step in recording.steps.iter().filter(|step| is_comparable(step)) {
        match sequences.last_mut() {
            Some((seq, steps)) if *seq == step.seq => steps.push(step),
            _ => sequences.push((&step.seq, vec![step])),
        }
    }
    sequences
}

fn is_comparable(step: &Step) -> bool {
    matches!(step.level, Level::Device | Level::Hypercall) && step.seq != TOOLSTACK_SEQUENCE
}

fn compare_sequence(judge: &mut Judge<'_>, seq: &str, ours: &[&Step], theirs: &[&Step]) {
    if ours.len() != theirs.len() {
        judge.sequence(seq, lengths(ours.len(), theirs.len()));
    }
    for (ours, theirs) in ours.iter().zip(theirs) {
        judge.step(theirs, differences(ours, theirs));
        if ours.op != theirs.op {
            return;
        }
    }
}

fn lengths(ours: usize, theirs: usize) -> Leaf {
    Leaf { field: "steps".to_owned(), ours: Some(json!(ours)), theirs: Some(json!(theirs)) }
}

fn differences(ours: &Step, theirs: &Step) -> Vec<Leaf> {
    let mut found = Vec::new();
    let (a, b) = (json!(ours.op), json!(theirs.op));
    if a == b {
        differing("", Some(&comparable(ours)), Some(&comparable(theirs)), &mut found);
    } else {
        found.push(Leaf { field: "op".to_owned(), ours: Some(a), theirs: Some(b) });
    }
    found
}

/// A step without what depends on the machine: outputs at the top, arguments below `args`.
fn comparable(step: &Step) -> Value {
    let mut fields = without_machine(&step.out);
    if step.op == "status" {
        fields.remove("vcpu");
    }
    fields.insert("args".to_owned(), Value::Object(without_machine(&step.args)));
    fields.insert("ret".to_owned(), json!(step.ret));
    Value::Object(fields)
}

fn without_machine(fields: &Map<String, Value>) -> Map<String, Value> {
    let kept = fields.iter().filter(|(key, _)| !depends_on_machine(key));
    kept.map(|(key, value)| (key.clone(), without_literal(key, value))).collect()
}

fn depends_on_machine(key: &str) -> bool {
    key.ends_with("_raw") || MACHINE_FIELDS.contains(&key)
}

fn without_literal(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(without_machine(fields)),
        Value::Array(items) => items.iter().map(|item| without_literal(key, item)).collect(),
        Value::Number(_) if PORT_FIELDS.contains(&key) => json!("literal"),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::Difference, workspace::stored};

    fn load(name: &str) -> Recording {
        Recording::load(&stored(name)).unwrap()
    }

    fn compare(xen: &Recording, ours: &Recording) -> Report {
        compare_device(xen, ours, &Excuses::none())
    }

    fn step_at<'a>(recording: &'a mut Recording, seq: &str, step: u32) -> &'a mut Step {
        recording.steps.iter_mut().find(|s| s.seq == seq && s.step == step).unwrap()
    }

    const FIXED: &str = "xen4.17.7_linux6.1.192_2l.dev-fixed";
    const RANDOM: &str = "xen4.17.7_linux6.1.192_2l.dev-random";

    #[test]
    fn a_recording_agrees_with_itself_in_every_compared_step() {
        for (name, compared) in [(FIXED, 791), (RANDOM, 13183)] {
            let recording = load(name);
            let report = compare(&recording, &recording);
            assert_eq!((report.compared, report.failure()), (compared, None), "{name}");
        }
    }

    #[test]
    fn random_device_programs_agree_over_abis_and_versions() {
        let two_level = load(RANDOM);
        for other in ["xen4.17.7_linux6.1.192_fifo.dev-random", "xen4.20.5_linux7.2.13_2l.dev-random"] {
            let report = compare(&two_level, &load(other));
            assert_eq!(report.failure(), None, "{report}");
            assert_eq!(report.compared, 13183);
        }
    }

    #[test]
    fn linux_6_1_and_7_2_differ_only_about_static_ports() {
        let report = compare(&load(FIXED), &load("xen4.20.5_linux7.2.13_2l.dev-fixed"));
        let places: Vec<_> = report.differences.iter().map(|d| (&*d.seq, &*d.op, &*d.field)).collect();
        assert_eq!(
            places,
            [
                ("d.ioctl.fault", "ioctl_fault", "ret"),
                ("d.ioctl.fault", "ioctl_fault", "ret"),
                ("d.static", "sequence", "steps"),
                ("d.static", "BIND_STATIC", "ret"),
                ("d.static", "close", "op"),
            ],
            "{report}"
        );
    }

    #[test]
    fn one_changed_result_is_exactly_one_difference() {
        let xen = load(FIXED);
        let mut ours = xen.clone();
        step_at(&mut ours, "d.open", 3).ret = 0;
        let expected = Difference {
            seq: "d.open".into(),
            step: 3,
            op: "lseek".into(),
            field: "ret".into(),
            ours: Some(json!(0)),
            theirs: Some(json!(-29)),
        };
        assert_eq!(compare(&xen, &ours).differences, [expected]);
    }

    #[test]
    fn outputs_and_arguments_are_compared() {
        let xen = load(FIXED);
        let mut ours = xen.clone();
        step_at(&mut ours, "d.open", 2).out["revents"] = json!(1);
        step_at(&mut ours, "d.open", 3).args["offset"] = json!(7);
        let fields: Vec<_> = compare(&xen, &ours).differences.into_iter().map(|d| d.field).collect();
        assert_eq!(fields, ["revents", "args.offset"]);
    }

    #[test]
    fn raw_ports_literal_ports_and_chosen_vcpus_are_not_compared() {
        let xen = load(FIXED);
        let mut ours = xen.clone();
        for step in &mut ours.steps {
            for (key, value) in step.args.iter_mut().chain(&mut step.out) {
                if key.ends_with("_raw") || (key == "port" && value.is_number()) {
                    *value = json!(4242);
                }
            }
            if step.op == "status" && step.ret == 0 {
                step.out["vcpu"] = json!(77);
            }
        }
        assert_eq!(compare(&xen, &ours).failure(), None);
    }

    #[test]
    fn what_only_a_toolstack_records_may_be_missing() {
        let xen = load(FIXED);
        let mut ours = xen.clone();
        ours.steps
            .retain(|s| s.seq != TOOLSTACK_SEQUENCE && !matches!(s.level, Level::Observe | Level::Domctl));
        (0..).zip(&mut ours.steps).for_each(|(at, step)| step.step = at);
        assert_eq!(compare(&xen, &ours).failure(), None);
    }

    #[test]
    fn a_missing_sequence_and_a_missing_step_are_differences() {
        let xen = load(FIXED);
        let mut ours = xen.clone();
        ours.steps.retain(|s| s.seq != "d.dup" && !(s.seq == "d.reset" && s.op == "close"));
        let report = compare(&xen, &ours);
        let found: Vec<_> = report.differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "d.reset step 0 sequence: steps: ours 12, Xen's 13",
                "d.dup step 0 sequence: steps: ours 0, Xen's 15",
            ]
        );
        assert_eq!(compare(&ours, &xen).differences.len(), 2);
    }

    #[test]
    fn after_the_programs_part_a_sequence_is_not_compared_further() {
        let xen = load(FIXED);
        let mut ours = xen.clone();
        let at = ours.steps.iter().position(|s| s.seq == "d.open" && s.step == 2).unwrap();
        ours.steps.remove(at);
        let fields: Vec<_> = compare(&xen, &ours).differences.into_iter().map(|d| d.field).collect();
        assert_eq!(fields, ["steps", "op"]);
    }
}
