// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the README and the documentation of programs show is what happens.

use std::fs;
use std::process::Command;

use evtchn_programs_tests::{Launch, Packages, Scratch, skip};

const README: &str = include_str!("../../../README.md");
const PROGRAMS: &str = include_str!("../../../docs/programs.md");
/// How the README's commands begin.
const RUN: &str = "$ target/release/evtchn run ";

/// The README's command with these words in it: its arguments, and the output that is shown below it.
fn shown(words: &str) -> (Vec<&'static str>, String) {
    let mut lines = README.lines().map(|line| line.strip_prefix("    ").unwrap_or_default());
    let command =
        lines.find(|line| line.starts_with(RUN) && line.contains(words)).expect("the README has it");
    let output = lines.take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect();
    (command[RUN.len()..].split(' ').collect(), output)
}

/// The first program of a document in a language.
fn program(document: &'static str, language: &str) -> &'static str {
    let (_, rest) = document.split_once(&format!("```{language}\n")).expect("the document has a program");
    rest.split_once("```").expect("the program has an end").0
}

#[test]
fn the_readmes_own_program_does_what_is_shown() {
    let scratch = Scratch::new();
    fs::write(scratch.path().join("ring.c"), program(README, "c")).expect("the program can be written");
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Wextra", "-Werror", "-o", "ring", "ring.c"]).current_dir(scratch.path());
    let Ok(compiled) = compiler.output() else { return skip("no C compiler `cc`") };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let (args, output) = shown("./ring");
    let program = scratch.path().join("ring").to_string_lossy().into_owned();
    let args = args.into_iter().map(|arg| if arg == "./ring" { program.as_str() } else { arg });
    assert_eq!(Launch::new(args).succeed().stdout, output);
}

#[test]
fn lsevtchn_lists_the_ports_that_are_shown() {
    let (args, output) = shown("lsevtchn");
    let lsevtchn = args[2].trim_start_matches("$R/");
    let Some(packages) = Packages::with(&[lsevtchn]) else { return };
    let args = ["env", &packages.library_path(), &packages.arg(lsevtchn)];
    assert_eq!(Launch::new(args).succeed().stdout, output);
}

#[test]
fn the_counters_in_python_count_what_is_shown() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("no python3");
    }
    let scratch = Scratch::new();
    let path = scratch.path().join("counter.py");
    fs::write(&path, program(PROGRAMS, "python")).expect("the program can be written");
    let (script, meeting) = (path.to_string_lossy(), format!("{}/meeting", scratch.arg()));
    let one = |domain: &str, role: &str| {
        ["--domain", domain, "python3", &script, role, &meeting].map(str::to_owned).to_vec()
    };
    let both = [one("2", "send"), vec!["--and".to_owned()], one("1", "wait")].concat();
    let printed = Launch::new(both).succeed().stdout;
    assert!(PROGRAMS.contains(&format!("    {printed}")), "{printed}");
}

#[test]
fn linuxs_own_header_serves_with_the_type_that_is_shown() {
    let scratch = Scratch::new();
    if !fs::exists("/usr/include/xen/evtchn.h").unwrap_or(false) {
        return skip("no linux-libc-dev");
    }
    fs::write(scratch.path().join("header.c"), program(PROGRAMS, "c")).expect("the program can be written");
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Werror", "-c", "header.c"]).current_dir(scratch.path());
    let Ok(compiled) = compiler.output() else { return skip("no C compiler `cc`") };
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
}
