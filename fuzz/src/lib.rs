// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is fuzzed: the raw hypercall door, pages that a hostile guest shares, and saved states.
//!
//! Each target takes any bytes and panics if something is wrong. They run under libFuzzer (`fuzz_targets/`), and with
//! plain random bytes (`bin/bounded.rs`), which needs no nightly toolchain.
#![forbid(unsafe_code)]

#[path = "../../crates/engine/tests/common/mod.rs"]
mod common;
mod hypercalls;
mod input;
mod pages;
mod snapshots;

pub use hypercalls::hypercalls;
pub use pages::pages;
pub use snapshots::snapshots;

/// A target: panics if something is wrong.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 3] =
    [("hypercalls", hypercalls), ("pages", pages), ("snapshots", snapshots)];
