// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask device-diff`: what the recorder prints under `evtchn run`, held against what it printed on Xen.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use evtchn_replay::{
    Excuses, Recording, Table, compare_device,
    recorder::{Run, Tools},
};

use crate::replay::print;

/// Runs the recorder under `evtchn run` and compares what it prints with a recording of Linux's driver on Xen.
///
/// The program, the number of vCPUs and the domain's id are taken from the recording. Exit status 1 if a difference is
/// not excused by a row of docs/compat.md, or if more than 2 % of the steps are.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seed of the random program; must be the recording's
    #[arg(long, default_value_t = 20)]
    seed: u64,
    /// Recording (`.jsonl`, `.jsonl.gz`) of `dev-fixed` or `dev-random`
    #[arg(long, value_name = "FILE")]
    recording: PathBuf,
    /// Microseconds that the recorder waits for events after a step (its own default: 40000)
    #[arg(long, value_name = "N")]
    settle_us: Option<u32>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command. The `evtchn` binary is built, or the one that `EVTCHN_BIN` names is used.
///
/// # Errors
/// The recording cannot be read, or the recorder cannot be built or run.
pub fn run(args: &Args) -> Result<ExitCode> {
    let xen = Recording::load(&args.recording)?;
    ensure!(xen.is_device(), "{}: a recording of hypercalls: use replay", xen.name);
    let excuses = Excuses::load(Table::Device)?;
    let ours = Tools::build()?.record(&xen, Run { seed: args.seed, settle_us: args.settle_us })?;
    let passed = print(&compare_device(&xen, &ours, &excuses), args.json)?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
