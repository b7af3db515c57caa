// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine's times, as criterion leaves them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::report::{Aim, Row};
use crate::spread::Spread;

/// What a figure is measured by.
enum Beside {
    /// The floor `f` of its own program: one uncontended atomic set of a bit.
    Floor,
    /// Another bench.
    Bench(&'static str, &'static str),
}
use Beside::{Bench as Other, Floor};

/// A bench, what it is called in the table, what it stands beside, and its aim.
type Figure = (&'static str, &'static str, Beside, Aim);

const SEND: [Figure; 9] = [
    ("send/unknown", "unknown operation: the raw door alone", Floor, Aim::None),
    ("send-2l/pending", "send, two-level, already pending", Floor, Aim::Ratio(2.0)),
    ("send-fifo/pending", "send, FIFO, already pending", Floor, Aim::Ratio(2.2)),
    ("batch-2l/fresh", "send, two-level, fresh, of 4,000", Floor, Aim::Ratio(3.0)),
    ("batch-fifo/fresh", "send, FIFO, fresh, of 4,000", Floor, Aim::Ratio(5.0)),
    ("send-2l/consumed", "send and consume, two-level", Floor, Aim::None),
    ("send-fifo/consumed", "send and consume, FIFO", Floor, Aim::None),
    ("batch-2l/consume", "guest consumes, two-level, of 4,000", Floor, Aim::Ratio(0.45)),
    ("batch-fifo/consume", "guest consumes, FIFO, of 4,000", Floor, Aim::Ratio(1.05)),
];

const LINE: &str = "threads/line";

const THREADS: [Figure; 8] = [
    ("threads-2l/same", "two threads, one pending port, two-level", Floor, Aim::Ratio(2.4)),
    ("threads-fifo/same", "two threads, one pending port, FIFO", Floor, Aim::Ratio(2.4)),
    ("threads-2l/near", "two threads, neighbouring ports, two-level", Floor, Aim::None),
    ("threads-2l/far", "two threads, ports 520 apart, two-level", Floor, Aim::None),
    ("threads-fifo/near", "two threads, neighbouring ports, FIFO", Floor, Aim::Ratio(2.2)),
    ("threads-fifo/far", "two threads, ports 520 apart, FIFO", Floor, Aim::Ratio(2.2)),
    ("trip-2l/spinning", "round trip, both spin, two-level", Other(LINE, "line round trip"), Aim::None),
    (
        "trip-fifo/spinning",
        "round trip, both spin, FIFO",
        Other("trip-2l/spinning", "two-level round trip"),
        Aim::None,
    ),
];

const GROWTH: [Figure; 8] = [
    ("growth/random-pending", "random sends over 131,000 FIFO ports, pending", Floor, Aim::Ratio(5.0)),
    ("growth/random-fresh", "random sends over 131,000 FIFO ports, fresh", Floor, Aim::Ratio(14.0)),
    ("growth/alloc-1", "allocate a port, 1 open", Floor, Aim::Ratio(24.0)),
    ("growth/alloc-131000", "allocate a port, 131,000 open", Floor, Aim::Ratio(24.0)),
    ("growth/pair-2l-0-2", "alloc + bind + close + close, empty, 2 vCPUs", Floor, Aim::Ratio(44.0)),
    ("growth/pair-2l-0-64", "alloc + bind + close + close, empty, 64 vCPUs", Floor, Aim::None),
    ("growth/pair-fifo-100000-2", "alloc + bind + close + close, 100,000 open", Floor, Aim::Ratio(44.0)),
    ("growth/reset-one", "reset, one port open at number 100,000", Floor, Aim::Ratio(1_200.0)),
];

/// The engine's programs, each with the floor that it measures itself and the figures that it gives.
const PROGRAMS: [(&str, &str, &[Figure]); 3] = [
    ("send", "send/floor", &SEND),
    ("threads", "threads/floor", &THREADS),
    ("growth", "growth/floor", &GROWTH),
];

/// The programs whose results [`rows`] reads.
pub fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|(program, ..)| *program)
}

/// The samples of one bench: how often it ran, and for how many nanoseconds.
#[derive(Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
}

#[derive(Deserialize)]
struct Bench {
    throughput: Option<Throughput>,
}

/// How many events one iteration has.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Throughput {
    elements: f64,
}

/// The rows about the benches whose results are in `folder`.
///
/// # Errors
/// A result is missing, or not as this version of criterion writes it.
pub fn rows(folder: &Path) -> Result<Vec<Row>> {
    let figures =
        PROGRAMS.iter().flat_map(|(_, floor, figures)| figures.iter().map(move |figure| (*floor, figure)));
    figures
        .map(|(floor, (id, what, beside, aim))| {
            let (floor, name) = match *beside {
                Floor => (floor, "f"),
                Other(bench, name) => (bench, name),
            };
            Ok(Row::time(what, spread(folder, id)?, name, spread(folder, floor)?, *aim))
        })
        .collect()
}

/// Nanoseconds of one event.
fn spread(folder: &Path, id: &str) -> Result<Spread> {
    let folder = folder.join(id).join("new");
    let samples: Samples = load(&folder.join("sample.json"))?;
    let bench: Bench = load(&folder.join("benchmark.json"))?;
    let events = bench.throughput.map_or(1.0, |throughput| throughput.elements);
    let pairs = samples.times.iter().zip(&samples.iters);
    let times: Vec<f64> = pairs.map(|(time, iters)| time / iters / events).collect();
    Spread::of(&times).with_context(|| format!("{id}: no samples"))
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}
