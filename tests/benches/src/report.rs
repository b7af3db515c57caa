// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows, each a figure beside its floor, and how they are printed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::spread::Spread;

/// What the figures of a row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Nanoseconds of wall time; the machine's load shows.
    Nanoseconds,
    /// Instructions, which the load does not change.
    Instructions,
}

/// What a figure should be, measured by its floor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// At most this many times the floor.
    Ratio(f64),
    /// At most this much more than the floor.
    More(f64),
    /// At most this much, whatever the floor.
    Limit(f64),
    /// Only reported.
    None,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured, and where.
    pub what: String,
    /// What was measured beside it.
    pub beside: String,
    /// What the figures count.
    pub unit: Unit,
    /// The figure.
    pub ours: Spread,
    /// Its floor.
    pub floor: Spread,
    /// What it should be.
    pub aim: Aim,
}

impl Row {
    /// A row about time.
    #[must_use]
    pub fn time(what: &str, ours: Spread, beside: &str, floor: Spread, aim: Aim) -> Self {
        Self { what: what.into(), beside: beside.into(), unit: Unit::Nanoseconds, ours, floor, aim }
    }

    /// The best burst over the floor's best, and the median over the floor's median.
    #[must_use]
    pub fn ratio(&self) -> Spread {
        Spread { best: self.ours.best / self.floor.best, median: self.ours.median / self.floor.median }
    }

    /// Whether the median is what it should be; `None` for a figure without an aim.
    #[must_use]
    pub fn is_reached(&self) -> Option<bool> {
        let (ours, floor) = (self.ours.median, self.floor.median);
        match self.aim {
            Aim::Ratio(ratio) => Some(ours <= ratio * floor),
            Aim::More(more) => Some(ours <= floor + more),
            Aim::Limit(limit) => Some(ours <= limit),
            Aim::None => None,
        }
    }

    fn cells(&self) -> [String; 7] {
        let verdict = match self.is_reached() {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "",
        };
        [
            self.what.clone(),
            self.spread(self.ours),
            self.beside.clone(),
            self.spread(self.floor),
            format!("{:.2} / {:.2}", self.ratio().best, self.ratio().median),
            self.aim_text(),
            verdict.into(),
        ]
    }

    fn spread(&self, spread: Spread) -> String {
        match self.unit {
            Unit::Nanoseconds => {
                format!("{} / {}", duration(spread.best), duration(spread.median))
            }
            Unit::Instructions => format!("{:.1} instr", spread.median),
        }
    }

    fn aim_text(&self) -> String {
        match (self.aim, self.unit) {
            (Aim::Ratio(ratio), _) => format!("{ratio}x"),
            (Aim::More(more), Unit::Nanoseconds) => format!("+{}", duration(more)),
            (Aim::Limit(limit), Unit::Nanoseconds) => duration(limit),
            (Aim::More(more), Unit::Instructions) => format!("+{more}"),
            (Aim::Limit(limit), Unit::Instructions) => format!("{limit}"),
            (Aim::None, _) => String::new(),
        }
    }
}

/// A duration of `nanoseconds`, in a unit that suits it.
fn duration(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns < 1e3 => format!("{ns:.1} ns"),
        ns if ns < 1e6 => format!("{:.2} us", ns / 1e3),
        ns => format!("{:.2} ms", ns / 1e6),
    }
}

/// Everything that one run measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The machine's load before and after.
    pub load: Vec<String>,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// Adds what another part of the run measured.
    pub fn extend(&mut self, other: Self) {
        self.load.extend(other.load);
        self.notes.extend(other.notes);
        self.rows.extend(other.rows);
    }

    /// Writes down the load as it is now.
    pub fn note_load(&mut self) {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let averages: Vec<&str> = load.split(' ').take(3).collect();
        self.load.push(averages.join(" "));
    }
}

const HEAD: [&str; 7] = ["what", "ours, best / median", "beside it", "best / median", "ratios", "aim", ""];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![HEAD.map(String::from)];
        lines.extend(self.rows.iter().map(Row::cells));
        let widths: [usize; 7] = std::array::from_fn(|column| {
            let width = |line: &[String; 7]| line[column].chars().count();
            lines.iter().map(width).max().unwrap_or(0)
        });
        for line in &lines {
            let cells: Vec<String> =
                line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        write!(f, "load averages: {}", self.load.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(aim: Aim) -> Row {
        Row::time("call", Spread::exactly(130.0), "floor", Spread::exactly(100.0), aim)
    }

    #[test]
    fn an_aim_is_held_against_the_median() {
        assert_eq!(row(Aim::Ratio(1.3)).is_reached(), Some(true));
        assert_eq!(row(Aim::More(29.0)).is_reached(), Some(false));
        assert_eq!(row(Aim::Limit(129.0)).is_reached(), Some(false));
        assert_eq!(row(Aim::None).is_reached(), None);
    }

    #[test]
    fn the_table_lines_up_and_the_json_has_all() {
        let report = Report { rows: vec![row(Aim::Ratio(2.0)), row(Aim::None)], ..Report::default() };
        let table = report.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].starts_with("call  130.0 ns / 130.0 ns  floor"));
        assert!(lines[1].ends_with("1.30 / 1.30  2x   reached"), "{table}");
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
