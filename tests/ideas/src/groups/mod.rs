// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows, one module for each group.

mod au;
mod bi;
mod bv;
mod cc;
mod cl;
mod dc;
mod ea;
mod ff;
mod fh;
mod ic;
mod ip;
mod l2;
mod po;
mod pq;
mod rs;
mod sc;
mod se;
mod sp;
mod st;
mod td;
mod um;
mod up;
mod vc;
mod vq;
mod xc;

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
    fh::CASES,
    po::CASES,
    up::CASES,
    vq::CASES,
    xc::CASES,
    sc::CASES,
    td::CASES,
    cc::CASES,
];
