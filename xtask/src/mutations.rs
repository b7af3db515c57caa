// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask mutations`: known defects, put back one at a time, and the test that must find each.
//!
//! The defects are in `tests/mutations`, as small edits of the sources with the name of a test. They are applied in a copy of
//! the workspace below cargo's target folder, never in the tree itself. A test is run without any edit first: what fails
//! anyway finds nothing.

mod patch;
mod runner;
mod scratch;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::json;

use self::patch::{Case, Kind, Patch, Test};
use self::runner::Outcome;
use self::scratch::Scratch;

/// Puts known defects back, one at a time, and checks that the test which is named for each finds it.
///
/// Exit status 1 if a defect is missed, or a patch no longer fits the sources. The whole takes five minutes, longer on a busy machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these defects
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Only those that a test finds without a model checker
    #[arg(long)]
    quick: bool,
    /// Print one JSON array
    #[arg(long)]
    json: bool,
    /// Print the table, and run nothing
    #[arg(long)]
    list: bool,
}

/// Runs the command.
///
/// # Errors
/// The patches cannot be read or do not fit, or a test does not pass without them.
pub fn run(args: &Args) -> Result<ExitCode> {
    let cases = select(patch::load()?, args)?;
    let mut scratch = Scratch::prepare()?;
    let patches: Vec<_> = cases.iter().filter_map(Case::patch).collect();
    for patch in &patches {
        scratch.check(patch)?;
    }
    if args.list {
        cases.iter().for_each(|case| println!("{}", Row { case, verdict: None }.line()));
        return Ok(ExitCode::SUCCESS);
    }
    check_unpatched(&scratch, &patches)?;
    let rows = judge_all(&cases, &mut scratch, args.json)?;
    print_end(&rows, args.json);
    let good = rows.iter().all(Row::is_good);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The cases that were asked for; those that need the same build follow each other.
fn select(mut cases: Vec<Case>, args: &Args) -> Result<Vec<Case>> {
    for id in &args.ids {
        ensure!(cases.iter().any(|case| case.id.eq_ignore_ascii_case(id)), "no defect {id}: see --list");
    }
    let named =
        |case: &Case| args.ids.is_empty() || args.ids.iter().any(|id| case.id.eq_ignore_ascii_case(id));
    let quick = |case: &Case| !args.quick || case.patch().is_none_or(|patch| patch.test.kind == Kind::Plain);
    cases.retain(|case| named(case) && quick(case));
    cases.sort_by_key(|case| case.patch().map(|patch| patch.test.kind));
    Ok(cases)
}

/// Runs each test that is named without any patch.
fn check_unpatched(scratch: &Scratch, patches: &[&Patch]) -> Result<()> {
    let tests: BTreeMap<&Test, ()> = patches.iter().map(|patch| (&patch.test, ())).collect();
    eprintln!("mutations: {} tests without a defect", tests.len());
    for test in tests.into_keys() {
        match runner::run(scratch, test)? {
            Outcome::Passes => {}
            outcome => bail!("without any defect, {test} {}", outcome.describe()),
        }
    }
    Ok(())
}

/// What became of a case.
struct Row<'a> {
    case: &'a Case,
    verdict: Option<(Outcome, Duration)>,
}

fn judge_all<'a>(cases: &'a [Case], scratch: &mut Scratch, quiet: bool) -> Result<Vec<Row<'a>>> {
    let mut rows = Vec::new();
    for case in cases {
        let begun = Instant::now();
        let outcome = case.patch().map(|patch| judge(patch, scratch)).transpose()?;
        let row = Row { case, verdict: outcome.map(|outcome| (outcome, begun.elapsed())) };
        if !quiet {
            println!("{}", row.line());
        }
        rows.push(row);
    }
    Ok(rows)
}

fn judge(patch: &Patch, scratch: &mut Scratch) -> Result<Outcome> {
    scratch.apply(patch)?;
    let outcome = runner::run(scratch, &patch.test);
    scratch.restore(patch)?;
    outcome
}

impl Row<'_> {
    fn is_good(&self) -> bool {
        self.verdict.as_ref().is_none_or(|(outcome, _)| matches!(outcome, Outcome::Fails | Outcome::Hangs))
    }

    fn verdict(&self) -> &'static str {
        match (&self.case.kind, self.verdict.as_ref().map(|(outcome, _)| outcome)) {
            (patch::What::NotHere(_), _) => "not here",
            (_, None) => "",
            (_, Some(Outcome::Fails)) => "caught",
            (_, Some(Outcome::Hangs)) => "caught, hangs",
            (_, Some(Outcome::Passes)) => "MISSED",
            (_, Some(Outcome::NotBuilt(_))) => "NOT BUILT",
        }
    }

    fn line(&self) -> String {
        let by = match &self.case.kind {
            patch::What::Patch(patch) => format!("{}", patch.test),
            patch::What::NotHere(why) => why.clone(),
        };
        let time = self.verdict.as_ref().map(|(_, time)| format!("{:.0} s", time.as_secs_f64()));
        let (verdict, time) = (self.verdict(), time.unwrap_or_default());
        let mut line = format!("{:<24} {verdict:<13} {time:>5}  {}", self.case.id, self.case.what);
        line += &format!("\n{:>46}{by}", "");
        if let Some((Outcome::NotBuilt(why), _)) = &self.verdict {
            line += &format!("\n{why}");
        }
        line
    }

    fn json(&self) -> serde_json::Value {
        let (test, reason) = match &self.case.kind {
            patch::What::Patch(patch) => (Some(patch.test.to_string()), None),
            patch::What::NotHere(why) => (None, Some(why)),
        };
        json!({
            "id": self.case.id,
            "what": self.case.what,
            "test": test,
            "reason": reason,
            "verdict": self.verdict(),
            "seconds": self.verdict.as_ref().map(|(_, time)| time.as_secs_f64()),
        })
    }
}

fn print_end(rows: &[Row], as_json: bool) {
    if as_json {
        println!("{}", rows.iter().map(Row::json).collect::<serde_json::Value>());
        return;
    }
    let run = rows.iter().filter(|row| row.verdict.is_some()).count();
    let good = rows.iter().filter(|row| row.verdict.is_some() && row.is_good()).count();
    println!("mutations: {good} of {run} caught; {} cannot be put back here", rows.len() - run);
}
