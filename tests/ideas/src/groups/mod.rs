// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows, one module for each group.

mod au;
mod bi;
mod bv;
mod cl;
mod dc;
mod ea;
mod ff;
mod ic;
mod ip;
mod l2;
mod po;
mod pq;
mod rs;
mod se;
mod sp;
mod st;
mod um;
mod vc;

use crate::Case;

/// All groups, in the order of the table.
pub const ALL: &[&[Case]] = &[
    au::CASES,
    bi::CASES,
    bv::CASES,
    ip::CASES,
    pq::CASES,
    cl::CASES,
    se::CASES,
    st::CASES,
    vc::CASES,
    um::CASES,
    rs::CASES,
    ic::CASES,
    ea::CASES,
    sp::CASES,
    dc::CASES,
    l2::CASES,
    ff::CASES,
    po::CASES,
];
