// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask ci`: what every change must pass, in the order in which failures are cheapest to find.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::{cargo, fuzz, paths, test};

/// A check that is one cargo command.
struct Step {
    name: &'static str,
    /// The cargo subcommand of another package that must be installed.
    needs: Option<&'static str>,
    command: fn() -> Command,
}

const STEPS: [Step; 7] = [
    Step { name: "format", needs: Some("fmt"), command: format },
    Step { name: "lints", needs: Some("clippy"), command: lints },
    Step { name: "documentation", needs: None, command: documentation },
    Step { name: "models", needs: None, command: models },
    Step { name: "fuzz: hypercalls", needs: None, command: || fuzz::bounded_command("hypercalls", 4) },
    Step { name: "fuzz: pages", needs: None, command: || fuzz::bounded_command("pages", 4) },
    Step { name: "fuzz: snapshots", needs: None, command: || fuzz::bounded_command("snapshots", 4) },
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
        let outcome = cargo::run(&mut (self.command)(), self.name);
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
