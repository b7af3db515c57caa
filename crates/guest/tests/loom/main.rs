// SPDX-License-Identifier: MIT OR Apache-2.0
//! Models of the guest's protocols: the guest itself, against a hypervisor that is played by hand, in every order that a bounded
//! number of preemptions allows, and with every value that a load may see.
//!
//! `cargo xtask models`, or for these alone `RUSTFLAGS="--cfg loom" cargo test --release -p evtchn-guest --test loom`
//!
//! `LOOM_MAX_PREEMPTIONS` raises the bound that each model has. A vCPU looks only where it is told to, so an event that nobody
//! announced is lost.
//!
//! Each model says which changes of the guest it has been seen to find.
#![cfg(loom)]

mod events;
mod fifo;
mod late;
#[allow(dead_code)] // those of shuttle use more of it
mod pages;
mod table;
mod two_level;
mod world;
mod xen;
