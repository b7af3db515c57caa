// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask replay`: recordings of a real Xen against the engine.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use evtchn_replay::{Excuses, Recording, Report, Table};

/// Replays recordings of a real Xen against the engine: hypercalls of dom0, and the bare guest.
///
/// Prints the steps compared, how many each row of docs/compat.md excused, and each difference. Exit status 1 if a
/// difference is not excused, or if more than 2 % of a recording's steps are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recordings (`.jsonl`, `.jsonl.gz`) of hypercalls, with either ABI, or of the bare guest
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
    let tables = Tables::load()?;
    let mut verdict = ExitCode::SUCCESS;
    for file in &args.files {
        let passed = replay(file, &tables, args.json).unwrap_or_else(|error| {
            eprintln!("xtask: {error:#}");
            false
        });
        if !passed {
            verdict = ExitCode::FAILURE;
        }
    }
    Ok(verdict)
}

/// The tables of docs/compat.md that replays need.
struct Tables {
    hypercalls: Excuses,
    guest: Excuses,
}

impl Tables {
    fn load() -> Result<Self> {
        Ok(Self { hypercalls: Excuses::load(Table::Hypercalls)?, guest: Excuses::load(Table::Guest)? })
    }

    fn of(&self, recording: &Recording) -> &Excuses {
        if recording.is_guest() { &self.guest } else { &self.hypercalls }
    }
}

fn replay(file: &Path, tables: &Tables, json: bool) -> Result<bool> {
    let recording = Recording::load(file)?;
    print(&evtchn_replay::replay(&recording, tables.of(&recording))?, json)
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
