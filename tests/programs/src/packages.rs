// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian's unpacked packages.

use std::env;
use std::path::{Path, PathBuf};

use crate::skip;

/// The folder into which `cargo xtask fetch` unpacked the packages.
#[derive(Clone, Debug)]
pub struct Packages(PathBuf);

impl Packages {
    /// The packages, if all of `files` (paths below their root) are there; says what is missing otherwise.
    #[must_use]
    pub fn with(files: &[&str]) -> Option<Self> {
        let root = debian_folder().join("bookworm/root");
        match files.iter().find(|file| !root.join(file).exists()) {
            None => Some(Self(root)),
            Some(file) => {
                skip(&format!("{} is not there; `cargo xtask fetch` gets it", root.join(file).display()));
                None
            }
        }
    }

    /// The path of a file of the packages.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// The path of a file of the packages as text, for a program's arguments.
    #[must_use]
    pub fn arg(&self, file: &str) -> String {
        self.path(file).to_string_lossy().into_owned()
    }

    /// The folder of the shared libraries.
    #[must_use]
    pub fn libraries(&self) -> PathBuf {
        self.path("usr/lib/x86_64-linux-gnu")
    }

    /// `LD_LIBRARY_PATH=...` as an argument of `env`, so that only the program behind it sees these libraries.
    #[must_use]
    pub fn library_path(&self) -> String {
        format!("LD_LIBRARY_PATH={}", self.libraries().display())
    }
}

/// `EVTCHN_DEBIAN_DIR`, or `target/debian` of the workspace: the rule of `cargo xtask fetch`.
fn debian_folder() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."));
    env::var_os("EVTCHN_DEBIAN_DIR").map_or_else(|| workspace.join("target/debian"), PathBuf::from)
}
