// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program sees of `/dev/xen/evtchn`, checked on the driver of the machine that this program runs on.
//!
//! It runs in domain 0 of a Xen, on Linux's own driver or on ours, or on a machine without Xen whose driver simulates
//! channels. `cargo xtask kernel` runs it on all three. Every command ends with status 1 if a check failed.

mod cases;
mod cost;
mod device;
mod hammer;
mod hazards;
mod hold;
mod many;
mod privcmd;
mod report;
mod sys;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use report::{Driver, Report};

/// Checks of the driver of /dev/xen/evtchn.
#[derive(Parser)]
#[command(name = "driver-tests")]
struct Cli {
    /// Whose driver is loaded
    #[arg(long, value_enum, default_value = "ours")]
    driver: Driver,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every case of what a program sees; one line for each check
    Conformance {
        /// Only cases whose name contains this
        filter: Option<String>,
    },
    /// Calls that must be refused, and on Linux's own driver stop the machine
    Hazards,
    /// Binds this many ports on one file, and fires, reads, enables and closes them
    Many {
        /// How many; twice as many are bound in all
        #[arg(default_value_t = 4000)]
        ports: u32,
    },
    /// Threads that bind, notify, write, read and close at the same time
    Hammer {
        /// For how long
        #[arg(default_value_t = 5)]
        seconds: u64,
        /// How many threads
        #[arg(long, default_value_t = 8)]
        threads: u32,
        /// Seed of what the threads do
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Keeps events going between two files until its input ends, so that somebody can try to unload the driver
    Hold,
    /// Counts the time stamp counter's ticks of notify, read and write
    Cost {
        /// How many rounds
        #[arg(default_value_t = 2000)]
        rounds: u32,
    },
}

fn main() -> Result<ExitCode> {
    let Cli { driver, command } = Cli::parse();
    let mut report = Report::new(driver);
    match command {
        Command::Conformance { filter } => cases::run(&mut report, filter.as_deref().unwrap_or_default())?,
        Command::Hazards => hazards::run(&mut report)?,
        Command::Many { ports } => many::run(&mut report, ports)?,
        Command::Hammer { seconds, threads, seed } => hammer::run(&mut report, seconds, threads, seed)?,
        Command::Hold => hold::run()?,
        Command::Cost { rounds } => cost::run(rounds)?,
    }
    Ok(report.verdict())
}
