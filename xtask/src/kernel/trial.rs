// SPDX-License-Identifier: MIT OR Apache-2.0
//! The modules in emulated machines: what programs see of them, beside Linux's own driver.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evtchn_replay::{Excuses, Recording, Table, compare_device, recorder};

use super::build::Variant;
use super::output;
use crate::machine::{Flavour, Hung, Machine, System};
use crate::{cargo, replay};

/// How long one machine may run. The tests wait on purpose, for some minutes in all on a slow computer.
const LIMIT: Duration = Duration::from_secs(1800);
/// The end of lines in which the two drivers are meant to differ.
const ON_PURPOSE: &str = "(differs on purpose)";

/// A script of `guest/` with its name.
macro_rules! scripts {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("guest/", $name)))),*]
    };
}

const SCRIPTS: &[(&str, &str)] = scripts![
    "check.sh",
    "driver.sh",
    "end.sh",
    "one-cpu.sh",
    "simulated.sh",
    "two-level.sh",
    "xen.sh",
    "xenstore.sh"
];

/// A machine with the modules, the tests and the scripts, and where its results go.
pub fn machine(system: System, name: &str) -> Result<(Machine, PathBuf)> {
    let folder = output().join(name);
    let _ = fs::remove_dir_all(&folder);
    let scripts = folder.join("scripts");
    fs::create_dir_all(&scripts).with_context(|| scripts.display().to_string())?;
    for (name, text) in SCRIPTS {
        fs::write(scripts.join(name), text)?;
    }
    let mut build = cargo::cargo();
    // Optimised, since their own instructions are counted with those of the calls.
    build.args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "evtchn-driver-tests",
        "--bin",
        "driver-tests",
    ]);
    let mut machine = Machine::new(Flavour::Sid, system).folder(scripts, "/t").limit(LIMIT).out(&folder);
    machine = machine.file(cargo::build(&mut build, "driver-tests")?, "/t/driver-tests");
    for variant in Variant::ALL {
        machine = machine.file(variant.path(), &format!("/t/{}", variant.file()));
    }
    Ok((machine, folder))
}

/// What a machine says on its console when Linux has started and the script begins.
const BEGUN: &str = "kernel-trial: begun";
/// How often a machine is started at most until it gets that far.
const STARTS: u32 = 3;

/// Runs a script of `guest/` in a machine whose results go to `folder`.
///
/// Linux itself does not always start: on a busy computer the emulator is now and then in two minds about code that Linux changes
/// while it runs (a trap in `sched_clock_cpu`). A machine that stops before the script begins is started again.
///
/// # Errors
/// A check in the script failed, or the machine did not finish.
pub fn run(machine: &Machine, folder: &Path, script: &[&str]) -> Result<()> {
    let begin = format!("echo '{BEGUN}' >/dev/console; exec sh \"$@\"");
    let command = [&["sh", "-c", &begin, "sh"], script].concat();
    let mut starts = 1;
    let outcome = loop {
        match machine.run(&command) {
            Err(error) if error.is::<Hung>() && starts < STARTS && !has_begun(folder) => {
                eprintln!(
                    "kernel: Linux did not start: {}",
                    error.to_string().lines().next().unwrap_or_default()
                );
                starts += 1;
            }
            outcome => break outcome?,
        }
    };
    ensure!(outcome.status == 0, "{} of {} failed", outcome.status, script[0]);
    Ok(())
}

fn has_begun(folder: &Path) -> bool {
    fs::read(folder.join("console.txt"))
        .is_ok_and(|console| String::from_utf8_lossy(&console).contains(BEGUN))
}

/// The module with simulated channels.
///
/// # Errors
/// As [`run`].
pub fn simulated(hammer: u64) -> Result<()> {
    let (machine, folder) = machine(System::Plain, "simulated")?;
    run(&machine, &folder, &["simulated.sh", &hammer.to_string()])?;
    println!("kernel: simulated channels: {}", verdicts(&folder, "simulated")?);
    Ok(())
}

