// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits on descriptors: where the programs' device files go, and how many the supervisor may have.

use std::ops::Range;

use crate::sys;
use crate::trapped::MAX_HANDLES;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `select` knows no descriptors from here on.
const SELECT_LIMIT: u64 = 1024;
/// How many numbers are set aside.
const WIDTH: u64 = 256;
/// More descriptors than the supervisor opens until its first program runs.
const MARGIN: u64 = 32;

/// The numbers that device files get: high ones, so that a program that closes or reuses low ones is not disturbed, and still
/// fit for `select` and within the program's own limit.
///
/// The supervisor's own come below: what it says to a child that has the filter already must not be stopped. With very many inherited
/// descriptors, or a very low limit, that leaves nothing, and device files get the lowest free numbers.
pub fn descriptor_range() -> Range<u32> {
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(SELECT_LIMIT);
    let end = soft.min(SELECT_LIMIT);
    let start = end.saturating_sub(WIDTH.min(end / 2));
    let own = open_descriptors().into_iter().max().map_or(0, |highest| u64::from(highest) + MARGIN);
    start.max(own).min(end) as u32..end as u32
}

/// The numbers of this process's open descriptors.
pub fn open_descriptors() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The folder's own descriptor was among them.
    numbers.retain(|number| std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_ok());
    numbers
}

/// How many device files the supervisor can keep open, with two descriptors for each and a reserve for all else.
pub fn device_files() -> usize {
    const RESERVE: u64 = 64 + MAX_HANDLES as u64;
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

/// Gives up inherited descriptors: the programs have them. Standard input and output become `/dev/null`, standard error stays.
pub fn give_up(inherited: &[u32]) {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    for &number in inherited {
        match (number, &null) {
            (0, Ok(null)) => drop(rustix::stdio::dup2_stdin(null)),
            (1, Ok(null)) => drop(rustix::stdio::dup2_stdout(null)),
            (0..=2, _) => {}
            (number, _) => sys::close_number(number),
        }
    }
}
