// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask xen-tests`: the project's own tests of the device, on a real Xen against Linux's own driver.
//!
//! What fails there is a wrong test. The test programs are those that run under `evtchn run`, unmodified: a script takes the place
//! of `evtchn` and starts the C programs as they are. And the recorder makes its recordings once more: they must be those that
//! are stored, and those that it makes under `evtchn run`.

mod programs;
mod recordings;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::machine::{Flavour, Unavailable};

/// What is stored was recorded with the two-level ABI, which is also what `evtchn run` has.
const TWO_LEVEL: &str = "xen.fifo_events=0";

/// Runs the project's tests of the device in domain 0 of a real Xen, against Linux's own driver.
///
/// The machine is emulated and made from Debian packages; see `cargo xtask xen`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Which Debian the machine is made from; more than once for several
    #[arg(long, value_enum, default_value = "bookworm")]
    flavour: Vec<Flavour>,
}

/// Runs everything with each flavour.
///
/// # Errors
/// There is no machine, or something failed: what, has been told.
pub fn run(args: &Args) -> Result<()> {
    let mut failed = Vec::new();
    for flavour in &args.flavour {
        let start = Instant::now();
        failed.extend(all(*flavour)?.into_iter().map(|name| format!("{name} on {flavour:?}")));
        println!("xen-tests: {flavour:?} took {:.1} s", start.elapsed().as_secs_f64());
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed on a real Xen: {}", failed.join(", ")) }
}

/// The step of CI: says in one line if there is no machine, and passes then.
///
/// # Errors
/// Something failed.
pub fn in_ci() -> Result<()> {
    match run(&Args { flavour: vec![Flavour::Bookworm] }) {
        Err(error) if error.is::<Unavailable>() => {
            println!("xen-tests: skipped: {error:#}");
            Ok(())
        }
        other => other,
    }
}

/// What failed.
fn all(flavour: Flavour) -> Result<Vec<String>> {
    flavour.root()?;
    let mut failed = programs::run(flavour)?;
    failed.extend(recordings::run(flavour)?);
    Ok(failed)
}
