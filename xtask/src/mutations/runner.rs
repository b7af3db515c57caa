// SPDX-License-Identifier: MIT OR Apache-2.0
//! Building and running one test of the copy.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::patch::{Kind, Test};
use super::scratch::Scratch;
use crate::cargo;

/// Longer than any of the tests takes on a busy machine. A defect that makes one wait for ever is found, too.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same for models.
const PATIENCE_WITH_MODELS: Duration = Duration::from_secs(180);

/// What a test said.
#[derive(Debug)]
pub enum Outcome {
    Passes,
    Fails,
    /// It does not end.
    Hangs,
    /// It cannot be compiled: what the compiler said.
    NotBuilt(String),
}

impl Outcome {
    pub fn describe(&self) -> String {
        match self {
            Self::Passes => "passes".into(),
            Self::Fails => "fails".into(),
            Self::Hangs => "does not end".into(),
            Self::NotBuilt(why) => format!("cannot be built:\n{why}"),
        }
    }
}

/// Builds a test and runs it.
///
/// # Errors
/// It cannot be started, or there is no test of this name.
pub fn run(scratch: &Scratch, test: &Test) -> Result<Outcome> {
    match build(scratch, test)? {
        Ok(program) => run_built(scratch, test, &program),
        Err(why) => Ok(Outcome::NotBuilt(why)),
    }
}

/// The test's program, or what the compiler said.
fn build(scratch: &Scratch, test: &Test) -> Result<Result<PathBuf, String>> {
    let mut command = cargo::cargo();
    command.current_dir(scratch.tree()).args(["test", "--quiet", "--no-run", "--package", &test.package]);
    match test.target.as_str() {
        "lib" => command.arg("--lib"),
        target => command.args(["--test", target]),
    };
    let folder = match test.kind {
        Kind::Plain => "plain",
        Kind::Loom => "loom",
        Kind::Shuttle => "shuttle",
    };
    if test.kind != Kind::Plain {
        command.arg("--release").env("RUSTFLAGS", format!("--cfg {folder}"));
        command.env("CARGO_PROFILE_RELEASE_INCREMENTAL", "true").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    }
    if test.package == "evtchn-sync" {
        command.args(["--features", "alloc"]);
    }
    command.args(["--message-format", "json-render-diagnostics"]);
    command.env("CARGO_TARGET_DIR", scratch.beside(folder)).env_remove("CARGO_MANIFEST_DIR");
    let output = command.output().context("cannot start cargo")?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let program = messages.lines().rev().find_map(cargo::executable);
    match program.filter(|_| output.status.success()) {
        Some(program) => Ok(Ok(program)),
        None => Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

fn run_built(scratch: &Scratch, test: &Test, program: &PathBuf) -> Result<Outcome> {
    let said = scratch.beside("output");
    let file = File::create(&said).with_context(|| said.display().to_string())?;
    let mut command = Command::new(program);
    // A row of a table is named by how it begins.
    let exact = (!test.name.ends_with(' ')).then_some("--exact");
    command.arg(&test.name).args(exact).current_dir(scratch.tree());
    command.stderr(file.try_clone()?).stdout(file);
    let mut child = command.spawn().with_context(|| format!("cannot start {test}"))?;
    let patience = if test.kind == Kind::Plain { PATIENCE } else { PATIENCE_WITH_MODELS };
    let status = wait(&mut child, patience)?;
    let said = String::from_utf8_lossy(&fs::read(&said)?).into_owned();
    ensure!(said.contains("running 1 test"), "{test}: there is no such test, or more than one");
    Ok(match status {
        None => Outcome::Hangs,
        Some(status) if status.success() => Outcome::Passes,
        Some(_) => Outcome::Fails,
    })
}

/// Waits for a program, and ends it when that takes too long.
fn wait(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>> {
    let begun = Instant::now();
    while begun.elapsed() < patience {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}
