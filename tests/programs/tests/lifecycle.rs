// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting and ending: statuses, signals, daemons, standard input and output.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use evtchn_programs_tests::{Finished, Launch, Scratch, Source, evtchn, wait_until};
use rustix::process::Signal;

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Launch {
    Launch::new(["--", "sh", "-c", script])
}

#[test]
fn the_programs_exit_status_is_passed_on() {
    for status in [0, 1, 7, 255] {
        assert_eq!(shell(&format!("exit {status}")).finish().status.code(), Some(status));
    }
}

#[test]
fn a_programs_death_by_a_signal_is_passed_on() {
    for (name, number) in [("KILL", 9), ("TERM", 15)] {
        let finished = shell(&format!("kill -{name} $$")).finish();
        assert_eq!(finished.shell_status(), 128 + number, "{finished}");
    }
}

#[test]
fn standard_input_and_output_are_the_programs() {
    let input: Vec<u8> = (0..200_000).flat_map(|line: u32| format!("{line}\n").into_bytes()).collect();
    let finished = Launch::new(["--", "cat"]).input(&input).succeed();
    assert_eq!(finished.stdout.as_bytes(), input);
}

#[test]
fn output_and_complaints_stay_apart() {
    let finished = shell("echo out; echo err >&2").succeed();
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
}

#[test]
fn arguments_and_environment_arrive_unchanged() {
    let args =
        ["--", "sh", "-c", "printf '<%s>' \"$VARIABLE\" \"$@\"", "sh", "a b", "", "--domain", "--", "*"];
    let finished = Launch::new(args).env("VARIABLE", "x y").succeed();
    assert_eq!(finished.stdout, "<x y><a b><><--domain><--><*>");
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let finished = Launch::new(["--", "/nonexistent/program"]).finish();
    assert_eq!(finished.status.code(), Some(127), "{finished}");
    assert!(finished.stderr.contains("/nonexistent/program"), "{finished}");
}

#[test]
fn a_program_that_is_in_no_folder_of_path_is_not_found_there() {
    let finished = Launch::new(["--", "nonexistent-program"]).finish();
    assert_eq!(finished.status.code(), Some(127), "{finished}");
    assert_eq!(finished.stderr, "evtchn: run: nonexistent-program: not found in PATH\n");
}

#[test]
fn a_script_in_path_without_its_interpreter_is_not_said_to_be_missing_there() {
    let scratch = Scratch::new();
    let script = scratch.path().join("script");
    std::fs::write(&script, "#!/nonexistent/interpreter\n").expect("the script can be written");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("it can be made executable");
    let finished = Launch::new(["--", "script"]).env("PATH", scratch.path()).finish();
    assert_eq!(finished.status.code(), Some(127), "{finished}");
    assert_eq!(finished.stderr, "evtchn: run: script: No such file or directory (os error 2)\n");
}

#[test]
fn a_file_that_is_no_program_is_named() {
    let finished = Launch::new(["--", "/dev"]).finish();
    assert_eq!(finished.status.code(), Some(126), "{finished}");
    assert!(finished.stderr.contains("/dev"), "{finished}");
}

#[test]
fn a_missing_program_and_a_mistyped_option_are_wrong_usage() {
    let (before, after) = ("a program is missing before --and", "a program is missing after --and");
    for (words, complaint) in [
        ("", "a program is missing (hint: "),
        ("--domain 1", "a program is missing (hint: "),
        ("--and true", before),
        ("--domain 3 --and true", before),
        ("-- --and true", before),
        ("true --and", after),
        ("true --and --", after),
        ("true --and --and true", after),
        ("true --and --domain 3", after),
        ("--bogus true", "--bogus: no such option (hint: a program's own options come after its name"),
        ("true --and --bogus true", "--bogus: no such option (hint: "),
        ("--domian 1 true", "--domian: no such option (hint: there is --domain)"),
        ("true --and --xen 4.17 true", "--xen: not allowed after --and (hint: "),
    ] {
        let finished = Launch::new(words.split_whitespace()).finish();
        assert_eq!(finished.status.code(), Some(2), "{words}: {finished}");
        let begins = format!("evtchn: run: {complaint}");
        assert!(finished.stderr.starts_with(&begins) && finished.stderr.lines().count() == 1, "{finished}");
    }
}

