// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line.

mod demo;
mod generate;
mod number;
mod run;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use evtchn_launch::LaunchError;

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
    Demo(demo::Args),
    #[command(hide = true)]
    DemoReceiver(demo::Part),
    #[command(hide = true)]
    DemoSender(demo::Part),
    Completions(generate::Completions),
    Man(generate::Man),
}

fn main() -> ExitCode {
    let result = match parse().command {
        Command::Run(args) => run::run(args).map(|ending| ending.mirror()),
        Command::Demo(args) => demo::run(args),
        Command::DemoReceiver(part) => demo::receiver(part),
        Command::DemoSender(part) => demo::sender(part),
        Command::Completions(args) => generate::completions(args, Cli::command()),
        Command::Man(args) => generate::man(args, Cli::command()),
    };
    result.unwrap_or_else(|error: anyhow::Error| {
        eprintln!("evtchn: {error:#}");
        error.downcast_ref::<LaunchError>().map_or(ExitCode::FAILURE, |error| error.status().into())
    })
}

fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        if std::env::args_os().nth(1).is_some_and(|word| word == "run") {
            run::refuse(&error);
        }
        error.exit()
    })
}
