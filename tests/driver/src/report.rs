// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was seen, a line for each check, in a form that is the same wherever the driver behaves the same.

use std::fmt::Debug;
use std::process::ExitCode;

use clap::ValueEnum;

/// Ends the lines in which Linux's driver and ours are meant to differ.
const ON_PURPOSE: &str = "(differs on purpose)";

/// Whose driver is being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Driver {
    /// Linux's own, on Xen
    Linux,
    /// Ours, on Xen
    Ours,
    /// Ours, with simulated channels
    Simulated,
}

/// The checks so far.
pub struct Report {
    driver: Driver,
    case: &'static str,
    names: Vec<(u32, &'static str)>,
    passed: u32,
    failed: u32,
}

impl Report {
    /// No check yet.
    pub fn new(driver: Driver) -> Self {
        Self { driver, case: "", names: Vec::new(), passed: 0, failed: 0 }
    }

    /// Whose driver it is.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Begins a case. Names of ports are its own.
    pub fn begin(&mut self, case: &'static str) {
        self.case = case;
        self.names.clear();
    }

    /// Calls a port by a name in what follows, since its number may differ from machine to machine.
    pub fn name(&mut self, port: u32, name: &'static str) {
        self.names.push((port, name));
    }

    /// Ports by their names.
    pub fn named(&self, ports: &[u32]) -> Vec<String> {
        ports.iter().map(|port| self.name_of(*port)).collect()
    }

    fn name_of(&self, port: u32) -> String {
        let known = self.names.iter().find(|(known, _)| *known == port);
        known.map_or_else(|| format!("#{port}"), |(_, name)| (*name).to_owned())
    }

    /// Checks that something is what it should be.
    pub fn is<T: Debug + PartialEq>(&mut self, what: &str, actual: T, expected: T) {
        self.line(what, &actual, &expected, "");
    }

    /// The same where the two drivers are meant to answer differently: `linux`, and `ours`.
    pub fn differs<T: Debug + PartialEq>(&mut self, what: &str, actual: T, linux: T, ours: T) {
        let expected = if self.driver == Driver::Linux { linux } else { ours };
        self.line(what, &actual, &expected, ON_PURPOSE);
    }

    fn line<T: Debug + PartialEq>(&mut self, what: &str, actual: &T, expected: &T, remark: &str) {
        let line = format!("{}: {what}: {actual:?} {remark}", self.case);
        if actual == expected {
            self.passed += 1;
            println!("{}", line.trim_end());
        } else {
            self.failed += 1;
            println!("{} FAILED, expected {expected:?}", line.trim_end());
        }
    }

    /// Says how many checks there were. The process ends with what it answers.
    pub fn verdict(&self) -> ExitCode {
        if self.passed + self.failed > 0 {
            println!("{} checks passed, {} failed", self.passed, self.failed);
        }
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
