// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask test`: everything that checks the project, in one command.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, fetch};

/// What `test` is asked for.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// Run only the tests whose name contains this
    filter: Option<String>,
    /// Arguments for the test runner (cargo-nextest, or cargo test where that is not installed)
    #[arg(last = true)]
    runner: Vec<String>,
}

/// Fetches, builds, then runs documentation examples and tests. The runner's closing lines come last, but for what was left out.
pub fn run(args: &Args) -> Result<()> {
    let missing = fetch::run(&fetch::Args::default()).unwrap_or_else(|error| {
        eprintln!("fetch: {error:#}");
        usize::MAX
    });
    let evtchn = cargo::build_evtchn()?;
    let examples = examples(args);
    let tests = cargo::run(runner(args).env("EVTCHN_BIN", evtchn), "the tests");
    if missing > 0 {
        // Runners hide what passing tests say.
        eprintln!(
            "test: packages are missing (see `cargo xtask fetch`): the tests that need them passed without having looked"
        );
    }
    examples.and(tests)
}

/// Documentation examples, unless a filter asks for something else.
fn examples(args: &Args) -> Result<()> {
    if args.filter.is_some() {
        return Ok(());
    }
    cargo::run(cargo::cargo().args(["test", "--quiet", "--workspace", "--doc"]), "the documentation examples")
}

fn runner(args: &Args) -> Command {
    let mut command = cargo::cargo();
    if cargo::has("nextest") {
        command
            .args(["nextest", "run", "--workspace", "--no-fail-fast"])
            .args(&args.filter)
            .args(&args.runner);
    } else {
        command.args(["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"]);
        command.args(&args.filter).arg("--").args(&args.runner);
    }
    command
}
