// SPDX-License-Identifier: MIT OR Apache-2.0
//! Durations counted in buckets, in shared memory.
//!
//! Each power of two is divided into 64 buckets of equal width, so a bucket is at most 1.6% of its value
//! wide. One process writes; another may read at any time, and after the end reads exact counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

const LINEAR_BITS: u32 = 6;
const LINEAR: usize = 1 << LINEAR_BITS;
/// Up to 2^37 ns, two minutes; what is longer is counted in the last bucket.
const BUCKETS: usize = LINEAR * 32;

/// Counts of durations in nanoseconds. All zero bytes are an empty one.
#[repr(C)]
pub struct Histogram {
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// What a histogram says, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub max: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)].fetch_add(1, Relaxed);
        self.max.fetch_max(nanoseconds, Relaxed);
    }
}

/// The percentiles of several histograms taken together; `None` if nothing was counted.
pub fn percentiles(histograms: &[&Histogram]) -> Option<Percentiles> {
    let counts: Vec<u64> =
        (0..BUCKETS).map(|i| histograms.iter().map(|h| h.buckets[i].load(Relaxed)).sum()).collect();
    let max = histograms.iter().map(|h| h.max.load(Relaxed)).max()?;
    let total: u64 = counts.iter().sum();
    let at = |per_ten_thousand| quantile(&counts, total, per_ten_thousand).min(max);
    (total > 0).then(|| Percentiles { p50: at(5000), p90: at(9000), p99: at(9900), p99_9: at(9990), max })
}

/// The end of the bucket that holds the quantile, so that no duration is made to look shorter.
fn quantile(counts: &[u64], total: u64, per_ten_thousand: u64) -> u64 {
    let rank = (total * per_ten_thousand).div_ceil(10_000);
    let mut below = 0;
    let found = counts.iter().position(|count| {
        below += count;
        below >= rank
    });
    found.map_or(u64::MAX, last_of)
}

fn bucket(value: u64) -> usize {
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(LINEAR_BITS);
    let index = (shift as usize) * LINEAR + (value >> shift) as usize;
    index.min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn last_of(bucket: usize) -> u64 {
    let shift = (bucket / LINEAR).saturating_sub(1);
    let step = bucket - shift * LINEAR;
    ((step as u64 + 1) << shift) - 1
}

#[cfg(test)]
pub fn empty() -> Histogram {
    Histogram { max: AtomicU64::new(0), buckets: [const { AtomicU64::new(0) }; BUCKETS] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        let mut first = 0;
        for i in 0..BUCKETS - 1 {
            assert_eq!((bucket(first), bucket(last_of(i))), (i, i));
            first = last_of(i) + 1;
        }
        assert_eq!((bucket(first), bucket(u64::MAX)), (BUCKETS - 1, BUCKETS - 1));
    }

    #[test]
    fn a_bucket_is_at_most_a_sixty_fourth_wide() {
        for value in [100, 5_000, 123_456, 987_654_321] {
            let end = last_of(bucket(value));
            assert!(end >= value && end - value <= value / 64, "{value}: {end}");
        }
    }

    #[test]
    fn percentiles_come_from_all_histograms_together() {
        let (a, b) = (empty(), empty());
        (1..=50).for_each(|value| a.record(value));
        (51..=99).for_each(|value| b.record(value));
        b.record(60_000);
        let found = percentiles(&[&a, &b]).unwrap();
        assert_eq!((found.p50, found.p99, found.max), (50, 99, 60_000));
        assert!((90..92).contains(&found.p90));
        assert_eq!(found.p99_9, 60_000, "never beyond the longest");
    }

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        assert_eq!(percentiles(&[&empty()]), None);
    }
}
