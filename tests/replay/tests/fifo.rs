// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine answers the hypercalls of a dom0 with the FIFO ABI as the real Xen did, and leaves the same bits in its event
//! words.

use evtchn_replay::{Excuses, Recording, Report, Table, replay_hypercalls, workspace::stored};

/// Stored recordings of dom0 with the FIFO ABI, with their number of records.
const RECORDINGS: [(&str, usize); 6] = [
    ("xen4.17.7_linux6.1.192_fifo.hyper-fixed", 942),
    ("xen4.17.7_linux6.1.192_fifo.hyper-random", 14181),
    ("xen4.17.7_linux6.1.192_fifo.hyperx-random", 4366),
    ("xen4.20.5_linux7.2.13_fifo.hyper-fixed", 942),
    ("xen4.20.5_linux7.2.13_fifo.hyper-random", 14181),
    ("xen4.20.5_linux7.2.13_fifo.hyperx-random", 4366),
];

fn replay(recording: &Recording) -> Report {
    replay_hypercalls(recording, &Excuses::load(Table::Hypercalls).unwrap()).unwrap()
}

#[test]
fn every_step_of_a_dom0_with_fifo_agrees() {
    for (name, records) in RECORDINGS {
        let report = replay(&Recording::load(&stored(name)).unwrap());
        assert_eq!(report.failure(), None, "{report}");
        assert_eq!(
            (report.compared, report.excused_steps),
            (records, 0),
            "{name}: every record, without excuse"
        );
    }
}

#[test]
fn a_wrong_bit_of_an_event_word_is_found_where_it_is() {
    let mut recording = Recording::load(&stored(RECORDINGS[0].0)).unwrap();
    let dump = recording.steps.iter_mut();
    let dump =
        dump.filter(|s| s.op == "dump").find(|s| s.seq == "h.inter.loop" && s.out["ports"]["p1"].is_object());
    let dump = dump.expect("a dump with p1");
    let step = dump.step;
    let bit = dump.out["ports"]["p1"]["p"].as_u64().unwrap();
    dump.out["ports"]["p1"]["p"] = (1 - bit).into();
    let found: Vec<_> = replay(&recording).differences.iter().map(ToString::to_string).collect();
    assert_eq!(found, [format!("h.inter.loop step {step} dump: ports.p1.p: ours {bit}, Xen's {}", 1 - bit)]);
}
