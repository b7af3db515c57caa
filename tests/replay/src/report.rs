// SPDX-License-Identifier: MIT OR Apache-2.0
//! The outcome of a comparison: what was compared, what differs, what is excused.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{diff::Leaf, excuses::Excuses, recording::Step};

/// More than one excused step in this many compared ones is a failure: 2 %.
const EXCUSED_ONE_IN: usize = 50;

/// One field in which a step differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The sequence's name.
    pub seq: String,
    /// The step's number in Xen's recording.
    pub step: u32,
    /// The operation, or `sequence` when it is about the whole sequence.
    pub op: String,
    /// What differs: `ret`, `op`, an output, an argument (`args.` before it), or `steps`, the length of a sequence.
    pub field: String,
    /// Our value; `None` when we have none.
    pub ours: Option<Value>,
    /// Xen's value; `None` when Xen has none.
    pub theirs: Option<Value>,
}

/// How often one row of `docs/compat.md` was needed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Excused {
    /// The row's line in the document.
    pub line: usize,
    /// The row's sequence.
    pub seq: String,
    /// The row's operation.
    pub op: String,
    /// How many steps it excused.
    pub steps: usize,
}

/// The outcome of one comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The recording's name.
    pub recording: String,
    /// Records in Xen's recording, the `meta` record excluded.
    pub steps: usize,
    /// How many of them were compared.
    pub compared: usize,
    /// What differs without an excuse.
    pub differences: Vec<Difference>,
    /// Steps with at least one excused difference.
    pub excused_steps: usize,
    /// Each row of `docs/compat.md` that applied, in the document's order.
    pub excused: Vec<Excused>,
}

impl Report {
    /// Why the comparison failed; `None` when everything agrees or is excused within bounds.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if !self.differences.is_empty() {
            Some(format!("{} unexplained differences", self.differences.len()))
        } else if self.compared == 0 {
            Some("nothing was compared".to_owned())
        } else if self.excused_steps * EXCUSED_ONE_IN > self.compared {
            Some(format!("{} of {} steps excused: more than 2 %", self.excused_steps, self.compared))
        } else {
            None
        }
    }
}

impl fmt::Display for Report {
    /// One line of counts, then one for each excuse that applied and one for each difference.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recording, steps, compared, differences, excused_steps, .. } = self;
        write!(f, "{recording}: {steps} steps, {compared} compared, {excused_steps} excused, ")?;
        write!(f, "{} differences", differences.len())?;
        for Excused { line, seq, op, steps } in &self.excused {
            write!(f, "\n  excused by docs/compat.md line {line} ({seq}, {op}): {steps} steps")?;
        }
        differences.iter().try_for_each(|difference| write!(f, "\n  {difference}"))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, step, op, field, ours, theirs } = self;
        let (ours, theirs) = (cell(ours.as_ref()), cell(theirs.as_ref()));
        write!(f, "{seq} step {step} {op}: {field}: ours {ours}, Xen's {theirs}")
    }
}

/// A value as reports show it and as a row of `docs/compat.md` has it.
pub(crate) fn cell(value: Option<&Value>) -> String {
    match value {
        None => "absent".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// Collects a [`Report`], asking the excuses about each difference.
pub(crate) struct Judge<'a> {
    excuses: &'a Excuses,
    counts: Vec<usize>,
    report: Report,
}

impl<'a> Judge<'a> {
    pub fn new(recording: &str, steps: usize, excuses: &'a Excuses) -> Self {
        let report = Report {
            recording: recording.to_owned(),
            steps,
            compared: 0,
            differences: Vec::new(),
            excused_steps: 0,
            excused: Vec::new(),
        };
        Self { excuses, counts: vec![0; excuses.rows().len()], report }
    }

    /// Takes what was found in one compared step of Xen's recording.
    pub fn step(&mut self, step: &Step, found: Vec<Leaf>) {
        self.report.compared += 1;
        self.found(&step.seq, step.step, &step.op, found);
    }

    /// Takes differences of a sequence as a whole.
    pub fn sequence(&mut self, seq: &str, found: Leaf) {
        self.found(seq, 0, "sequence", vec![found]);
    }

    fn found(&mut self, seq: &str, step: u32, op: &str, found: Vec<Leaf>) {
        let mut rows: Vec<usize> = Vec::new();
        for Leaf { field, ours, theirs } in found {
            let difference = Difference { seq: seq.into(), step, op: op.into(), field, ours, theirs };
            match self.excuses.find(&difference) {
                Some(row) => rows.push(row),
                None => self.report.differences.push(difference),
            }
        }
        self.report.excused_steps += usize::from(!rows.is_empty());
        rows.into_iter().for_each(|row| self.counts[row] += 1);
    }

    pub fn finish(mut self) -> Report {
        let needed = self.excuses.rows().iter().zip(self.counts).filter(|(_, steps)| *steps > 0);
        self.report.excused = needed
            .map(|(row, steps)| Excused { line: row.line, seq: row.seq.clone(), op: row.op.clone(), steps })
            .collect();
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(compared: usize, excused_steps: usize) -> Report {
        Report { excused_steps, compared, ..Judge::new("r", 100, &Excuses::none()).finish() }
    }

    #[test]
    fn two_percent_excused_is_the_most_that_passes() {
        assert_eq!(report(100, 0).failure(), None);
        assert_eq!(report(100, 2).failure(), None);
        assert!(report(100, 3).failure().unwrap().contains("more than 2 %"));
        assert!(report(99, 2).failure().is_some());
    }

    #[test]
    fn an_empty_comparison_fails() {
        assert!(report(0, 0).failure().unwrap().contains("nothing"));
    }

    #[test]
    fn a_difference_reads_as_a_sentence() {
        let difference = Difference {
            seq: "h.send".into(),
            step: 4,
            op: "send".into(),
            field: "ret".into(),
            ours: Some(0.into()),
            theirs: Some((-22).into()),
        };
        assert_eq!(difference.to_string(), "h.send step 4 send: ret: ours 0, Xen's -22");
    }

    #[test]
    fn absent_values_and_strings_are_shown_without_quotes() {
        assert_eq!(cell(None), "absent");
        assert_eq!(cell(Some(&"virq".into())), "virq");
    }
}
