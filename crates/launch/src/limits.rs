// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits on descriptors: where the programs' device files go, and how many the supervisor may have.

use std::ops::Range;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `select` knows no descriptors from here on.
const SELECT_LIMIT: u64 = 1024;
/// How many numbers are set aside.
const WIDTH: u64 = 256;

/// The numbers that device files get: high ones, so that a program that closes or reuses low ones is not disturbed, and still
/// fit for `select` and within the program's own limit.
pub fn descriptor_range() -> Range<u32> {
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(SELECT_LIMIT);
    let end = soft.min(SELECT_LIMIT);
    let start = end.saturating_sub(WIDTH.min(end / 2));
    start as u32..end as u32
}

/// How many device files the supervisor can keep open, with two descriptors for each and a reserve for all else.
pub fn device_files() -> usize {
    const RESERVE: u64 = 64;
    let own = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((own - RESERVE.min(own / 2)) / 2).unwrap_or(usize::MAX)
}

/// Raises the supervisor's own limit as far as it may, and returns what it was.
pub fn raise_descriptors() -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    // Without it, fewer device files can be open; that is an ENFILE, later.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    limit
}

/// Puts a limit back, in a program.
pub fn restore_descriptors(limit: Rlimit) {
    let _ = setrlimit(Resource::Nofile, limit);
}
