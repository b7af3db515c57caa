// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests of `tests/programs` in domain 0.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use evtchn_programs_tests::{Packages, compile_all};
use tempfile::TempDir;

use super::TWO_LEVEL;
use crate::fetch::{self, Set};
use crate::machine::{Flavour, Machine, System};
use crate::{cargo, paths};

const PACKAGE: &str = "evtchn-programs-tests";
/// The test programs, and which of their tests are about `evtchn run` itself and not about the device, with the reason.
const SUITES: [Suite; 3] = [
    Suite {
        name: "device",
        only: &[],
        skipped: &[
            ("a_virq_comes_at_each_moment_that_was_asked_for", "asks `evtchn run` for VIRQs"),
            ("a_python_program_is_served", "there is no Python in the machine"),
        ],
    },
    Suite {
        name: "debian",
        only: &[],
        skipped: &[(
            "all_twelve_library_calls_work_between_two_domains",
            "needs two domains; within one it is run",
        )],
    },
    // All others start and end `evtchn run`, and look at what it passes on.
    Suite { name: "lifecycle", only: &["a_daemon_is_served_after_its_parent_has_ended"], skipped: &[] },
];
/// What the tests use of Debian's packages.
const DEBIAN: [&str; 5] = [
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/xen-4.17/bin/lsevtchn",
    "usr/lib/xen-4.17/bin/xenstored",
    "usr/bin",
    "usr/include/xenevtchn.h",
];

/// A test program.
struct Suite {
    name: &'static str,
    /// The tests that are run; all if there are none.
    only: &'static [&'static str],
    /// The tests that are not, and why.
    skipped: &'static [(&'static str, &'static str)],
}

/// Runs the tests, with each ABI between Linux and Xen; names what failed.
///
/// # Errors
/// Something cannot be built, or the machine did not finish.
pub fn run(flavour: Flavour) -> Result<Vec<String>> {
    let folder = TempDir::with_prefix("evtchn-programs-").context("no folder for the programs")?;
    ensure!(compile_all(packages().as_ref(), folder.path()), "no C compiler `cc`");
    for Suite { name, skipped, .. } in &SUITES {
        skipped.iter().for_each(|(test, why)| println!("xen-tests: {name}: without {test}: {why}"));
    }
    let machine = machine(flavour, folder.path())?;
    let outcome = machine.run(&["sh", "/t/run.sh"])?;
    Ok(if outcome.status == 0 { Vec::new() } else { vec!["tests/programs".to_owned()] })
}

/// Debian's programs and libraries, if they can be had; the tests that need them say so otherwise.
fn packages() -> Option<Packages> {
    let _ = fetch::obtain(Set::Bookworm).inspect_err(|error| eprintln!("xen-tests: {error:#}"));
    Packages::with(&DEBIAN)
}

fn machine(flavour: Flavour, programs: &Path) -> Result<Machine> {
    let mut machine = Machine::new(flavour, System::Dom0).kernel_args(TWO_LEVEL);
    for Suite { name, .. } in &SUITES {
        machine = machine.file(build(name)?, &format!("/t/{name}"));
    }
    // The tests look for these at the paths that they have here.
    let scripts = paths::workspace().join("tests/programs/scripts");
    let recordings = paths::workspace().join("tests/programs/recordings");
    let debian = DEBIAN.map(|name| paths::debian().join("bookworm/root").join(name));
    for here in [scripts, recordings].into_iter().chain(debian).filter(|path| path.exists()) {
        let there = here.to_string_lossy().into_owned();
        machine = if here.is_dir() { machine.folder(here, &there) } else { machine.file(here, &there) };
    }
    let script = programs.join("run.sh");
    fs::write(&script, commands()).context("cannot write the script")?;
    Ok(machine.folder(programs, "/t/programs").file(script, "/t/run.sh"))
}

/// What runs in the machine: all suites one after the other, each test alone, since they share one domain's ports and VIRQs.
fn commands() -> String {
    let shim = paths::workspace().join("tests/programs/scripts/real.sh");
    let mut script = format!(
        "export EVTCHN_BIN={} EVTCHN_PROGRAMS=/t/programs EVTCHN_DEBIAN_DIR={} EVTCHN_REQUIRE=1\nfailed=0\n",
        shim.display(),
        paths::debian().display()
    );
    for Suite { name, only, skipped } in &SUITES {
        let skipped: Vec<String> = skipped.iter().map(|(test, _)| format!("--skip {test}")).collect();
        let words = [&["--test-threads=1".to_owned(), "--exact".to_owned()][..], &skipped].concat().join(" ");
        script.push_str(&format!("/t/{name} {words} {} || failed=1\n", only.join(" ")));
    }
    script + "exit $failed\n"
}

/// Builds a test program; its path.
fn build(name: &str) -> Result<PathBuf> {
    let mut command = cargo::cargo();
    command.args(["test", "--quiet", "--no-run", "--package", PACKAGE, "--test", name]);
    cargo::build(&mut command, name)
}
