// SPDX-License-Identifier: MIT OR Apache-2.0
//! The unmodified recorder prints under `evtchn run` what it printed on the real Xen.

use std::thread;

use evtchn_replay::{
    Excuses, Recording, Report, Table, compare_device,
    recorder::{Run, Tools},
    workspace::stored,
};

/// The seed of the stored random recordings.
const SEED: u64 = 20;
/// Waits of the recorder after a step: none at all, and long enough for any thread to be scheduled.
const SETTLES_US: [u32; 2] = [0, 2000];

/// Stored recordings of the device programs: on both machines, with both ABIs, in domain 0 and in a guest.
const RECORDINGS: [&str; 8] = [
    "xen4.17.7_linux6.1.192_2l.dev-fixed",
    "xen4.20.5_linux7.2.13_2l.dev-fixed",
    "xen4.17.7_linux6.1.192_2l.dev-random",
    "xen4.20.5_linux7.2.13_2l.dev-random",
    "xen4.17.7_linux6.1.192_fifo.dev-fixed",
    "xen4.20.5_linux7.2.13_fifo.dev-fixed",
    "xen4.17.7_linux6.1.192_fifo.dev-random",
    "xen4.17.7_linux6.1.192_domu.dev-fixed",
];

/// Runs the program of a stored recording with each wait and compares what it prints.
fn compare(tools: &Tools, name: &str) -> [Report; SETTLES_US.len()] {
    let xen = Recording::load(&stored(name)).unwrap();
    let excuses = Excuses::load(Table::Device).unwrap();
    SETTLES_US.map(|settle_us| {
        let run = Run { seed: SEED, settle_us: Some(settle_us) };
        let ours = tools.record(&xen, run).unwrap();
        // So a program's first port has the same number.
        assert!(ours.meta.ports.keys().eq(xen.meta.ports.keys()), "{name}: the kernel's ports");
        let report = compare_device(&xen, &ours, &excuses);
        assert_eq!(report.failure(), None, "with ORACLE_SETTLE_US={settle_us}: {report}");
        report
    })
}

#[test]
fn the_device_programs_print_what_they_printed_on_xen_and_every_excuse_is_needed() {
    let tools = Tools::build().unwrap();
    let reports: Vec<Report> = thread::scope(|scope| {
        let runs = RECORDINGS.map(|name| scope.spawn(|| compare(&tools, name)));
        runs.into_iter().flat_map(|run| run.join().expect("the comparison passes")).collect()
    });
    let excuses = Excuses::load(Table::Device).unwrap();
    assert!(excuses.stale(&reports).is_empty(), "not needed: {:?}", excuses.stale(&reports));
}
