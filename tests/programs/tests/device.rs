// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small programs that use the device in ways that are easy to get wrong, each with bare system calls.

use std::process::Command;

use evtchn_programs_tests::{Finished, Launch, Scratch, Source, skip};

/// Runs the C program `name` in domain 0; `None` without a C compiler.
fn run(name: &str, args: &[&str]) -> Option<Finished> {
    run_with(&["--domain", "0"], name, args)
}

/// Runs the C program `name` with options of `evtchn run`.
fn run_with(options: &[&str], name: &str, args: &[&str]) -> Option<Finished> {
    let scratch = Scratch::new();
    let program = Source::new(name).compile(&scratch)?;
    Some(Launch::new([options, &["--", &program], args].concat()).succeed())
}

fn prints_ok(name: &str, args: &[&str]) {
    prints_ok_with(&["--domain", "0"], name, args);
}

fn prints_ok_with(options: &[&str], name: &str, args: &[&str]) {
    if let Some(finished) = run_with(options, name, args) {
        assert_eq!(finished.stdout, "ok\n", "{finished}");
    }
}

#[test]
fn the_node_is_found_and_opened_in_every_way() {
    prints_ok("names", &[]);
}

#[test]
fn bad_addresses_are_refused_and_change_nothing() {
    prints_ok("bad_pointers", &[]);
}

#[test]
fn poll_select_epoll_and_sigio_report_events() {
    prints_ok("waiting", &[]);
}

#[test]
fn opening_until_no_descriptor_is_left_harms_no_open_file() {
    prints_ok("flood", &["opens"]);
}

#[test]
fn a_program_that_lowers_its_limit_of_descriptors_is_served() {
    prints_ok("flood", &["few"]);
}

#[test]
fn binding_until_no_port_is_left_harms_no_bound_port() {
    // The host's own tests do it with FIFO: so many calls take their time on a busy machine.
    prints_ok_with(&["--abi", "two-level"], "flood", &["ports", "4000"]);
}

#[test]
fn events_come_on_ports_that_only_fifo_has() {
    prints_ok("flood", &["far", "5000"]);
}

#[test]
fn forty_processes_at_once_are_served() {
    prints_ok("flood", &["processes"]);
}

#[test]
fn a_killed_process_leaves_its_peers_port_unbound() {
    prints_ok("killed_peer", &[]);
}

#[test]
fn descriptors_of_one_file_share_it_and_a_reused_number_does_not() {
    prints_ok("shared_files", &[]);
}

#[test]
fn one_event_wakes_one_of_two_blocked_readers() {
    prints_ok("blocked", &["readers"]);
}

#[test]
fn a_signal_breaks_a_blocked_read() {
    prints_ok("blocked", &["signal"]);
}

#[test]
fn a_process_can_end_while_a_thread_is_blocked_in_a_read() {
    prints_ok("blocked", &["exit"]);
}

#[test]
fn descriptors_are_kept_and_closed_over_vfork_and_spawn() {
    prints_ok("new_programs", &[]);
}

#[test]
fn a_static_program_is_served() {
    let scratch = Scratch::new();
    let Some(program) = Source::new("names").with_static_libc().compile(&scratch) else {
        return;
    };
    assert_eq!(Launch::new(["--", &program]).succeed().stdout, "ok\n");
}

#[test]
fn a_program_that_is_not_dumpable_gets_answers() {
    for moment in ["first", "later"] {
        let Some(finished) = run("not_dumpable", &[moment]) else {
            return;
        };
        let answer = finished.stdout.as_str();
        assert!(["served\n", "refused\n"].contains(&answer), "{finished}");
        skip_if_refused(&finished);
    }
}

/// Who may read such a program's memory depends on the user and the kernel, so both answers are right; say which one it was.
fn skip_if_refused(finished: &Finished) {
    if finished.stdout == "refused\n" {
        skip("this user may not serve a program that is not dumpable");
    }
}

#[test]
fn a_virq_comes_at_each_moment_that_was_asked_for() {
    let scratch = Scratch::new();
    let Some(program) = Source::new("virq_counter").compile(&scratch) else {
        return;
    };
    let moments = ["--virq", "12@400", "--virq", "12@800", "--virq", "12@1200"];
    let finished = Launch::new([&moments[..], &["--", &program, "12", "3"]].concat()).succeed();
    assert_eq!(finished.stdout, "counted\n", "{finished}");
}

#[test]
fn a_python_program_is_served() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("no python3");
    }
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/python/loopback.py");
    assert_eq!(Launch::new(["--domain", "0", "--", "python3", program]).succeed().stdout, "ok\n");
}
