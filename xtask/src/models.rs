// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask models`: the lock-free protocols, in the orders that model checkers find.
//!
//! loom tries every order within a bound, with every value that a load may see; shuttle tries random orders of larger
//! programs. Both replace all atomics, so everything is compiled for them, each in a build folder of its own.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, paths};

/// What `models` is asked for.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Args {
    /// Take minutes, not seconds: one more preemption in each of the engine's and the guest's loom models, a hundred times the schedules
    #[arg(long)]
    full: bool,
}

/// A test target that holds models.
struct Models {
    package: &'static str,
    /// `loom` or `shuttle`: the `cfg`, and the target's name.
    checker: &'static str,
    features: &'static str,
    /// What `--full` sets.
    more: Option<(&'static str, &'static str)>,
}

const MODELS: [Models; 6] = [
    Models { package: "evtchn-sync", checker: "loom", features: "alloc", more: None },
    Models { package: "evtchn-device", checker: "loom", features: "", more: None },
    Models {
        package: "evtchn-engine",
        checker: "loom",
        features: "",
        more: Some(("LOOM_MAX_PREEMPTIONS", "4")),
    },
    Models {
        package: "evtchn-engine",
        checker: "shuttle",
        features: "",
        more: Some(("EVTCHN_SHUTTLE_ITERATIONS", "50000")),
    },
    Models {
        package: "evtchn-guest",
        checker: "loom",
        features: "",
        more: Some(("LOOM_MAX_PREEMPTIONS", "4")),
    },
    Models {
        package: "evtchn-guest",
        checker: "shuttle",
        features: "",
        more: Some(("EVTCHN_SHUTTLE_ITERATIONS", "20000")),
    },
];

/// Runs all models; the first that fails ends it.
///
/// # Errors
/// A model failed or could not be built.
pub fn run(args: Args) -> Result<()> {
    for models in &MODELS {
        let what = format!("{}'s {} models", models.package, models.checker);
        cargo::run(&mut models.command(args), &what)?;
    }
    Ok(())
}

impl Models {
    fn command(&self, args: Args) -> Command {
        let mut command = cargo::cargo();
        command.args(["test", "--quiet", "--release", "--package", self.package, "--test", self.checker]);
        command.args(["--features", self.features]);
        command.env("RUSTFLAGS", format!("--cfg {}", self.checker));
        command.env("CARGO_TARGET_DIR", paths::workspace().join("target").join(self.checker));
        command.envs(self.more.filter(|_| args.full));
        command
    }
}
