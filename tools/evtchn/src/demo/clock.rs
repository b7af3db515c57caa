// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clock of the demo: the same in both processes.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of CLOCK_MONOTONIC, never 0.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let nanoseconds = time.tv_sec * 1_000_000_000 + time.tv_nsec;
    u64::try_from(nanoseconds).unwrap_or(0).max(1)
}
