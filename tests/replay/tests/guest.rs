// SPDX-License-Identifier: MIT OR Apache-2.0
//! The bare guest sees in its memory, and is answered, what it saw and was answered on the real Xen: with both ABIs, each
//! word of them.

use evtchn_replay::{Excuses, Level, Recording, Report, Step, Table, replay_guest, workspace::stored};

/// The stored recording, and its number of records.
const RECORDING: (&str, usize) = ("xen4.17.7.guest", 20_148);

fn load() -> Recording {
    Recording::load(&stored(RECORDING.0)).unwrap()
}

fn excuses() -> Excuses {
    Excuses::load(Table::Guest).unwrap()
}

/// The recording up to and with a sequence.
fn until(seq: &str) -> Recording {
    let mut recording = load();
    let last = recording.steps.iter().rposition(|step| step.seq == seq).unwrap();
    recording.steps.truncate(last + 1);
    recording
}

fn step<'a>(recording: &'a mut Recording, seq: &str, number: u32) -> &'a mut Step {
    recording.steps.iter_mut().find(|step| step.seq == seq && step.step == number).unwrap()
}

fn differences(recording: &Recording) -> Vec<String> {
    let report: Report = replay_guest(recording, &excuses()).unwrap();
    report.differences.iter().map(ToString::to_string).collect()
}

#[test]
fn every_step_of_the_bare_guest_agrees_and_every_excuse_is_needed() {
    let (recording, excuses) = (load(), excuses());
    let report = replay_guest(&recording, &excuses).unwrap();
    assert_eq!(report.failure(), None, "{report}");
    assert_eq!((report.compared, recording.steps.len()), (RECORDING.1, RECORDING.1), "every record");
    let stale = excuses.stale(&[report]);
    assert!(stale.is_empty(), "not needed: {stale:?}");
}

#[test]
fn the_recording_is_about_both_abis_and_their_memory() {
    let steps = load().steps;
    let count = |holds: &dyn Fn(&Step) -> bool| steps.iter().filter(|step| holds(step)).count();
    assert_eq!(count(&|step| step.level == Level::Guest), 11_665);
    assert_eq!(count(&|step| step.level == Level::Memory), 8216);
    assert_eq!(count(&|step| step.op == "observe" && step.out["vcpu0"].get("heads").is_some()), 2250);
    assert_eq!(count(&|step| step.op == "drain"), 200);
}

#[test]
fn a_wrong_event_word_is_found_where_it_is() {
    let mut recording = until("g.fifo.switch");
    let word = &mut step(&mut recording, "g.fifo.switch", 20).out["ports"]["p0"]["word"];
    assert_eq!(*word, "0xa0000003");
    *word = "0xa0000004".into();
    assert_eq!(
        differences(&recording),
        ["g.fifo.switch step 20 observe: ports.p0.word: ours 0xa0000003, Xen's 0xa0000004"]
    );
}

#[test]
fn a_wrong_order_of_a_queue_is_found_where_it_is() {
    let mut recording = until("g.fifo.switch");
    step(&mut recording, "g.fifo.switch", 21).out["order"].as_array_mut().unwrap().swap(0, 1);
    let found = differences(&recording);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("g.fifo.switch step 21 consume: order: ours [{"), "{found:?}");
}

#[test]
fn a_wrong_selector_is_found_where_it_is() {
    let mut recording = until("g.2l.basic");
    step(&mut recording, "g.2l.basic", 3).out["vcpu0"]["sel"] = "0x3".into();
    assert_eq!(differences(&recording), ["g.2l.basic step 3 observe: vcpu0.sel: ours 0x1, Xen's 0x3"]);
}
