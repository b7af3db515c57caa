// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows, one module for each group.

mod au;
mod bi;
mod bv;
mod cl;
mod ip;
mod pq;
mod se;
mod st;

use crate::Case;

/// All groups, in the order of the table.
pub const ALL: &[&[Case]] =
    &[au::CASES, bi::CASES, bv::CASES, ip::CASES, pq::CASES, cl::CASES, se::CASES, st::CASES];
