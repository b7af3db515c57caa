// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask ci`: what every change must pass, in the order in which failures are cheapest to find.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{cargo, fuzz, guest, kernel, link, models, test, unikernel, xen_tests};

/// A check before the tests.
struct Step {
    name: &'static str,
    /// The cargo subcommand of another package that must be installed.
    needs: Option<&'static str>,
    run: fn() -> Result<()>,
}

const STEPS: [Step; 12] = [
    Step { name: "format", needs: Some("fmt"), run: format },
    Step { name: "lints", needs: Some("clippy"), run: lints },
    Step { name: "documentation", needs: None, run: documentation },
    Step { name: "models", needs: None, run: || models::run(models::Args::default()) },
    Step { name: "link", needs: None, run: link::run },
    Step { name: "examples", needs: None, run: examples },
    Step { name: "fuzz: hypercalls", needs: None, run: || fuzz::in_ci("hypercalls") },
    Step { name: "fuzz: pages", needs: None, run: || fuzz::in_ci("pages") },
    Step { name: "fuzz: snapshots", needs: None, run: || fuzz::in_ci("snapshots") },
    Step { name: "real Xen", needs: None, run: xen_tests::in_ci },
    Step { name: "unikernel", needs: None, run: unikernel::in_ci },
    Step { name: "guest", needs: None, run: guest::in_ci },
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
        let outcome = (self.run)().inspect_err(|error| eprintln!("ci: {}: {error:#}", self.name));
        let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
        println!("ci: {} {verdict} in {:.1} s", self.name, start.elapsed().as_secs_f64());
        outcome.is_ok()
    }
}

fn format() -> Result<()> {
    cargo::run(cargo::cargo().args(["fmt", "--all", "--check"]), "cargo fmt")?;
    kernel::format()
}

fn lints() -> Result<()> {
    let mut command = cargo::cargo();
    command.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    cargo::run(&mut command, "cargo clippy")
}

/// Of all, and of those crates without features that others of the workspace use with some: a link may lead to what is not there then.
fn documentation() -> Result<()> {
    const FEATURELESS: [&str; 4] = ["evtchn-sync", "evtchn-engine", "evtchn-guest", "evtchn-hypercall"];
    let packages: Vec<&str> = FEATURELESS.into_iter().flat_map(|name| ["--package", name]).collect();
    for of in [vec!["--workspace"], packages] {
        let mut command = cargo::cargo();
        command.args(["doc", "--quiet", "--no-deps"]).args(of).env("RUSTDOCFLAGS", "-D warnings");
        cargo::run(&mut command, "cargo doc")?;
    }
    Ok(())
}

/// Two domains on the engine, and a guest that exchanges a million events with itself. Both check themselves.
fn examples() -> Result<()> {
    for (package, example, words) in [
        ("evtchn-engine", "two_domains", &[][..]),
        ("evtchn-guest", "two_vcpus", &["fifo"]),
        ("evtchn-guest", "two_vcpus", &["two-level"]),
    ] {
        let mut command = cargo::cargo();
        command
            .args(["run", "--quiet", "--release", "--package", package, "--example", example, "--"])
            .args(words);
        cargo::run(&mut command, example)?;
    }
    Ok(())
}
