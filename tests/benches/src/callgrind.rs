// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine's instruction counts, by valgrind's callgrind.
//!
//! One operation is the difference between 12,000 and 2,000 of them, over 10,000. The counts repeat exactly, whatever the machine's load.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::report::{Aim, Row, Unit};
use crate::spread::Spread;

const FEW: u32 = 2_000;
const MANY: u32 = 12_000;

/// An operation of the bench `count`, what it is called in the table, and its aim in instructions.
const FIGURES: [(&str, &str, Aim); 5] = [
    ("unknown", "unknown operation: the raw door alone", Aim::None),
    ("pending", "send, two-level, already pending", Aim::Limit(75.0)),
    ("pending-fifo", "send, FIFO, already pending", Aim::Limit(80.0)),
    ("fresh", "send, two-level, fresh", Aim::None),
    ("fresh-fifo", "send, FIFO, fresh", Aim::None),
];

/// Whether valgrind is there.
#[must_use]
pub fn is_there() -> bool {
    let version = Command::new("valgrind").arg("--version").output();
    version.is_ok_and(|run| run.status.success())
}

/// The rows about instructions; `count` is the bench of that name.
///
/// # Errors
/// valgrind could not run it.
pub fn rows(count: &Path) -> Result<Vec<Row>> {
    let floor = Spread::exactly(instructions(count, "floor")?);
    FIGURES
        .into_iter()
        .map(|(operation, what, aim)| {
            Ok(Row {
                what: what.into(),
                beside: "f".into(),
                unit: Unit::Instructions,
                ours: Spread::exactly(instructions(count, operation)?),
                floor,
                aim,
            })
        })
        .collect()
}

/// The instructions of one operation.
fn instructions(count: &Path, operation: &str) -> Result<f64> {
    let many = total(count, operation, MANY)?;
    let few = total(count, operation, FEW)?;
    Ok((many - few) as f64 / f64::from(MANY - FEW))
}

/// The instructions of a whole run.
fn total(count: &Path, operation: &str, times: u32) -> Result<i64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(count).args([operation, &times.to_string()]);
    let run = command.output().context("cannot start valgrind")?;
    let text = String::from_utf8_lossy(&run.stderr);
    ensure!(run.status.success(), "{command:?}: {text}");
    match text.lines().find_map(collected) {
        Some(total) => Ok(total),
        None => bail!("{command:?}: no total in: {text}"),
    }
}

/// The number in `==1234== Collected : 5678`.
fn collected(line: &str) -> Option<i64> {
    let (_, number) = line.split_once("Collected :")?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_valgrinds_summary() {
        assert_eq!(collected("==12== Collected : 3456"), Some(3456));
        assert_eq!(collected("==12== Events    : Ir"), None);
    }
}