#[test]
fn the_failure_of_a_program_in_the_background_is_told() {
    let finished = Launch::new(["--", "sh", "-c", "exit 3", "--and", "--", "sleep", "0.3"]).finish();
    assert_eq!(finished.status.code(), Some(0), "{finished}");
    let line = told(&finished);
    assert!(line.starts_with("evtchn: run: sh (domain 0, process "), "{finished}");
    assert!(line.ends_with(") ended with status 3"), "{finished}");
}

/// What evtchn said, without what the program did.
fn told(finished: &Finished) -> &str {
    finished.stderr.lines().find(|line| line.starts_with("evtchn: ")).unwrap_or_default()
}

#[test]
fn a_crash_is_told_with_the_program_and_the_signal() {
    for name in ["SEGV", "BUS", "ILL", "FPE", "ABRT", "SYS"] {
        let crash = format!("kill -{name} $$");
        for words in [
            &["--domain", "4", "--", "sh", "-c", &crash][..],
            &["--domain", "4", "--", "sh", "-c", &crash, "--and", "--", "sleep", "0.3"],
        ] {
            let finished = Launch::new(words).finish();
            let line = told(&finished);
            assert!(line.starts_with("evtchn: run: sh (domain 4, process "), "{words:?}: {finished}");
            assert!(line.ends_with(&format!(") was killed by SIG{name}")), "{words:?}: {finished}");
        }
    }
}

#[test]
fn a_program_beside_the_last_one_that_somebody_kills_is_told() {
    let finished = Launch::new(["--", "sh", "-c", "kill -TERM $$", "--and", "--", "sleep", "0.3"]).finish();
    assert!(told(&finished).ends_with(" was killed by SIGTERM"), "{finished}");
}

#[test]
fn a_single_program_that_is_asked_to_end_is_not_news() {
    for name in ["INT", "TERM", "KILL"] {
        let finished = shell(&format!("kill -{name} $$")).finish();
        assert_eq!(finished.stderr, "", "{finished}");
    }
}

#[test]
fn what_the_user_ends_all_programs_with_is_not_news() {
    for signal in [Signal::INT, Signal::TERM] {
        let scratch = Scratch::new();
        let (wait, dir) = ("echo > \"$0/$1\"; exec sleep 60", scratch.arg());
        let (first, last) = (["--", "sh", "-c", wait, &dir, "a"], ["--", "sh", "-c", wait, &dir, "b"]);
        let running = Launch::new([&first[..], &["--and"], &last].concat()).start();
        let up = || scratch.path().join("a").exists() && scratch.path().join("b").exists();
        assert!(wait_until(SOON, up), "the programs did not start");
        running.signal(signal);
        let finished = running.finish();
        assert_eq!(finished.shell_status(), 128 + signal.as_raw(), "{finished}");
        assert_eq!(finished.stderr, "", "{finished}");
    }
}

#[test]
fn a_program_whose_filter_is_refused_does_not_run() {
    let scratch = Scratch::new();
    let evtchn = evtchn().to_string_lossy().into_owned();
    // Whether the program is quicker than its end is a race: more folders to look for libraries in would make it slower.
    let nested = ["--", "env", "-u", "LD_LIBRARY_PATH", &evtchn, "run", "--", "touch"];
    for attempt in 0..20 {
        let file = scratch.path().join(attempt.to_string()).to_string_lossy().into_owned();
        let finished = Launch::new([&nested[..], &[&file]].concat()).finish();
        assert_eq!(finished.status.code(), Some(1), "{finished}");
        assert!(finished.stderr.contains("another seccomp supervisor"), "{finished}");
    }
    let made = std::fs::read_dir(scratch.path()).expect("the folder is there").count();
    assert_eq!(made, 0, "programs ran");
}

