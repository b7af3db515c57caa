// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is put into a machine: files and folders, and where they land.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::image::Image;
use super::libraries;

/// Files and folders of this machine, each with its path in the other.
#[derive(Clone, Debug, Default)]
pub struct Files {
    given: Vec<(PathBuf, String)>,
}

impl Files {
    /// Adds a file.
    pub fn file(&mut self, here: PathBuf, there: &str) {
        self.given.push((here, there.to_owned()));
    }

    /// Adds all that is below a folder.
    pub fn folder(&mut self, here: PathBuf, there: &str) {
        self.given.push((here, there.to_owned()));
    }

    /// Puts everything into an image, and the shared libraries that programs among it need.
    ///
    /// # Errors
    /// Something cannot be read.
    pub fn add_to(&self, image: &mut Image) -> Result<()> {
        for (here, there) in &self.given {
            ensure!(there.starts_with('/'), "{there}: not an absolute path");
            add(image, here, there).with_context(|| format!("cannot read {}", here.display()))?;
        }
        Ok(())
    }
}

fn add(image: &mut Image, here: &Path, there: &str) -> Result<()> {
    let about = fs::metadata(here)?;
    if !about.is_dir() {
        return add_file(image, here, there, about.permissions().mode());
    }
    image.folder(there);
    for entry in fs::read_dir(here)? {
        let entry = entry?;
        let name = entry.file_name();
        let inside = format!("{}/{}", there.trim_end_matches('/'), name.to_string_lossy());
        // Packages have links to what is in other packages.
        if entry.path().exists() {
            add(image, &entry.path(), &inside)?;
        }
    }
    Ok(())
}

fn add_file(image: &mut Image, here: &Path, there: &str, mode: u32) -> Result<()> {
    let contents = fs::read(here)?;
    for library in libraries::of(here, &contents)? {
        let found = fs::read(&library).with_context(|| library.display().to_string())?;
        image.file(&library.to_string_lossy(), found, 0o755);
    }
    image.file(there, contents, mode);
    Ok(())
}
