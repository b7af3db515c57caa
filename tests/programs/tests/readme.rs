// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the README shows is what happens.

use std::fs;
use std::process::Command;

use evtchn_programs_tests::{Launch, Packages, Scratch, skip};

const README: &str = include_str!("../../../README.md");
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

#[test]
fn the_readmes_own_program_does_what_is_shown() {
    let (_, rest) = README.split_once("```c\n").expect("the README has a program");
    let (source, _) = rest.split_once("```").expect("the program has an end");
    let scratch = Scratch::new();
    fs::write(scratch.path().join("ring.c"), source).expect("the program can be written");
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
    let lsevtchn = args[0].trim_start_matches("$R/");
    let Some(packages) = Packages::with(&[lsevtchn]) else { return };
    let args = ["env", &packages.library_path(), &packages.arg(lsevtchn)];
    assert_eq!(Launch::new(args).succeed().stdout, output);
}
