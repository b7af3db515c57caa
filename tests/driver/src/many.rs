// SPDX-License-Identifier: MIT OR Apache-2.0
//! Thousands of ports on one file.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use evtchn_abi::Errno;

use crate::device::Device;
use crate::report::Report;

/// How many ports are fired before they are read. The ring has a slot for each in any case.
const AT_ONCE: usize = 1000;

/// Binds so many pairs, fires each port twice, and closes everything.
///
/// # Errors
/// A bind failed, or an event did not come.
pub fn run(report: &mut Report, ports: u32) -> Result<()> {
    report.begin("many");
    let (file, other) = (Device::open()?, Device::open()?);
    let pairs: Vec<(u32, u32)> = (0..ports).map(|_| file.pair(&other)).collect::<Result<_>>()?;
    report.is("bound", pairs.len(), ports as usize);
    for _ in 0..2 {
        let mut seen = BTreeSet::new();
        for chunk in pairs.chunks(AT_ONCE) {
            for (_, theirs) in chunk {
                ensure!(other.notify(*theirs).is_ok(), "notify failed");
            }
            let got = file.expect(chunk.len())?;
            ensure!(file.write(&got).is_ok(), "write failed");
            seen.extend(got);
        }
        report.is("ports that fired", seen.len(), ports as usize);
    }
    report.is("nothing is left", file.settled(), Err(Errno::EAGAIN));
    for (ours, _) in pairs.iter().step_by(2) {
        ensure!(file.unbind(*ours) == Ok(0), "unbind failed");
    }
    drop(file);
    drop(other);
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    other.notify(theirs).ok();
    report.is("after all were closed", file.next(1)? == [port], true);
    Ok(())
}
