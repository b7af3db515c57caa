// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask xen-tests`: the project's own tests of the device, on a real Xen against Linux's own driver.
//!
//! What fails there is a wrong test. The test programs are those that run under `evtchn run`, unmodified: a script takes the place
//! of `evtchn` and starts the C programs as they are. And the recorder makes its recordings once more: they must be those that
//! are stored, and those that it makes under `evtchn run`.

mod programs;
mod recordings;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use self::programs::Programs;
use self::recordings::Recordings;
use crate::machine::{Flavour, Unavailable};
use crate::progress;

/// Runs the project's tests of the device in domain 0 of a real Xen, against Linux's own driver.
///
/// The machines are emulated and made from Debian packages; see `cargo xtask xen`. Two run at a time.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which Debian the machines are made from; more than once for several
    #[arg(long, value_enum, default_value = "bookworm")]
    flavour: Vec<Flavour>,
    /// Only with the two-level ABI between Linux and Xen
    #[arg(long)]
    quick: bool,
}

/// The ABI between Linux and Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abi {
    /// What Linux has with `xen.fifo_events=0`.
    TwoLevel,
    /// What Linux takes if it may choose.
    Fifo,
}

impl Abi {
    /// What the tests call it.
    fn name(self) -> &'static str {
        match self {
            Self::TwoLevel => "two-level",
            Self::Fifo => "fifo",
        }
    }

    /// What Linux is told.
    fn kernel_args(self) -> &'static str {
        match self {
            Self::TwoLevel => "xen.fifo_events=0",
            Self::Fifo => "xen.fifo_events=1",
        }
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoLevel => "the two-level ABI",
            Self::Fifo => "the FIFO ABI",
        })
    }
}

/// What one machine found.
struct Finding {
    /// What was run.
    name: String,
    /// What there is to say if it passed.
    summary: String,
    /// What there is to say if it failed.
    details: String,
    passed: bool,
}

/// Runs everything with each flavour.
///
/// # Errors
/// There is no machine, or something failed: what, has been told.
pub fn run(args: &Args) -> Result<()> {
    let mut failed = Vec::new();
    for flavour in &args.flavour {
        let start = Instant::now();
        let found = all(*flavour, args.quick)?;
        println!("xen-tests: {flavour}: {} s", start.elapsed().as_secs());
        failed.extend(found.into_iter().filter(|finding| !finding.passed).map(|finding| finding.name));
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed on a real Xen: {}", failed.join(", ")) }
}

/// The step of CI: says in one line if there is no machine, and passes then.
///
/// # Errors
/// Something failed.
pub fn in_ci() -> Result<()> {
    match run(&Args { flavour: vec![Flavour::Bookworm], quick: true }) {
        Err(error) if error.is::<Unavailable>() => {
            println!("xen-tests: skipped: {error:#}");
            Ok(())
        }
        other => other,
    }
}

/// Builds everything, then runs two machines at a time, since they mostly wait.
fn all(flavour: Flavour, quick: bool) -> Result<Vec<Finding>> {
    flavour.root()?;
    let (programs, recordings) = (Programs::build(flavour)?, Recordings::build(flavour)?);
    let (programs, recordings) = (&programs, &recordings);
    thread::scope(|scope| {
        let both = [
            scope.spawn(move || Ok(vec![told(programs.run(Abi::TwoLevel)?)])),
            scope.spawn(move || {
                let mut found: Vec<Finding> = recordings.run()?.into_iter().map(told).collect();
                if !quick {
                    found.push(told(programs.run(Abi::Fifo)?));
                }
                Ok(found)
            }),
        ];
        let start = Instant::now();
        while !both.iter().all(thread::ScopedJoinHandle::is_finished) {
            progress::line(&format!("xen-tests: {} s", start.elapsed().as_secs()));
            thread::sleep(Duration::from_millis(100));
        }
        progress::line("");
        let mut found: Vec<Finding> = Vec::new();
        for part in both {
            let part: Result<Vec<Finding>> =
                part.join().map_err(|_| anyhow!("a part of the tests panicked"))?;
            found.extend(part?);
        }
        Ok(found)
    })
}

/// Says how it went as soon as it is known.
fn told(finding: Finding) -> Finding {
    progress::line("");
    let Finding { name, summary, details, passed } = &finding;
    if *passed {
        println!("xen-tests: {name}: {summary}");
    } else {
        println!("xen-tests: {name}: FAILED\n{}", details.trim());
    }
    finding
}
