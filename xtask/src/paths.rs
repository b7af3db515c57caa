// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things are: the workspace, and the folder of the fetched packages.

use std::env;
use std::path::{Path, PathBuf};

/// The folder of the workspace's `Cargo.toml`.
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The folder that holds the fetched packages: `EVTCHN_DEBIAN_DIR`, or `target/debian` of the workspace, wherever cargo's own
/// target folder is, so that all builds share one copy.
pub fn debian() -> PathBuf {
    env::var_os("EVTCHN_DEBIAN_DIR").map_or_else(|| workspace().join("target/debian"), PathBuf::from)
}