/// Linux's driver and ours on Xen.
///
/// # Errors
/// As [`run`], or the two differ.
pub fn xen(hammer: u64) -> Result<()> {
    let (machine, folder) = machine(System::Dom0, "xen")?;
    let machine = machine.toolstack();
    let outcome = run(&machine, &folder, &["xen.sh", &hammer.to_string()]);
    same(&folder, outcome)
}

/// The same where Linux uses the two-level ABI, in short, and on one CPU, where the recorder always sees the same.
///
/// # Errors
/// As [`xen`].
pub fn two_level() -> Result<()> {
    let (machine, folder) = machine(System::Dom0, "two-level")?;
    let machine =
        machine.file(recorder::build()?, "/t/recorder").kernel_args("xen.fifo_events=0").cpus(1).counted();
    let outcome = run(&machine, &folder, &["two-level.sh"]);
    same(&folder, outcome)?;
    same_recording(&folder, "fixed")
}

/// Says how the checks went in which both drivers had their turn, and compares what they gave.
fn same(folder: &Path, outcome: Result<()>) -> Result<()> {
    for whose in ["linux", "ours"] {
        println!("kernel: {whose}: {}", verdicts(folder, whose).unwrap_or_else(|error| format!("{error:#}")));
    }
    outcome?;
    same_answers(folder)
}

/// The last line of each check of the tests.
fn verdicts(folder: &Path, whose: &str) -> Result<String> {
    let mut verdicts = Vec::new();
    for check in ["conformance", "many", "hammer", "hazards"] {
        let path = folder.join(format!("{whose}-{check}.txt"));
        if let Ok(text) = fs::read_to_string(&path) {
            verdicts.push(format!("{check}: {}", text.lines().next_back().unwrap_or("nothing")));
        }
    }
    ensure!(!verdicts.is_empty(), "no results in {}", folder.display());
    Ok(verdicts.join("; "))
}

/// Every line of the tests is the same with both drivers, but for those that say otherwise.
fn same_answers(folder: &Path) -> Result<()> {
    let read = |whose: &str| {
        let path = folder.join(format!("{whose}-conformance.txt"));
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let (linux, ours) = (read("linux")?, read("ours")?);
    let (compared, on_purpose) = compare(&linux, &ours)?;
    println!("kernel: {compared} answers are the same with both drivers, {on_purpose} differ on purpose");
    Ok(())
}

/// How many lines were compared, and how many differ on purpose.
fn compare(linux: &str, ours: &str) -> Result<(usize, usize)> {
    ensure!(linux.lines().count() == ours.lines().count(), "one driver gave more answers than the other");
    let mut counts = (0, 0);
    for (linux, ours) in linux.lines().zip(ours.lines()) {
        if linux.ends_with(ON_PURPOSE) && ours.ends_with(ON_PURPOSE) {
            counts.1 += 1;
        } else {
            ensure!(linux == ours, "Linux's driver: {linux}; ours: {ours}");
            counts.0 += 1;
        }
    }
    Ok(counts)
}

/// What the recorder saw of both drivers, but for what docs/compat.md says.
///
/// # Errors
/// Something else differs.
pub fn same_recording(folder: &Path, what: &str) -> Result<()> {
    let load = |whose: &str| Recording::load(&folder.join(format!("{whose}-{what}.jsonl")));
    let excuses = Excuses::load(Table::Module)?;
    let report = compare_device(&load("linux")?, &load("ours")?, &excuses);
    ensure!(report.compared > 0, "nothing was compared");
    ensure!(replay::print(&report, false)?, "the two drivers differ");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_differs_is_found_and_one_that_may_differ_is_counted() {
        let linux = "a: b: 1\nc: d: 2 (differs on purpose)\n";
        assert_eq!(compare(linux, "a: b: 1\nc: d: 3 (differs on purpose)\n").unwrap(), (1, 1));
        assert!(compare(linux, "a: b: 2\nc: d: 3 (differs on purpose)\n").is_err());
        assert!(compare(linux, "a: b: 1\n").is_err());
        assert!(compare(linux, "a: b: 1\nc: d: 2\n").is_err());
    }
}
