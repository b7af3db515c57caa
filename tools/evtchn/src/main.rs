// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Xen event channels without Xen: runs programs written for /dev/xen/evtchn on any Linux machine.
#[derive(Parser)]
#[command(name = "evtchn", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args).map(|ending| ending.mirror()),
    };
    result.unwrap_or_else(|error: anyhow::Error| {
        eprintln!("evtchn: {error:#}");
        ExitCode::FAILURE
    })
}
