// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests of `tests/programs` in domain 0.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evtchn_programs_tests::{Packages, compile_all};
use evtchn_replay::workspace::target_dir;

use super::{Abi, Finding};
use crate::fetch::{self, Set};
use crate::machine::{Flavour, Machine, System, Unavailable};
use crate::{cargo, paths};

/// How long the tests may run on a busy computer.
const LIMIT: Duration = Duration::from_secs(600);
const PACKAGE: &str = "evtchn-programs-tests";
/// The test programs, and which of their tests are not about the device but about `evtchn run`, or cannot be run here.
const SUITES: [Suite; 3] = [
    Suite {
        name: "device",
        only: &[],
        skipped: &[
            ("a_virq_comes_at_each_moment_that_was_asked_for", "asks `evtchn run` for VIRQs"),
            ("a_python_program_is_served", "there is no Python in the machine"),
        ],
        skipped_with_fifo: &[(
            "binding_until_no_port_is_left_harms_no_bound_port",
            "131071 ports take minutes",
        )],
    },
    Suite {
        name: "debian",
        only: &[],
        skipped: &[(
            "all_twelve_library_calls_work_between_two_domains",
            "needs two domains; the same within one is run",
        )],
        skipped_with_fifo: &[(
            "the_library_prints_what_it_printed_on_real_xen",
            "printed with the two-level ABI, with which Linux binds VIRQ 1 itself",
        )],
    },
    // All others start and end `evtchn run`, and look at what it passes on.
    Suite {
        name: "lifecycle",
        only: &["a_daemon_is_served_after_its_parent_has_ended"],
        skipped: &[],
        skipped_with_fifo: &[],
    },
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
    /// Others that are not with the FIFO ABI.
    skipped_with_fifo: &'static [(&'static str, &'static str)],
}

impl Suite {
    fn skipped(&self, abi: Abi) -> impl Iterator<Item = &(&'static str, &'static str)> {
        let more = if abi == Abi::Fifo { self.skipped_with_fifo } else { &[] };
        self.skipped.iter().chain(more)
    }
}

/// The test programs, and a machine that has them.
pub struct Programs {
    flavour: Flavour,
    machine: Machine,
}

impl Programs {
    /// Builds the tests and compiles the C programs, into a folder below cargo's.
    ///
    /// # Errors
    /// A compiler is missing or fails.
    pub fn build(flavour: Flavour) -> Result<Self> {
        let folder = target_dir().join("xen-tests");
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fetch::obtain(Set::Bookworm).map_err(|reason| Unavailable::new(format!("{reason:#}")))?;
        ensure!(compile_all(Packages::with(&DEBIAN).as_ref(), &folder), "no C compiler `cc`");
        let machine =
            Machine::new(flavour, System::Dom0).folder(folder, "/t/programs").capture().limit(LIMIT);
        let machine = SUITES.iter().try_fold(machine, |machine, suite| {
            Ok::<_, anyhow::Error>(machine.file(build(suite.name)?, &format!("/t/{}", suite.name)))
        })?;
        // The tests look for these at the paths that they have here.
        let tests = paths::workspace().join("tests/programs");
        let debian = DEBIAN.map(|name| paths::debian().join("bookworm/root").join(name));
        let machine =
            debian.into_iter().chain([tests.join("scripts"), tests.join("recordings")]).fold(machine, same);
        Ok(Self { flavour, machine })
    }

    /// Runs the tests with an ABI between Linux and Xen.
    ///
    /// # Errors
    /// The machine did not finish.
    pub fn run(&self, abi: Abi) -> Result<Finding> {
        let machine = self.machine.clone().kernel_args(abi.kernel_args());
        let outcome = machine.run(&["sh", "-c", &commands(abi)])?;
        let name = format!("the programs on {} with {abi}", self.flavour);
        let skipped = SUITES.iter().flat_map(|suite| suite.skipped(abi));
        let without: String = skipped.map(|(test, why)| format!("\n  without {test}: {why}")).collect();
        let count = passed(&outcome.stdout);
        let summary = format!("{count} tests passed in {} s{without}", outcome.duration.as_secs());
        Ok(Finding { name, summary, details: outcome.stdout + &outcome.stderr, passed: outcome.status == 0 })
    }
}

/// How many tests passed, as the test programs say.
fn passed(output: &str) -> u32 {
    let count = |line: &str| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok();
    output.lines().filter_map(count).sum()
}

/// Brings a file or a folder to the path that it has here.
fn same(machine: Machine, here: PathBuf) -> Machine {
    let there = here.to_string_lossy().into_owned();
    if here.is_dir() { machine.folder(here, &there) } else { machine.file(here, &there) }
}

/// What runs in the machine: all suites one after the other, each test alone, since they share one domain's ports and VIRQs.
fn commands(abi: Abi) -> String {
    let shim = paths::workspace().join("tests/programs/scripts/real.sh");
    let mut script = format!(
        "export EVTCHN_BIN={} EVTCHN_PROGRAMS=/t/programs EVTCHN_DEBIAN_DIR={} EVTCHN_REQUIRE=1\nfailed=0\n",
        shim.display(),
        paths::debian().display()
    );
    for suite in &SUITES {
        let Suite { name, only, .. } = suite;
        let skipped: Vec<String> = suite.skipped(abi).map(|(test, _)| format!("--skip {test}")).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_that_is_named_exists() {
        for suite in &SUITES {
            let path = paths::workspace().join(format!("tests/programs/tests/{}.rs", suite.name));
            let source = fs::read_to_string(path).unwrap();
            let skipped = suite.skipped(Abi::Fifo).map(|(test, _)| test);
            for test in skipped.chain(suite.only) {
                assert!(source.contains(&format!("\nfn {test}()")), "{test}");
            }
        }
    }

    #[test]
    fn passed_tests_are_counted_over_all_programs() {
        let output = "test result: ok. 15 passed; 0 failed\nother\ntest result: ok. 6 passed; 0 failed\n";
        assert_eq!(passed(output), 21);
        assert_eq!(passed("test result: FAILED. 15 passed; 1 failed"), 0);
    }
}
