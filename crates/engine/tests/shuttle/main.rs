// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole engine in random schedules: every event is accounted for, and the books balance.
//!
//! `cargo xtask models`, or for these alone
//! `RUSTFLAGS="--cfg shuttle" cargo test --release -p evtchn-engine --test shuttle`
//!
//! `EVTCHN_SHUTTLE_ITERATIONS` says how many schedules each test tries with each of the two schedulers. What fails prints
//! its schedule, which `shuttle::replay` takes.
#![cfg(shuttle)]

mod books;
mod events;
#[allow(dead_code)]
#[path = "../loom/guest.rs"]
mod guest;
mod hostile;
mod pollers;
mod world;
