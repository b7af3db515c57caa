// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine's times, as criterion leaves them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::report::{Aim, Row};
use crate::spread::Spread;

/// A bench, what it is called in the table, and its aim in multiples of the floor `f`.
const FIGURES: [(&str, &str, Aim); 4] = [
    ("send/unknown", "unknown operation: the raw door alone", Aim::None),
    ("send/pending", "send, two-level, already pending", Aim::Ratio(2.0)),
    ("batch/fresh", "send, two-level, fresh, of 4,000", Aim::Ratio(3.0)),
    ("batch/consume", "guest consumes, two-level, of 4,000", Aim::Ratio(0.45)),
];
const FLOOR: &str = "send/floor";

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
    let floor = spread(folder, FLOOR)?;
    FIGURES
        .into_iter()
        .map(|(id, what, aim)| Ok(Row::time(what, spread(folder, id)?, "f", floor, aim)))
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
