// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask guest`: Debian's unmodified Linux as a guest of Xen, on the small VMM of `examples/vmm`.
//!
//! The VMM needs a KVM with Xen support. Where this machine has none, it runs in an emulated machine with Debian's plain
//! kernel, whose `kvm_amd` uses the SVM that QEMU emulates: a guest in a guest, without `/dev/kvm` and without root.

mod initramfs;
mod judge;
mod outer;
mod scenario;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use evtchn_replay::recorder;

use self::judge::{Verdict, heading, judge};
use self::outer::Parts;
use self::scenario::{ALL, Scenario};
use crate::machine::{Hung, Unavailable};
use crate::{cargo, paths, unikernel};

/// How often a scenario is tried whose emulated machine stops, which says nothing of what runs in it.
const TRIES: u32 = 5;
/// What CI runs.
const IN_CI: [&str; 2] = ["hvm-fifo-vector", "unikernel-ports"];

/// Boots Debian's unmodified kernel as a guest of Xen, with event channels by evtchn-engine, and tries them there.
///
/// Without a name the first scenario runs: the kernel boots and notifies itself by `/dev/xen/evtchn`. Exit status 1 if a
/// scenario failed.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Scenarios; see --list
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Run all scenarios
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// Where consoles, reports and recordings go [default: target/guest]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// No such scenario; something cannot be built or fetched.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.list {
        for scenario in ALL {
            let Scenario { name, vmm, linux, .. } = scenario;
            println!("{name:<25} {:<10} {vmm} {linux}", scenario.whose());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = chosen(args)?;
    let out = args.out.clone().unwrap_or_else(|| paths::workspace().join("target/guest"));
    let verdicts = attempt_all(&wanted, &out)?;
    tell(&verdicts);
    let passed = verdicts.iter().all(Verdict::passed);
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The step of CI: Linux, and a kernel that calls by a port. Says in one line if there is no machine, and passes then.
///
/// # Errors
/// Something cannot be built, or a scenario failed.
pub fn in_ci() -> Result<()> {
    if !cfg!(target_arch = "x86_64") {
        println!("guest: skipped: the VMM is for x86-64");
        return Ok(());
    }
    let names = IN_CI.map(str::to_owned).to_vec();
    let wanted = chosen(&Args { names, all: false, list: false, out: None })?;
    match attempt_all(&wanted, &paths::workspace().join("target/guest")) {
        Err(error) if error.is::<Unavailable>() => {
            println!("guest: skipped: {error:#}");
            Ok(())
        }
        Err(error) => Err(error),
        Ok(verdicts) => {
            tell(&verdicts);
            ensure!(verdicts.iter().all(Verdict::passed), "a scenario failed");
            Ok(())
        }
    }
}

fn attempt_all(wanted: &[Scenario], out: &Path) -> Result<Vec<Verdict>> {
    let parts = build(out)?;
    wanted.iter().map(|scenario| attempt(&parts, scenario, out)).collect()
}

/// Runs a scenario and looks at what came of it.
fn attempt(parts: &Parts, scenario: &Scenario, out: &Path) -> Result<Verdict> {
    let folder = out.join("results");
    forget(&folder, scenario);
    for tries in 1..=TRIES {
        match outer::run(parts, scenario, &folder) {
            Ok(()) => return Ok(judge(scenario, &folder, tries)),
            Err(error) if error.is::<Hung>() => eprintln!("xtask: guest: {}: {error:#}", scenario.name),
            Err(error) => return Err(error),
        }
    }
    Ok(judge(scenario, &folder, TRIES))
}

/// The scenarios that were asked for.
fn chosen(args: &Args) -> Result<Vec<Scenario>> {
    if args.all {
        return Ok(ALL.to_vec());
    }
    if args.names.is_empty() {
        return Ok(ALL.iter().take(1).copied().collect());
    }
    let known = |name: &String| ALL.iter().find(|scenario| scenario.name == name.as_str()).copied();
    args.names
        .iter()
        .map(|name| known(name).with_context(|| format!("no scenario `{name}`: see --list")))
        .collect()
}

/// An older run's results are not this one's.
fn forget(folder: &Path, scenario: &Scenario) {
    for ending in ["console", "stderr", "status", "json", "out.1", "out.2"] {
        let _ = fs::remove_file(folder.join(format!("{}.{ending}", scenario.name)));
    }
}

/// Builds what runs outside and inside the guests.
fn build(out: &Path) -> Result<Parts> {
    fs::create_dir_all(out)?;
    let package = |name: &str| {
        let mut command = cargo::cargo();
        command.args(["build", "--release", "--package", name]);
        cargo::build(&mut command, name)
    };
    Ok(Parts {
        vmm: stripped(&package("evtchn-vmm")?, out)?,
        probe: stripped(&package("evtchn-guest-programs")?, out)?,
        recorder: recorder::build()?,
        unikernel: unikernel::build()?,
        folder: out.to_owned(),
    })
}

/// A program without what debuggers need, which is most of it: it is copied from memory to memory in an emulated machine.
fn stripped(program: &Path, folder: &Path) -> Result<PathBuf> {
    let to = folder.join(program.file_name().context("no name of a file")?);
    cargo::run(Command::new("strip").arg("-o").arg(&to).arg(program), "strip")?;
    Ok(to)
}

/// Prints the table.
fn tell(verdicts: &[Verdict]) {
    println!("\n{}", heading());
    for verdict in verdicts {
        println!("{}", verdict.line());
    }
    if let [only] = verdicts
        && !only.abi.is_empty()
    {
        println!("\nLinux said: {}", only.abi);
    }
}
