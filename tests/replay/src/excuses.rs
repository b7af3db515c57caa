// SPDX-License-Identifier: MIT OR Apache-2.0
//! Deliberate differences: the machine-read tables of `docs/compat.md`.
//!
//! Below the heading of each [`Table`] stands one table with the columns of [`HEADER`]. A row excuses the steps that match
//! all its cells exactly: the sequence's name, the operation (`set_priority`, or `#12 set_priority` for step 12 only), the
//! field, our value and Xen's value (`absent` where a side has none). There are no wildcards, and no cell is empty.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{
    report::{Difference, Report, cell},
    workspace::compat_document,
};

/// The columns of an excuse table.
const HEADER: [&str; 6] = ["sequence", "step or op", "field", "ours", "Xen's", "reason"];

/// One of the document's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Differences of the engine from Xen's hypercalls.
    Hypercalls,
    /// Differences that the bare guest sees: in the engine's answers, or in its own memory.
    Guest,
    /// Differences of the device from Linux's driver on Xen.
    Device,
    /// Differences of the Linux module from Linux's own driver on the same machine.
    Module,
}

impl Table {
    /// The heading above the table.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Hypercalls => "## Hypercalls",
            Self::Guest => "## Bare guest",
            Self::Device => "## Device",
            Self::Module => "## Linux module",
        }
    }
}

/// One row: a difference that is meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excuse {
    /// The row's line in the document, counted from 1.
    pub line: usize,
    /// The sequence's exact name.
    pub seq: String,
    /// The step's number, if the row is about one step only.
    pub step: Option<u32>,
    /// The operation.
    pub op: String,
    /// The field that differs.
    pub field: String,
    /// Our value.
    pub ours: String,
    /// Xen's value.
    pub theirs: String,
    /// Why.
    pub reason: String,
}

/// The rows of one table.
#[derive(Clone, Debug, Default)]
pub struct Excuses {
    rows: Vec<Excuse>,
}

impl Excuses {
    /// No excuses at all.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads a table of this tree's `docs/compat.md`.
    ///
    /// # Errors
    /// The document cannot be read, or [`Excuses::parse`] refuses it.
    pub fn load(table: Table) -> Result<Self> {
        let path = compat_document();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, table).context("docs/compat.md")
    }

    /// Reads a table from the document's text.
    ///
    /// # Errors
    /// The heading or the table is missing, or a row has an empty cell, a wildcard or another number of cells.
    pub fn parse(text: &str, table: Table) -> Result<Self> {
        let heading = table.heading();
        let mut lines = (1..).zip(text.lines()).skip_while(|(_, line)| line.trim() != heading);
        lines.next().with_context(|| format!("no heading `{heading}`"))?;
        let mut rows = lines
            .take_while(|(_, line)| !line.starts_with("## "))
            .filter(|(_, line)| line.starts_with('|'))
            .map(|(at, line)| (at, cells(line)));
        let (_, header) = rows.next().with_context(|| format!("no table below `{heading}`"))?;
        ensure!(header == HEADER, "the table below `{heading}` needs the columns {HEADER:?}");
        ensure!(rows.next().is_some_and(|(_, row)| is_rule(&row)), "no rule below the header of `{heading}`");
        let rows = rows.map(|(line, row)| Excuse::parse(line, &row).with_context(|| format!("line {line}")));
        Ok(Self { rows: rows.collect::<Result<_>>()? })
    }

    /// The rows in the document's order.
    #[must_use]
    pub fn rows(&self) -> &[Excuse] {
        &self.rows
    }

    /// The rows that no report needed.
    #[must_use]
    pub fn stale(&self, reports: &[Report]) -> Vec<&Excuse> {
        let needed = |row: &Excuse| reports.iter().flat_map(|r| &r.excused).any(|e| e.line == row.line);
        self.rows.iter().filter(|row| !needed(row)).collect()
    }

    /// The index of the first row that excuses `difference`.
    pub(crate) fn find(&self, difference: &Difference) -> Option<usize> {
        self.rows.iter().position(|row| row.excuses(difference))
    }
}

impl Excuse {
    fn parse(line: usize, row: &[String]) -> Result<Self> {
        let [seq, op, field, ours, theirs, reason] = row else {
            anyhow::bail!("{} cells instead of {}", row.len(), HEADER.len());
        };
        for (name, text) in HEADER.iter().zip(row) {
            ensure!(!text.is_empty(), "empty cell `{name}`");
        }
        for (name, text) in HEADER.iter().zip(&row[..5]) {
            ensure!(!text.contains(['*', '?']), "wildcard in cell `{name}`: rows match exactly");
        }
        let (step, op) = step_and_op(op)?;
        let [seq, field, ours, theirs, reason] = [seq, field, ours, theirs, reason].map(Clone::clone);
        Ok(Self { line, seq, step, op, field, ours, theirs, reason })
    }

    fn excuses(&self, difference: &Difference) -> bool {
        self.seq == difference.seq
            && self.step.is_none_or(|step| step == difference.step)
            && self.op == difference.op
            && self.field == difference.field
            && self.ours == cell(difference.ours.as_ref())
            && self.theirs == cell(difference.theirs.as_ref())
    }
}

