// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where things are in this source tree.

use std::{env, path::PathBuf};

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The folder that cargo builds into.
#[must_use]
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The document with the deliberate differences.
#[must_use]
pub fn compat_document() -> PathBuf {
    root().join("docs/compat.md")
}

/// The path of a recording that is kept in the tree, by its name without ending.
#[must_use]
pub fn stored(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("data/{name}.jsonl.gz"))
}
