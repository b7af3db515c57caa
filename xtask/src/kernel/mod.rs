// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask kernel`: the Linux module of `kernel/`, built for a stock kernel, checked, and tried without Xen and on Xen.

mod build;
mod cost;
mod environment;
mod inside;
mod panics;
mod source;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;

use self::build::Variant;
pub use self::build::format;
use self::environment::Environment;
use crate::paths;

/// The kernel that the module is built for: that of the emulated machine.
const RELEASE: &str = "7.2.13+deb14-amd64";

/// Builds the Linux module (kernel/) for Debian's kernel and tests it, without Xen and on Xen, beside Linux's own driver.
///
/// The first run prepares what it is built in, below target/debian (3.3 GB, some five minutes). That needs user namespaces, or root.
/// The modules are left in target/kernel.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only these steps
    #[arg(value_enum)]
    steps: Vec<Step>,
    /// Write the source package for DKMS into this folder, and do nothing else
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// Seconds for which threads hammer the driver
    #[arg(long, value_name = "S", default_value_t = 5)]
    hammer: u64,
}

/// What there is to do, in this order.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Format, and clippy with the kernel's own lints
    Lints,
    /// Both modules: for Xen, and with simulated channels
    Build,
    /// No code path of the modules may lead to a panic
    Panics,
    /// The source package, built as DKMS builds it
    Package,
    /// The module with simulated channels in the stock kernel, without Xen
    Simulated,
    /// Linux's driver and ours on Xen, with two CPUs: the same tests
    Xen,
    /// The two drivers with the two-level ABI, in short
    TwoLevel,
    /// The two on one CPU: the same recordings; and what notify, read and write cost, in instructions
    OneCpu,
}

const STEPS: [Step; 8] = [
    Step::Lints,
    Step::Build,
    Step::Panics,
    Step::Package,
    Step::Simulated,
    Step::Xen,
    Step::TwoLevel,
    Step::OneCpu,
];

/// Where the built modules are put.
fn output() -> PathBuf {
    paths::workspace().join("target/kernel")
}

/// Runs the steps; a failed one does not keep the others from running, but for those that need what it makes.
///
/// # Errors
/// A step failed, or what the module is built in cannot be had.
pub fn run(args: &Args) -> Result<ExitCode> {
    if let Some(folder) = &args.source {
        source::write(folder)?;
        println!("kernel: the source package is in {}", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = |step: &&Step| args.steps.is_empty() || args.steps.contains(step);
    let environment = Environment::prepare()?;
    let mut failed = Vec::new();
    for step in STEPS.iter().filter(wanted) {
        let start = Instant::now();
        let name = step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let outcome =
            step.run(&environment, args).inspect_err(|error| eprintln!("kernel: {name}: {error:#}"));
        let verdict = if outcome.is_ok() { "passed" } else { "FAILED" };
        println!("kernel: {name} {verdict} in {:.1} s", start.elapsed().as_secs_f64());
        if outcome.is_err() {
            failed.push(name);
            if *step == Step::Build {
                break;
            }
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

impl Step {
    fn run(self, environment: &Environment, args: &Args) -> Result<()> {
        match self {
            Self::Lints => build::lints(environment),
            Self::Build => Variant::ALL.iter().try_for_each(|variant| build::module(environment, *variant)),
            Self::Panics => Variant::ALL.iter().try_for_each(|variant| panics::check(*variant)),
            Self::Package => source::check(environment),
            Self::Simulated => trial::simulated(args.hammer),
            Self::Xen => trial::xen(args.hammer),
            Self::TwoLevel => trial::two_level(),
            Self::OneCpu => cost::run(),
        }
    }
}