/// Splits `#12 set_priority` into its step number and operation.
fn step_and_op(text: &str) -> Result<(Option<u32>, String)> {
    let Some(rest) = text.strip_prefix('#') else {
        ensure!(!text.contains(' '), "`{text}` is neither an operation nor `#STEP operation`");
        return Ok((None, text.to_owned()));
    };
    let (step, op) = rest.split_once(' ').with_context(|| format!("`{text}` names no operation"))?;
    let step = step.parse().with_context(|| format!("`{step}` is not a step number"))?;
    Ok((Some(step), op.trim().to_owned()))
}

/// A table line's cells, without blanks and code quotes around them.
fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|');
    let inner = inner.strip_suffix('|').unwrap_or(inner);
    inner.split('|').map(|text| unquoted(text.trim()).to_owned()).collect()
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('`').and_then(|text| text.strip_suffix('`')).unwrap_or(text)
}

fn is_rule(row: &[String]) -> bool {
    row.iter().all(|text| !text.is_empty() && text.chars().all(|c| matches!(c, '-' | ':')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(rows: &str) -> String {
        let head = "| sequence | step or op | field | ours | Xen's | reason |\n|---|---|---|---|---|---|\n";
        format!("# Compatibility\n\n## Hypercalls\n\ntext\n\n{head}{rows}\n## Device\n\n{head}")
    }

    fn parse(rows: &str) -> Result<Excuses> {
        Excuses::parse(&document(rows), Table::Hypercalls)
    }

    fn difference(seq: &str, step: u32) -> Difference {
        Difference {
            seq: seq.into(),
            step,
            op: "set_priority".into(),
            field: "ret".into(),
            ours: Some(json!(-95)),
            theirs: Some(json!(-38)),
        }
    }

    const ROW: &str = "| `h.priority` | set_priority | ret | -95 | -38 | no FIFO yet |\n";

    #[test]
    fn a_row_excuses_only_what_matches_all_its_cells() {
        let excuses = parse(ROW).unwrap();
        assert_eq!(excuses.rows()[0].line, 9);
        assert_eq!(excuses.find(&difference("h.priority", 3)), Some(0));
        assert_eq!(excuses.find(&difference("h.priority.x", 3)), None);
        for other in [
            Difference { op: "send".into(), ..difference("h.priority", 3) },
            Difference { field: "port".into(), ..difference("h.priority", 3) },
            Difference { ours: Some(json!(-9)), ..difference("h.priority", 3) },
            Difference { theirs: None, ..difference("h.priority", 3) },
        ] {
            assert_eq!(excuses.find(&other), None, "{other}");
        }
    }

    #[test]
    fn a_step_number_narrows_a_row_to_that_step() {
        let excuses = parse("| h.priority | #3 set_priority | ret | -95 | -38 | why |\n").unwrap();
        assert_eq!(excuses.find(&difference("h.priority", 3)), Some(0));
        assert_eq!(excuses.find(&difference("h.priority", 4)), None);
    }

    #[test]
    fn wildcards_and_empty_cells_are_refused_by_line() {
        for (row, why) in [
            ("| * | set_priority | ret | -95 | -38 | why |\n", "wildcard in cell `sequence`"),
            ("| h.p | * | ret | -95 | -38 | why |\n", "wildcard in cell `step or op`"),
            ("| h.p | set_priority | ret | -95 | -3? | why |\n", "wildcard in cell `Xen's`"),
            ("| h.p |  | ret | -95 | -38 | why |\n", "empty cell `step or op`"),
            ("| h.p | set_priority | ret | -95 | -38 | |\n", "empty cell `reason`"),
            ("| h.p | set_priority | ret | -95 | why |\n", "5 cells instead of 6"),
            ("| h.p | #x set_priority | ret | -95 | -38 | why |\n", "not a step number"),
            ("| h.p | 3 set_priority | ret | -95 | -38 | why |\n", "neither an operation"),
        ] {
            let error = format!("{:#}", parse(row).unwrap_err());
            assert!(error.contains(why) && error.contains("line 9"), "{row}: {error}");
        }
    }

    #[test]
    fn the_tables_are_kept_apart() {
        let text = document(ROW);
        assert_eq!(Excuses::parse(&text, Table::Hypercalls).unwrap().rows().len(), 1);
        assert!(Excuses::parse(&text, Table::Device).unwrap().rows().is_empty());
    }

    #[test]
    fn a_document_without_the_table_is_refused() {
        assert!(Excuses::parse("# Compatibility\n", Table::Device).is_err());
        assert!(Excuses::parse("## Device\n\ntext\n", Table::Device).is_err());
        assert!(Excuses::parse("## Device\n\n| a | b |\n|---|---|\n", Table::Device).is_err());
    }

    #[test]
    fn a_row_that_no_report_needed_is_stale() {
        let excuses = parse(ROW).unwrap();
        assert_eq!(excuses.stale(&[]).len(), 1);
    }

    #[test]
    fn the_tables_of_this_tree_are_well_formed() {
        for table in [Table::Hypercalls, Table::Device] {
            Excuses::load(table).unwrap();
        }
    }
}