#[test]
fn what_is_left_behind_ends_with_an_interrupt() {
    let left = Launch::new(["--", "sh", "-c", "setsid sleep 60 & exit 5"]).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    left.signal(Signal::INT);
    assert_eq!(left.finish().status.code(), Some(5));
}

#[test]
fn programs_joined_by_and_run_side_by_side_and_the_last_one_decides() {
    let scratch = Scratch::new();
    let wait = "until [ -e \"$0/b\" ]; do sleep 0.01; done; echo a; echo > \"$0/a\"; exit 3";
    let tell = "echo > \"$0/b\"; until [ -e \"$0/a\" ]; do sleep 0.01; done; echo b; exit 4";
    let dir = scratch.arg();
    let first = ["--", "sh", "-c", wait, &dir];
    let last = ["--domain", "3", "--", "sh", "-c", tell, &dir];
    let finished = Launch::new([&first[..], &["--and"], &last].concat()).finish();
    let outcome = (finished.stdout.as_str(), finished.status.code());
    assert_eq!(outcome, ("a\nb\n", Some(4)), "{finished}");
}

#[test]
fn the_others_are_asked_to_end_when_the_last_program_has_ended() {
    let scratch = Scratch::new();
    let server = "trap 'echo asked; exit' TERM; echo > \"$0/up\"; while :; do sleep 0.01; done";
    let (dir, wait) = (scratch.arg(), "until [ -e \"$0/up\" ]; do sleep 0.01; done");
    let (first, last) = (["--", "sh", "-c", server, &dir], ["--", "sh", "-c", wait, &dir]);
    let finished = Launch::new([&first[..], &["--and"], &last].concat()).succeed();
    assert_eq!(finished.stdout, "asked\n");
}

/// Starts a program that waits for ever, ends `evtchn` by a signal, and requires that the program ends too.
fn program_ends_with(signal: Signal) {
    let scratch = Scratch::new();
    let running = Launch::new([
        "--",
        "sh",
        "-c",
        "echo $$ > \"$0/new\"; mv \"$0/new\" \"$0/pid\"; exec sleep 1000",
        &scratch.arg(),
    ])
    .start();
    assert!(wait_until(SOON, || !scratch.read("pid").is_empty()), "the program did not start");
    let process = format!("/proc/{}", scratch.read("pid"));
    running.signal(signal);
    assert!(wait_until(SOON, || ended(&process)), "the program outlived evtchn");
    assert_ne!(running.finish().shell_status(), 0);
}

/// Gone, or only waiting for its parent to take note.
fn ended(process: &str) -> bool {
    let status = std::fs::read_to_string(Path::new(process).join("status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

#[test]
fn programs_are_killed_when_evtchn_is_killed() {
    program_ends_with(Signal::KILL);
}

#[test]
fn programs_end_when_evtchn_is_asked_to_end() {
    program_ends_with(Signal::TERM);
}

#[test]
fn an_interrupt_sent_to_evtchn_alone_is_passed_on() {
    program_ends_with(Signal::INT);
    program_ends_with(Signal::QUIT);
}

#[test]
fn a_daemon_is_served_after_its_parent_has_ended() {
    let scratch = Scratch::new();
    let Some(program) = Source::new("daemon").compile(&scratch) else {
        return;
    };
    let finished = Launch::new(["--domain", "0", "--", &program, &scratch.arg()]).succeed();
    assert!(wait_until(SOON, || scratch.read("result") == "1"), "{finished}");
}

#[test]
fn a_program_that_does_not_use_the_device_is_left_alone() {
    let finished = shell("ls / >/dev/null && cat /proc/self/comm && test -c /dev/null").succeed();
    assert_eq!(finished.stdout, "cat\n");
}
