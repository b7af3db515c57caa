// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests of this package share: finding `evtchn`, running it with a time limit, compiling the C programs, finding Debian's
//! programs, scratch folders.
//!
//! A test whose tools or packages are missing says so in one line and passes; it fails if `EVTCHN_REQUIRE` is set. `cargo xtask fetch`
//! gets the packages.

mod compile;
mod launcher;
mod packages;
mod scratch;

pub use compile::{Source, compile_all};
pub use launcher::{Finished, Launch, evtchn};
pub use packages::Packages;
pub use scratch::{Scratch, wait_until};

/// Says why a test does nothing on this machine.
///
/// # Panics
/// If `EVTCHN_REQUIRE` is set: whoever set it has seen to it that nothing is missing.
pub fn skip(reason: &str) {
    assert!(std::env::var_os("EVTCHN_REQUIRE").is_none(), "missing: {reason}");
    eprintln!("skipped: {reason}");
}
