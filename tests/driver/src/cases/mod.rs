// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cases of what a program sees. None asks anything of a driver that harms the machine; what does is in `hazards.rs`.

mod calls;
mod delivery;
mod holders;
mod ioctls;
mod node;
mod restriction;
mod ring;
pub mod statics;
mod waiting;

use anyhow::{Context, Result};

use crate::report::Report;

/// A case: its name, and what it does.
type Case = (&'static str, fn(&mut Report) -> Result<()>);

/// Runs the cases whose name contains `filter`.
///
/// # Errors
/// A case could not be carried to its end.
pub fn run(report: &mut Report, filter: &str) -> Result<()> {
    let all = [
        node::CASES,
        calls::CASES,
        ioctls::CASES,
        delivery::CASES,
        ring::CASES,
        restriction::CASES,
        waiting::CASES,
        statics::CASES,
        holders::CASES,
    ];
    for (name, case) in all.into_iter().flatten().filter(|(name, _)| name.contains(filter)) {
        report.begin(name);
        case(report).context(*name)?;
    }
    Ok(())
}
