// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs the table: one named test for each row.

use std::process::ExitCode;

use evtchn_ideas::{AWAITED, Case, NOT_APPLICABLE, cases, ids};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials: Vec<_> = cases().map(tested).collect();
    trials.extend(
        AWAITED.iter().map(|row| ignored(format!("{} AWAITED ({}) {}", row.id, row.feature, row.what))),
    );
    trials.extend(
        NOT_APPLICABLE.iter().map(|row| ignored(format!("{} NOT APPLICABLE: {}", row.id, row.reason))),
    );
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

fn ignored(name: String) -> Trial {
    Trial::test(name, || Ok(())).with_ignored_flag(true)
}

/// Every id is tested, awaited or not applicable, and nothing else is.
fn check_list() -> Result<(), Failed> {
    let tested = cases().map(|case| case.id);
    let awaited = AWAITED.iter().map(|row| row.id);
    let not_applicable = NOT_APPLICABLE.iter().map(|row| row.id);
    let mut known: Vec<_> = tested.chain(awaited).chain(not_applicable).map(String::from).collect();
    let mut expected: Vec<_> = ids().collect();
    let missing: Vec<_> = expected.iter().filter(|id| !known.contains(id)).cloned().collect();
    if !missing.is_empty() {
        return Err(format!("not in the table: {}", missing.join(" ")).into());
    }
    known.sort();
    expected.sort();
    if known == expected { Ok(()) } else { Err("an id is there twice, or is not in the list".into()) }
}
