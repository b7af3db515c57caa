// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table of test cases with ids for a hypervisor's side of Xen event channels, each run against the engine.
//!
//! A case has the id and the words of one row of the table, and asserts what a real Xen does there; most rows were confirmed
//! by running Xen's own code. Where the engine deliberately differs (`docs/compat.md`), the case asserts what is documented,
//! and says so. [`cases`] are the rows; [`ids`] is the complete list, and each id must have one case.
//!
//! The cases run one by one, each in a process of its own (nextest) or one after the other: which port number is the lowest
//! free one depends on what other threads of the process do at the moment.
//!
//! Cases with threads run for a moment; the variable `EVTCHN_IDEAS_FULL=1` gives them the counts that the table
//! names, with which the longest take some minutes each in a release build.

mod alloc;
mod fifo;
mod groups;
mod list;
mod race;
mod vcpus;
mod world;
mod xen;

pub use list::ids;

/// A row of the table.
#[derive(Debug)]
pub struct Case {
    /// Its id, like `AU-01`. Ids are stable: new ones are added at the end of their group.
    pub id: &'static str,
    /// What it is about, in a few words.
    pub what: &'static str,
    /// Panics if the engine does something else.
    pub run: fn(),
}

const fn case(id: &'static str, what: &'static str, run: fn()) -> Case {
    Case { id, what, run }
}

/// All rows that are tested.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    groups::ALL.iter().copied().flatten()
}

/// How often a case with threads goes round: `short`, or the table's count.
fn rounds(short: u32, full: u32) -> u32 {
    if std::env::var_os("EVTCHN_IDEAS_FULL").is_some_and(|full| full == "1") { full } else { short }
}
