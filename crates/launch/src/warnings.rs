// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user is told while programs run.

use std::io::{Write, stderr};

/// Which warnings were given; each comes once.
#[derive(Default)]
pub struct Warnings {
    not_dumpable: bool,
    foreign: bool,
}

impl Warnings {
    /// A program's memory cannot be read.
    pub fn not_dumpable(&mut self, process: i32) {
        if !std::mem::replace(&mut self.not_dumpable, true) {
            tell(&format!(
                "process {process} is not dumpable, so its event channel calls cannot be served \
                 (hint: it has other privileges, or called prctl(PR_SET_DUMPABLE, 0))"
            ));
        }
    }

    /// A program of another architecture (32-bit) runs.
    pub fn foreign(&mut self, process: i32) {
        if !std::mem::replace(&mut self.foreign, true) {
            tell(&format!(
                "process {process} is a 32-bit program: it runs, but without event channels \
                 (hint: use a 64-bit build of it)"
            ));
        }
    }
}

/// Writes a line for the user. If it cannot be written, the programs are served all the same.
pub fn tell(what: &str) {
    let _ = writeln!(stderr(), "evtchn: run: {what}");
}
