// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user is told while programs run.

use std::io::{Write, stderr};

/// Tells the user; remembers which warnings were given, as each comes once.
pub struct Warnings {
    prefix: String,
    not_dumpable: bool,
    foreign: bool,
}

impl Warnings {
    /// Lines for the user begin with `prefix`.
    pub fn new(prefix: String) -> Self {
        Self { prefix, not_dumpable: false, foreign: false }
    }

    /// Writes a line for the user. If it cannot be written, the programs are served all the same.
    pub fn tell(&self, what: &str) {
        let _ = writeln!(stderr(), "{}{what}", self.prefix);
    }

    /// A program's memory cannot be read.
    pub fn not_dumpable(&mut self, process: i32) {
        if !std::mem::replace(&mut self.not_dumpable, true) {
            self.tell(&format!(
                "process {process} is not dumpable, so its event channel calls cannot be served \
                 (hint: it has other privileges, or called prctl(PR_SET_DUMPABLE, 0))"
            ));
        }
    }

    /// A program of another architecture (32-bit) runs.
    pub fn foreign(&mut self, process: i32) {
        if !std::mem::replace(&mut self.foreign, true) {
            self.tell(&format!(
                "process {process} is a 32-bit program: it runs, but without event channels \
                 (hint: use a 64-bit build of it)"
            ));
        }
    }
}
