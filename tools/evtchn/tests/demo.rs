// SPDX-License-Identifier: MIT OR Apache-2.0
//! `evtchn demo` as a user runs it.

use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evtchn"));
    command.arg("demo").args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn count(traffic: &Value, name: &str) -> u64 {
    traffic[name].as_u64().unwrap_or_else(|| panic!("no {name} in {traffic}"))
}

#[test]
fn every_event_is_delivered_or_coalesced() {
    let output = demo(&["--seconds", "1", "--json"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no progress without a terminal");
    let report = json(&output);
    assert_eq!(count(&report, "lost"), 0);
    assert_eq!(report["complete"], true);
    for traffic in [&report["ping_pong"], &report["flood"]] {
        assert!(count(traffic, "sent") > 0);
        assert_eq!(count(traffic, "sent"), count(traffic, "delivered") + count(traffic, "coalesced"));
    }
}

#[test]
fn taking_turns_coalesces_nothing_and_takes_longer_there_and_back() {
    let report = json(&demo(&["--seconds", "1", "--json"]).output().unwrap());
    let ping_pong = &report["ping_pong"];
    assert_eq!(count(ping_pong, "coalesced"), 0);
    let (there, there_and_back) = (&ping_pong["latency_ns"], &ping_pong["round_trip_ns"]);
    assert!(count(there, "p50") < count(there_and_back, "p50"));
    for times in [there, there_and_back] {
        let ascending = ["p50", "p90", "p99", "p99_9", "max"].map(|name| count(times, name));
        assert!(ascending.is_sorted(), "{times}");
    }
}

#[test]
fn people_get_a_table_and_the_next_step() {
    let output = demo(&["--seconds", "1"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("events sent") && text.contains("p99.9"), "{text}");
    let command = concat!("way:  ", env!("CARGO_BIN_EXE_evtchn"), " run -- ./program\n");
    assert!(text.ends_with(command), "{text}");
}

#[test]
fn a_demo_whose_receiver_is_killed_fails() {
    let child = demo(&["--seconds", "2", "--json"]).spawn().unwrap();
    let receiver = receiver_of(&child);
    std::thread::sleep(Duration::from_millis(300));
    kill_process(receiver, Signal::KILL).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    // Whether an event was lost depends on what the receiver was doing.
    assert_eq!(json(&output)["complete"], false);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.lines().all(|line| line.starts_with("evtchn: demo: ")), "{complaint}");
    assert!(complaint.contains(" (domain 1, process ") && complaint.contains(" was killed by SIGKILL\n"));
    let last = complaint.lines().last().unwrap_or_default();
    assert!(last.starts_with("evtchn: demo: ") && last.contains("hint"), "{complaint}");
}

#[test]
fn a_demo_that_the_user_interrupts_ends_in_silence() {
    let child = demo(&["--seconds", "30"]).process_group(0).spawn().unwrap();
    receiver_of(&child);
    kill_process_group(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(Signal::INT.as_raw()), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

/// The demo's receiving program, once it runs.
fn receiver_of(demo: &Child) -> Pid {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        let found = descendants(demo.id() as i32).into_iter().find(|&process| {
            let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
            words.split(|&byte| byte == 0).any(|word| word == b"demo-receiver")
        });
        if let Some(pid) = found.and_then(Pid::from_raw) {
            return pid;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no receiver below {}", demo.id());
}

fn descendants(process: i32) -> Vec<i32> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let children = list.split_whitespace().filter_map(|word| word.parse().ok());
    children.flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}
