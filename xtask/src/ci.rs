// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask ci`: what every change must pass, in the order in which failures are cheapest to find.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{cargo, link, paths, test};

/// A check before the tests.
struct Step {
    name: &'static str,
    /// The cargo subcommand of another package that must be installed.
    needs: Option<&'static str>,
    check: Check,
}

enum Check {
    /// One cargo command.
    Command(fn() -> Command),
    /// Something longer.
    Function(fn() -> Result<()>),
}

const STEPS: [Step; 6] = [
    Step { name: "format", needs: Some("fmt"), check: Check::Command(format) },
    Step { name: "lints", needs: Some("clippy"), check: Check::Command(lints) },
    Step { name: "documentation", needs: None, check: Check::Command(documentation) },
    Step { name: "models", needs: None, check: Check::Command(models) },
    Step { name: "link", needs: None, check: Check::Function(link::run) },
    Step { name: "example", needs: None, check: Check::Command(example) },
];

/// Runs all steps, then the tests, whose closing lines come last; a failed step does not keep the others from running.
pub fn run() -> Result<()> {
    let mut failed: Vec<&str> = STEPS.iter().filter(|step| !step.passes()).map(|step| step.name).collect();
    println!("ci: tests");
    if let Err(error) = test::run(&test::Args::default()) {
        eprintln!("ci: tests: {error:#}");
        failed.push("tests");
    }
    if !failed.is_empty() {
        bail!("ci failed: {}", failed.join(", "));
    }
    Ok(())
}

impl Step {
    fn passes(&self) -> bool {
        if let Some(missing) = self.needs.filter(|needed| !cargo::has(needed)) {
            println!("ci: {} skipped: cargo {missing} is not installed", self.name);
            return true;
        }
        println!("ci: {}", self.name);
        let start = Instant::now();
        let outcome = match self.check {
            Check::Command(command) => cargo::run(&mut command(), self.name),
            Check::Function(function) => {
                function().inspect_err(|error| eprintln!("ci: {}: {error:#}", self.name))
            }
        };
        let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
        println!("ci: {} {verdict} in {:.1} s", self.name, start.elapsed().as_secs_f64());
        outcome.is_ok()
    }
}

fn format() -> Command {
    let mut command = cargo::cargo();
    command.args(["fmt", "--all", "--check"]);
    command
}

fn lints() -> Command {
    let mut command = cargo::cargo();
    command.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command
}

fn documentation() -> Command {
    let mut command = cargo::cargo();
    command.args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// The lock-free protocols, in every order that the model checker finds. Built apart, as everything is compiled for it.
fn models() -> Command {
    let mut command = cargo::cargo();
    command.args(["test", "--quiet", "--release", "--package", "evtchn-device", "--test", "loom"]);
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", paths::workspace().join("target/loom"));
    command
}

/// A small VMM around the engine, which checks itself.
fn example() -> Command {
    let mut command = cargo::cargo();
    command.args(["run", "--quiet", "--package", "evtchn-engine", "--example", "vmm"]);
    command
}
