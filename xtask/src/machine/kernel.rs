// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel that a machine starts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A Linux kernel and its modules.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The compressed image (`vmlinuz`, `bzImage`).
    pub image: PathBuf,
    /// The folder of its modules (`lib/modules/RELEASE`).
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel whose packages are unpacked in `root`. Its release is the name of the modules' folder.
    ///
    /// # Errors
    /// There is none.
    pub fn of(root: &Path) -> Result<Self> {
        let all = root.join("usr/lib/modules");
        let missing = || format!("no kernel in {}", all.display());
        let modules = fs::read_dir(&all)
            .ok()
            .and_then(|mut folders| folders.next()?.ok())
            .with_context(missing)?
            .path();
        let release = modules.file_name().unwrap_or_default().to_string_lossy();
        let places = [modules.join("vmlinuz"), root.join(format!("boot/vmlinuz-{release}"))];
        let image = places.into_iter().find(|image| image.exists()).with_context(missing)?;
        Ok(Self { image, modules })
    }
}
