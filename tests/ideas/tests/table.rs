// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the table: one named test for each row.

use std::process::ExitCode;

use evtchn_ideas::{Case, cases, ids};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A case may count on the lowest free port, which another thread inside the engine can hold back for a moment.
    arguments.test_threads.get_or_insert(1);
    let mut trials: Vec<_> = cases().map(tested).collect();
    trials.sort_by(|a, b| a.name().cmp(b.name()));
    trials.push(Trial::test("each id of the list is there once", check_list));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn tested(case: &'static Case) -> Trial {
    Trial::test(format!("{} {}", case.id, case.what), || {
        (case.run)();
        Ok(())
    })
}

/// Every id has a case, and nothing else has.
fn check_list() -> Result<(), Failed> {
    let mut known: Vec<_> = cases().map(|case| String::from(case.id)).collect();
    let mut expected: Vec<_> = ids().collect();
    let missing: Vec<_> = expected.iter().filter(|id| !known.contains(id)).cloned().collect();
    if !missing.is_empty() {
        return Err(format!("not in the table: {}", missing.join(" ")).into());
    }
    known.sort();
    expected.sort();
    if known == expected { Ok(()) } else { Err("an id is there twice, or is not in the list".into()) }
}
