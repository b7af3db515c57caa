// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask fuzz`: the targets of `fuzz/`, guided by coverage where there is a nightly toolchain, else with random bytes.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{cargo, paths};

const TARGETS: [&str; 3] = ["hypercalls", "pages", "snapshots"];
const HOST: &str = "x86_64-unknown-linux-gnu";
/// What makes the compiler count edges and show comparisons, as libFuzzer wants it.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 --cfg fuzzing";

/// Fuzzes the hypercall door, shared pages and saved states.
///
/// Runs each target for some seconds: under libFuzzer if a nightly toolchain is installed, else (or with --stable) with
/// inputs that are the same in each run. An input that fails is kept, and named.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this target
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// Without libFuzzer
    #[arg(long)]
    stable: bool,
}

/// Runs the command.
///
/// # Errors
/// A target cannot be built, or fails.
pub fn run(args: &Args) -> Result<()> {
    let guided = !args.stable && has_nightly();
    if !guided && !args.stable {
        eprintln!("fuzz: no nightly toolchain: random inputs, not guided by coverage");
    }
    build(guided)?;
    let wanted = |name: &&&str| args.target.as_deref().is_none_or(|target| target == **name);
    for target in TARGETS.iter().filter(wanted) {
        let mut command =
            if guided { libfuzzer(target, args.seconds)? } else { bounded(target, args.seconds) };
        cargo::run(&mut command, &format!("the target {target}"))?;
    }
    Ok(())
}

/// How long a target runs in CI.
const SECONDS_IN_CI: &str = "4";

/// A few seconds of a target, for CI: the same inputs on every machine.
pub fn in_ci(target: &str) -> Result<()> {
    let mut command = cargo::cargo();
    command.args([
        "run",
        "--quiet",
        "--release",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--bin",
        "bounded",
        "--",
    ]);
    command.args([target, SECONDS_IN_CI]).env("CARGO_TARGET_DIR", folder().join("stable"));
    cargo::run(&mut command, target)
}

fn bounded(target: &str, seconds: u32) -> Command {
    let mut command = Command::new(folder().join("stable/release/bounded"));
    command.args([target, &seconds.to_string()]).current_dir(folder());
    command
}

/// Below cargo's target folder, wherever that is.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| paths::workspace().join("target")).join("fuzz")
}

fn has_nightly() -> bool {
    let mut probe = Command::new("cargo");
    probe.args(["+nightly", "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn build(guided: bool) -> Result<()> {
    let mut command = if guided { Command::new("cargo") } else { cargo::cargo() };
    command.current_dir(paths::workspace());
    if guided {
        command.args(["+nightly", "build", "--features", "libfuzzer", "--target", HOST]);
        for target in TARGETS {
            command.args(["--bin", target]); // not `bounded`, which has no libFuzzer to link to
        }
        command.env("RUSTFLAGS", COVERAGE).env("CARGO_TARGET_DIR", folder().join("guided"));
        // What the stable cargo that runs this has set would be used instead of nightly's.
        command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTUP_TOOLCHAIN");
    } else {
        command.args(["build", "--bin", "bounded"]).env("CARGO_TARGET_DIR", folder().join("stable"));
    }
    command.args(["--quiet", "--release", "--manifest-path", "fuzz/Cargo.toml"]);
    cargo::run(&mut command, "cargo build of the targets")
}

/// New inputs go below the target folder; the committed ones are read only.
fn libfuzzer(target: &str, seconds: u32) -> Result<Command> {
    let found = folder().join("corpus").join(target);
    std::fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
    let committed = paths::workspace().join("fuzz/corpus").join(target);
    ensure!(committed.is_dir(), "no corpus {}", committed.display());
    let mut command = Command::new(folder().join("guided").join(HOST).join("release").join(target));
    command.arg(&found).arg(committed).current_dir(folder());
    command.args([
        &format!("-max_total_time={seconds}"),
        "-max_len=2048",
        "-timeout=20",
        "-print_final_stats=1",
    ]);
    Ok(command)
}
