// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask bench`: what the project costs, each figure beside its floor in the same run.
//!
//! `cargo xtask bench` measures everything, `cargo xtask bench engine` the engine in multiples of one atomic operation,
//! `cargo xtask bench launch` what `evtchn run` costs the programs it runs. The last line has the machine's load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use evtchn_benches::report::Report;
use evtchn_benches::{callgrind, criterion};

use crate::cargo;

/// Measures what the project costs, each figure beside its floor in the same run.
///
/// A figure that misses its aim is marked and does not change the exit status: a busy machine must not look like a mistake.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this part
    part: Option<Part>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A look: fewer and shorter bursts
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The engine, in one process
    Engine,
    /// What `evtchn run` costs a program
    Launch,
}

/// Runs the command. The binary `evtchn` is built, or the one that `EVTCHN_BIN` names is measured.
///
/// # Errors
/// Something could not be built or run.
pub fn run(args: &Args) -> Result<ExitCode> {
    let wants = |part| args.part.is_none_or(|only| only == part);
    let mut report = Report::default();
    if wants(Part::Engine) {
        report.extend(engine(args.quick)?);
    }
    if wants(Part::Launch) {
        report.extend(launch(args.quick)?);
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

fn engine(quick: bool) -> Result<Report> {
    let benches = ["bench", "--no-run", "--package", "evtchn-engine", "--benches"];
    let programs = build(&benches)?;
    let mut report = Report::default();
    report.note_load();
    let results = program(&programs, "send")?.with_file_name("bench-results");
    for name in criterion::programs() {
        time(program(&programs, name)?, &results, quick)?;
    }
    report.rows.extend(criterion::rows(&results)?);
    if callgrind::is_there() {
        let rows = callgrind::rows(program(&programs, "count")?)?;
        report.rows.extend(rows);
    } else {
        report.notes.push("valgrind absent: no instruction counts".into());
    }
    report.note_load();
    Ok(report)
}

/// Runs a program of criterion benches, whose results go to a folder.
fn time(program: &Path, results: &Path, quick: bool) -> Result<()> {
    let (seconds, samples) = if quick { ("0.5", "12") } else { ("3", "40") };
    let mut command = Command::new(program);
    command.args(["--bench", "--noplot", "--quiet", "--warm-up-time", "0.3"]);
    command.args(["--measurement-time", seconds, "--sample-size", samples]);
    // criterion's own text says less than the table will.
    let run = command.env("CRITERION_HOME", results).output();
    let run = run.context("cannot start the engine's benches")?;
    let text = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "the engine's benches failed: {text}");
    Ok(())
}

fn launch(quick: bool) -> Result<Report> {
    let mut packages = vec!["build", "--release", "--package", "evtchn-benches"];
    let given = std::env::var_os("EVTCHN_BIN").map(PathBuf::from);
    if given.is_none() {
        packages.extend(["--package", "evtchn-cli"]);
    }
    let programs = build(&packages)?;
    let evtchn = given.map_or_else(|| program(&programs, "evtchn").map(PathBuf::from), Ok)?;
    let mut command = Command::new(program(&programs, "launch")?);
    command.arg("--evtchn").arg(evtchn);
    if quick {
        command.arg("--quick");
    }
    let run = command.stderr(Stdio::inherit()).output();
    let run = run.context("cannot start the launch bench")?;
    ensure!(run.status.success(), "the launch bench failed ({})", run.status);
    serde_json::from_slice(&run.stdout).context("the launch bench's report")
}

/// Builds with cargo; the executables by their targets' names.
fn build(arguments: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut command = cargo::cargo();
    command.args(arguments);
    command.args(["--message-format", "json-render-diagnostics"]);
    let run = command.stderr(Stdio::inherit()).output();
    let run = run.context("cannot start cargo")?;
    ensure!(run.status.success(), "cargo {} failed ({})", arguments.join(" "), run.status);
    Ok(String::from_utf8_lossy(&run.stdout).lines().filter_map(executable).collect())
}

/// The target and the executable in one of cargo's JSON messages.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.into(), message.get("executable")?.as_str()?.into()))
}

fn program<'a>(programs: &'a BTreeMap<String, PathBuf>, name: &str) -> Result<&'a Path> {
    let path = programs.get(name).map(PathBuf::as_path);
    path.with_context(|| format!("cargo built no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_found_by_its_targets_name() {
        let message = r#"{"target":{"name":"probe"},"executable":"/t/probe"}"#;
        assert_eq!(executable(message), Some(("probe".into(), "/t/probe".into())));
        assert_eq!(executable(r#"{"target":{"name":"lib"},"executable":null}"#), None);
    }
}
