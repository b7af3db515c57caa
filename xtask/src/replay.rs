// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask replay`: recordings of a real Xen against the engine.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use evtchn_replay::{Excuses, Recording, Report, Table, replay_hypercalls};

/// Replays hypercall recordings of a real Xen against the engine.
///
/// Prints the steps compared, how many each row of docs/compat.md excused, and each difference. Exit status 1 if a
/// difference is not excused, or if more than 2 % of a recording's steps are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recordings (`.jsonl`, `.jsonl.gz`) of dom0 with the two-level ABI
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Print one JSON object a recording
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// A recording that cannot be read, or that the engine cannot replay, is reported and counts as a failure.
///
/// # Errors
/// docs/compat.md cannot be read.
pub fn run(args: &Args) -> Result<ExitCode> {
    let excuses = Excuses::load(Table::Hypercalls)?;
    let mut verdict = ExitCode::SUCCESS;
    for file in &args.files {
        let passed = replay(file, &excuses, args.json).unwrap_or_else(|error| {
            eprintln!("xtask: {error:#}");
            false
        });
        if !passed {
            verdict = ExitCode::FAILURE;
        }
    }
    Ok(verdict)
}

fn replay(file: &Path, excuses: &Excuses, json: bool) -> Result<bool> {
    print(&replay_hypercalls(&Recording::load(file)?, excuses)?, json)
}

/// Prints a report and says whether the comparison passed.
pub(crate) fn print(report: &Report, json: bool) -> Result<bool> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        println!("{report}");
    }
    let failure = report.failure();
    if let Some(failure) = &failure {
        eprintln!("xtask: {}: {failure}", report.recording);
    }
    Ok(failure.is_none())
}
