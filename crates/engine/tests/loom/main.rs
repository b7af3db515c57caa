// SPDX-License-Identifier: MIT OR Apache-2.0
//! Models of the engine: the engine itself, with domains as small as can be, in every order that a bounded number of
//! preemptions allows, and with every value that a load may see.
//!
//! `cargo xtask models`, or for these alone `RUSTFLAGS="--cfg loom" cargo test --release -p evtchn-engine --test loom`
//!
//! `LOOM_MAX_PREEMPTIONS` raises the bound that each model has. Where a model ends with its threads joined and the guest
//! looking once more, a lost event is one that nobody announced: the guest looks only where it is told to.
//!
//! Each model says which changes of the engine it has been seen to find.
#![cfg(loom)]

mod close;
mod fifo;
mod guest;
mod poll;
mod setup;
mod two_level;
mod world;
