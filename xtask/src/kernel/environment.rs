// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the module is built in: a Debian of its own in a folder, with the headers of the kernel, completed by `kernel/overlay.sh`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::RELEASE;
use super::inside::Inside;
use crate::fetch::{self, Set};
use crate::paths;

/// The folder in it that is ours.
const FOLDER: &str = "build";

/// The prepared folder.
pub struct Environment {
    root: PathBuf,
}

impl Environment {
    /// Fetches, unpacks and completes it, or finds that this was done.
    ///
    /// # Errors
    /// A package cannot be had, or the kernel's crates cannot be built.
    pub fn prepare() -> Result<Self> {
        let root = fetch::obtain(Set::KernelBuild).context("the module's build environment")?;
        let this = Self { root };
        this.furnish().with_context(|| this.root.display().to_string())?;
        if !this.root.join(format!("usr/src/linux-headers-{RELEASE}/rust/libkernel.rmeta")).exists() {
            this.complete()?;
        }
        Ok(this)
    }

    /// What the packages' own scripts would have made, had they been run.
    fn furnish(&self) -> std::io::Result<()> {
        for folder in ["proc", "dev", "tmp", "root", FOLDER] {
            fs::create_dir_all(self.root.join(folder))?;
        }
        let awk = self.root.join("usr/bin/awk");
        if awk.symlink_metadata().is_err() {
            symlink("mawk", awk)?;
        }
        Ok(())
    }

    fn complete(&self) -> Result<()> {
        eprintln!("kernel: building the kernel's own crates, once: some three minutes");
        let script = paths::workspace().join("kernel/overlay.sh");
        fs::copy(&script, self.folder().join("overlay.sh")).context("kernel/overlay.sh")?;
        self.inside()?.run(&["bash", "/build/overlay.sh", RELEASE], "the kernel's own crates")
    }

    /// The folder of ours in it, as it is called from outside.
    pub fn folder(&self) -> PathBuf {
        self.root.join(FOLDER)
    }

    /// A folder of ours, made anew: from outside, and from inside.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn fresh(&self, name: &str) -> Result<(PathBuf, String)> {
        let folder = self.folder().join(name);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok((folder, format!("/{FOLDER}/{name}")))
    }

    /// For running programs in it.
    ///
    /// # Errors
    /// This machine does not let us.
    pub fn inside(&self) -> Result<Inside<'_>> {
        Inside::new(&self.root)
    }

    /// Its root folder.
    pub fn root(&self) -> &Path {
        &self.root
    }
}
