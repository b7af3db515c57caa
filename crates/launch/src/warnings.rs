// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the user is told once about a program that cannot be served.

/// Which warnings were given.
#[derive(Default)]
pub struct Warnings {
    not_dumpable: bool,
    foreign: bool,
}

impl Warnings {
    /// A program's memory cannot be read.
    pub fn not_dumpable(&mut self, process: i32) {
        if !std::mem::replace(&mut self.not_dumpable, true) {
            eprintln!(
                "evtchn: run: process {process} is not dumpable, so its event channel calls cannot be served \
                 (hint: it has other privileges, or called prctl(PR_SET_DUMPABLE, 0))"
            );
        }
    }

    /// A program of another architecture (32-bit) runs.
    pub fn foreign(&mut self, process: i32) {
        if !std::mem::replace(&mut self.foreign, true) {
            eprintln!(
                "evtchn: run: process {process} is a 32-bit program: it runs, but without event channels \
                 (hint: use a 64-bit build of it)"
            );
        }
    }
}
