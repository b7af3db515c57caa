// SPDX-License-Identifier: MIT OR Apache-2.0
//! Timing in bursts, and what remains of many bursts.

use std::hint::black_box;
use std::time::Instant;

use serde::{Deserialize, Serialize};

/// How a call is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// How many bursts.
    pub count: usize,
    /// How many calls a burst has.
    pub calls: usize,
}

impl Bursts {
    /// The same bursts, of `factor` times as many calls: for calls that are quick.
    #[must_use]
    pub fn longer(self, factor: usize) -> Self {
        Self { calls: self.calls * factor, ..self }
    }

    /// How many calls [`Bursts::time`] makes in all.
    #[must_use]
    pub fn all_calls(self) -> usize {
        self.warm_up() + self.count * self.calls
    }

    fn warm_up(self) -> usize {
        self.calls / 4
    }

    /// Warms up, then times each burst: nanoseconds of a call. What the calls answer is dropped.
    pub fn time<R>(self, mut call: impl FnMut() -> R) -> Vec<f64> {
        let mut call = || drop(black_box(call()));
        (0..self.warm_up()).for_each(|_| call());
        (0..self.count)
            .map(|_| {
                let start = Instant::now();
                (0..self.calls).for_each(|_| call());
                start.elapsed().as_nanos() as f64 / self.calls as f64
            })
            .collect()
    }
}

/// The best and the median burst.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub best: f64,
    /// The middle one; of an even number the higher one.
    pub median: f64,
}

impl Spread {
    /// What remains of these bursts; `None` if there are none.
    #[must_use]
    pub fn of(bursts: &[f64]) -> Option<Self> {
        let mut sorted = bursts.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self { best: *sorted.first()?, median: *sorted.get(sorted.len() / 2)? })
    }

    /// A figure that does not vary.
    #[must_use]
    pub fn exactly(value: f64) -> Self {
        Self { best: value, median: value }
    }

    /// This many times as much.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { best: self.best * factor, median: self.median * factor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_least_and_the_middle() {
        let spread = Spread::of(&[5.0, 1.0, 3.0, 2.0, 9.0]);
        assert_eq!(spread, Some(Spread { best: 1.0, median: 3.0 }));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn all_calls_are_those_that_are_made() {
        let bursts = Bursts { count: 3, calls: 10 }.longer(2);
        let mut made = 0;
        assert_eq!(bursts.time(|| made += 1).len(), 3);
        assert_eq!(made, bursts.all_calls());
    }
}
