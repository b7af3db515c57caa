// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine answers every hypercall of the stored recordings as the real Xen did, and leaves the same bits.

use evtchn_replay::{Excuses, Recording, Report, Table, replay_hypercalls, workspace::stored};

/// Stored recordings of dom0 with the two-level ABI, with their number of records.
const RECORDINGS: [(&str, usize); 6] = [
    ("xen4.17.7_linux6.1.192_2l.hyper-fixed", 938),
    ("xen4.17.7_linux6.1.192_2l.hyper-random", 14181),
    ("xen4.17.7_linux6.1.192_2l.hyperx-random", 4366),
    ("xen4.20.5_linux7.2.13_2l.hyper-fixed", 938),
    ("xen4.20.5_linux7.2.13_2l.hyper-random", 14181),
    ("xen4.20.5_linux7.2.13_2l.hyperx-random", 4366),
];

fn replay(name: &str, excuses: &Excuses) -> Report {
    replay_hypercalls(&Recording::load(&stored(name)).unwrap(), excuses).unwrap()
}

#[test]
fn every_step_of_the_stored_recordings_agrees_or_is_excused() {
    let excuses = Excuses::load(Table::Hypercalls).unwrap();
    let mut reports = Vec::new();
    for (name, records) in RECORDINGS {
        let report = replay(name, &excuses);
        assert_eq!(report.failure(), None, "{report}");
        assert_eq!(report.compared, records, "every record is compared");
        reports.push(report);
    }
    assert!(excuses.stale(&reports).is_empty(), "not needed: {:?}", excuses.stale(&reports));
}

#[test]
fn a_wrong_result_in_a_recording_is_found_where_it_is() {
    let excuses = Excuses::load(Table::Hypercalls).unwrap();
    let mut recording = Recording::load(&stored(RECORDINGS[0].0)).unwrap();
    let step = recording.steps.iter_mut().find(|s| s.seq == "h.send" && s.op == "send").unwrap();
    step.ret = 0;
    let report = replay_hypercalls(&recording, &excuses).unwrap();
    let found: Vec<_> = report.differences.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["h.send step 1 send: ret: ours -22, Xen's 0"]);
}

#[test]
fn a_wrong_bit_in_a_dump_is_found_where_it_is() {
    let excuses = Excuses::load(Table::Hypercalls).unwrap();
    let mut recording = Recording::load(&stored(RECORDINGS[0].0)).unwrap();
    let dump = recording.steps.iter_mut().find(|s| s.seq == "h.inter.loop" && s.step == 6).unwrap();
    assert_eq!(dump.out["ports"]["p1"]["p"], 1);
    dump.out["ports"]["p1"]["p"] = 0.into();
    let report = replay_hypercalls(&recording, &excuses).unwrap();
    let found: Vec<_> = report.differences.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["h.inter.loop step 6 dump: ports.p1.p: ours 1, Xen's 0"]);
}

#[test]
fn a_wrong_port_number_is_found_where_it_is() {
    let excuses = Excuses::load(Table::Hypercalls).unwrap();
    let mut recording = Recording::load(&stored(RECORDINGS[0].0)).unwrap();
    let last = recording.steps.iter_mut().rfind(|s| s.op == "alloc_unbound" && s.ret == 0).unwrap();
    last.out["port_raw"] = 99.into();
    let report = replay_hypercalls(&recording, &excuses).unwrap();
    assert!(report.differences.iter().any(|d| d.field == "port" && d.theirs == Some(99.into())), "{report}");
}
