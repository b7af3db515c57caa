// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of this package share: finding `evtchn`, running it with a time limit, compiling the C programs, finding Debian's
//! programs, scratch folders.
//!
//! A test whose tools or packages are missing says so in one line and passes. `cargo xtask fetch` gets the packages.

mod compile;
mod launcher;
mod packages;
mod scratch;

pub use compile::Source;
pub use launcher::{Finished, Launch, evtchn};
pub use packages::Packages;
pub use scratch::{Scratch, wait_until};

/// Says why a test does nothing on this machine.
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}
