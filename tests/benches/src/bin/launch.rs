// SPDX-License-Identifier: MIT OR Apache-2.0
//! Measures what `evtchn run` costs and prints the report as JSON. `cargo xtask bench launch` builds everything, runs this, and prints a table.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use evtchn_benches::launch::{Plan, Programs, measure};

/// Measures what `evtchn run` costs.
#[derive(Parser)]
struct Args {
    /// The binary `evtchn`
    #[arg(long)]
    evtchn: PathBuf,
    /// A look of a few seconds
    #[arg(long)]
    quick: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let probe = std::env::current_exe()?.with_file_name("probe");
    let programs = Programs { evtchn: args.evtchn, probe };
    let plan = if args.quick { Plan::QUICK } else { Plan::FULL };
    let report = measure(&programs, plan).context("launch")?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
