// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask unikernel`: the guest's half on a real Xen.
//!
//! `tests/unikernel` is a kernel in Rust, from `evtchn-guest` and `evtchn-hypercall`. It runs in an emulated machine, as a PV and as a
//! PVH guest, tries its event channels with both ABIs, and says on its console what has worked. Besides, it records a script of
//! hypercalls, to which the [engine] must give the same answers.

mod engine;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use evtchn_abi::DomId;

use crate::machine::{Flavour, Machine, System, Unavailable};
use crate::{cargo, paths, progress};

/// What the guest says with each ABI; FIFO has priorities besides.
const TRIALS: [&str; 6] = ["timer", "interruptions", "IPI", "events", "masks", "polls"];

/// How long the machine may run. It needs one or two minutes on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a small kernel in Rust as a guest of a real Xen: upcalls, timers, IPIs, channels, both ABIs.
///
/// The machine is emulated and made from Debian packages; see `cargo xtask xen`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which Debian the machine is made from
    #[arg(long, value_enum, default_value_t)]
    flavour: Flavour,
    /// How Xen starts the guest; more than once for several
    #[arg(long = "type", value_enum, default_values = ["pv", "pvh"])]
    types: Vec<Type>,
}

/// The types of domains, as `xl` has them.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Paravirtual: by a hypercall page that Xen fills, upcalls by `callback_op`
    Pv,
    /// With the processor's help: by its instruction, upcalls by an interrupt vector
    Pvh,
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Self::Pv => "pv",
            Self::Pvh => "pvh",
        }
    }
}

/// Builds the guest, runs it, and looks at what it said.
///
/// # Errors
/// It cannot be built, there is no machine, or something did not work.
pub fn run(args: &Args) -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        println!("unikernel: skipped: the guest is for x86-64");
        return Ok(());
    }
    let kernel = build()?;
    let domain0 = folder().join("domain0.sh");
    // One processor: two of an emulated machine do not agree about the time, by 5 to 20 ms where this was measured.
    let machine = Machine::new(args.flavour, System::Dom0).cpus(1).toolstack().capture().limit(LIMIT);
    let machine = machine.file(kernel, "/t/unikernel").file(domain0, "/t/domain0.sh");
    let mut command = vec!["sh", "./domain0.sh"];
    command.extend(args.types.iter().map(|kind| kind.name()));
    progress::line("unikernel: the machine starts");
    let outcome = machine.run(&command)?;
    for line in outcome.stdout.lines().filter(|line| !line.contains(": call: ")) {
        println!("{line}");
    }
    eprint!("{}", outcome.stderr);
    args.types.iter().try_for_each(|kind| check(*kind, &outcome.stdout))?;
    ensure!(
        outcome.status == 0,
        "unikernel: domain 0 could not start everything (status {})",
        outcome.status
    );
    for (kind, domain) in args.types.iter().zip(1..) {
        let calls = engine::compare(*kind, DomId(domain), &outcome.stdout)?;
        println!("{}: {calls} hypercalls have the same answers from the engine", kind.name());
    }
    println!("unikernel: passed in {:.1} s", outcome.duration.as_secs_f64());
    Ok(())
}

/// The step of CI: says in one line if there is no machine, and passes then.
///
/// # Errors
/// Something did not work.
pub fn in_ci() -> Result<()> {
    match run(&Args { flavour: Flavour::default(), types: vec![Type::Pv, Type::Pvh] }) {
        Err(error) if error.is::<Unavailable>() => {
            println!("unikernel: skipped: {error:#}");
            Ok(())
        }
        other => other,
    }
}

fn folder() -> PathBuf {
    paths::workspace().join("tests/unikernel")
}

/// Builds the guest. It is no member of the workspace, so it is looked at here.
///
/// # Errors
/// It cannot be built, or breaks a rule.
pub fn build() -> Result<PathBuf> {
    if cargo::has("fmt") {
        cargo::run(on(&folder()).args(["fmt", "--check"]), "format")?;
    }
    if cargo::has("clippy") {
        cargo::run(on(&folder()).args(["clippy", "--quiet", "--release", "--", "-D", "warnings"]), "lints")?;
    }
    cargo::build(on(&folder()).args(["build", "--quiet", "--release"]), "unikernel")
}

/// A cargo in the guest's folder, whose flags are in its own configuration; those for this workspace would take their place.
fn on(folder: &Path) -> std::process::Command {
    let mut command = cargo::cargo();
    command.current_dir(folder).env("CARGO_TARGET_DIR", paths::workspace().join("target/unikernel"));
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    command
}

/// Makes sure that the guest of this type has said all that it is to say.
fn check(kind: Type, output: &str) -> Result<()> {
    let kind = kind.name();
    ensure!(
        has(output, &format!("{kind}: unikernel: arguments: ok")),
        "the {kind} guest has not tried arguments"
    );
    for (abi, more) in [("two-level", None), ("FIFO", Some("priorities"))] {
        for trial in TRIALS.into_iter().chain(more) {
            let line = format!("{kind}: unikernel: {abi}: {trial}: ok");
            ensure!(has(output, &line), "the {kind} guest has not said `unikernel: {abi}: {trial}: ok`");
        }
    }
    ensure!(has(output, &format!("{kind}: unikernel: passed")), "the {kind} guest did not pass");
    // 0 is a power-off, which it asks for at its end; a crash would be 3.
    let ended = format!("{kind}: has shut down, reason code 0");
    ensure!(has(output, &ended), "the {kind} guest did not power off");
    Ok(())
}

fn has(output: &str, line: &str) -> bool {
    output.lines().any(|given| given == line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> String {
        let mut lines = vec!["pv: unikernel: arguments: ok".to_owned()];
        for abi in ["two-level", "FIFO"] {
            lines.extend(TRIALS.map(|trial| format!("pv: unikernel: {abi}: {trial}: ok")));
        }
        lines.push("pv: unikernel: FIFO: priorities: ok".to_owned());
        lines.push("pv: unikernel: passed".to_owned());
        lines.push("pv: has shut down, reason code 0".to_owned());
        lines.join("\n")
    }

    #[test]
    fn a_guest_that_has_said_everything_has_passed() {
        check(Type::Pv, &output()).unwrap();
        assert!(check(Type::Pvh, &output()).is_err(), "another guest's lines");
    }

    #[test]
    fn each_line_is_needed() {
        let output = output();
        for line in output.lines() {
            let without: Vec<&str> = output.lines().filter(|other| *other != line).collect();
            assert!(check(Type::Pv, &without.join("\n")).is_err(), "{line}");
        }
    }
}
