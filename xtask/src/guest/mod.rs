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
    /// Print the results, or the list, as JSON
    #[arg(long)]
    json: bool,
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
        list(args.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = chosen(args)?;
    let out = args.out.clone().unwrap_or_else(|| paths::workspace().join("target/guest"));
    let verdicts = attempt_all(&wanted, &out)?;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&verdicts.iter().map(Verdict::json).collect::<Vec<_>>())?
        );
    } else {
        tell(&verdicts, &out);
    }
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
    let wanted = chosen(&Args { names, all: false, list: false, json: false, out: None })?;
    let out = paths::workspace().join("target/guest");
    match attempt_all(&wanted, &out) {
        Err(error) if error.is::<Unavailable>() => {
            println!("guest: skipped: {error:#}");
            Ok(())
        }
        Err(error) => Err(error),
        Ok(verdicts) => {
            tell(&verdicts, &out);
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

/// Prints what there is.
fn list(json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(&ALL.iter().map(Scenario::json).collect::<Vec<_>>())?);
        return Ok(());
    }
    println!("{:<25} {:<10} options of the VMM, and what the guests are told", "scenario", "kernel");
    for scenario in ALL {
        let Scenario { name, vmm, linux, .. } = scenario;
        let words =
            [*vmm, *linux].into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(" ");
        println!("{name:<25} {:<10} {words}", scenario.whose());
    }
    Ok(())
}

/// Prints the table.
fn tell(verdicts: &[Verdict], out: &Path) {
    println!("\n{}", heading());
    for verdict in verdicts {
        println!("{}", verdict.line());
    }
    println!(
        "\nFIFO ms, user ms: from the start to the FIFO ABI, and to user space. regs ns, engine: what KVM_GET_SREGS and the engine take of a send."
    );
    if let [only] = verdicts
        && only.passed()
    {
        let abi = if only.abi.is_empty() { String::new() } else { format!(", said `{}`,", only.abi) };
        println!("The guest booted{abi} and did what it was to do: {}.", only.said.join("; "));
    }
    println!("Consoles and reports: {}", out.join("results").display());
}
