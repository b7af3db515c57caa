// SPDX-License-Identifier: MIT OR Apache-2.0
//! The project's own commands, run as `cargo xtask COMMAND`: packages the tests need, the tests, and all checks of CI.

mod bench;
mod cargo;
mod ci;
mod device_diff;
mod fetch;
mod fuzz;
mod guest;
mod kernel;
mod link;
mod machine;
mod models;
mod mutations;
mod paths;
mod progress;
mod replay;
mod test;
mod unikernel;
mod xen;
mod xen_tests;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Get the Debian packages that the tests run, without root, below target/debian
    Fetch(fetch::Args),
    /// Run every test: packages, the evtchn binary, documentation examples, all tests of the workspace
    Test(test::Args),
    /// Run what CI runs: format, lints, documentation, models, programs without std, the example, fuzzing, a real Xen,
    /// guests on the engine, then the tests
    Ci,
    /// Link the engine, the guest and the device into programs without std and libc, and run them
    Link,
    /// Run the model checkers: the lock-free protocols in every order that they find
    Models(models::Args),
    Replay(replay::Args),
    DeviceDiff(device_diff::Args),
    Bench(bench::Args),
    Mutations(mutations::Args),
    Fuzz(fuzz::Args),
    Kernel(kernel::Args),
    Xen(xen::Args),
    Guest(guest::Args),
    XenTests(xen_tests::Args),
    Unikernel(unikernel::Args),
}

fn main() -> ExitCode {
    run(Cli::parse().command).unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Fetch(args) => fetch::run(&args).map(drop)?,
        Task::Test(args) => test::run(&args)?,
        Task::Ci => ci::run()?,
        Task::Link => link::run()?,
        Task::Models(args) => models::run(args)?,
        Task::Fuzz(args) => fuzz::run(&args)?,
        Task::Kernel(args) => return kernel::run(&args),
        Task::XenTests(args) => xen_tests::run(&args)?,
        Task::Unikernel(args) => unikernel::run(&args)?,
        Task::Replay(args) => return replay::run(&args),
        Task::DeviceDiff(args) => return device_diff::run(&args),
        Task::Bench(args) => return bench::run(&args),
        Task::Guest(args) => return guest::run(&args),
        Task::Xen(args) => return xen::run(&args),
        Task::Mutations(args) => return mutations::run(&args),
    }
    Ok(ExitCode::SUCCESS)
}
