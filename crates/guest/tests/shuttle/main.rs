// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole guest in random schedules, on the engine and on a hypervisor that takes every liberty that Xen takes: every
//! event is accounted for.
//!
//! `cargo xtask models`, or for these alone
//! `RUSTFLAGS="--cfg shuttle" cargo test --release -p evtchn-guest --test shuttle`
//!
//! `EVTCHN_SHUTTLE_ITERATIONS` says how many schedules each test tries with each of the two schedulers. What fails prints
//! its schedule, which `shuttle::replay` takes.
#![cfg(shuttle)]

mod books;
mod events;
#[allow(dead_code)]
#[path = "../loom/pages.rs"]
mod pages;
mod raw;
mod world;
mod xen;
