// SPDX-License-Identifier: MIT OR Apache-2.0
//! A copy of the workspace, in which defects are put back.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::patch::{Edit, Patch};
use crate::paths;

/// What cargo needs of the workspace.
const PARTS: [&str; 7] = ["Cargo.toml", "Cargo.lock", "crates", "examples", "tests", "tools", "xtask"];

/// The copy. Files that did not change since the last time are left alone, so that builds go on from there.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    /// Makes the copy, or brings it up to date.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn prepare() -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let folder = target.unwrap_or_else(|| paths::workspace().join("target")).join("mutations");
        let scratch = Self { folder };
        fs::create_dir_all(scratch.tree()).with_context(|| scratch.tree().display().to_string())?;
        let mut kept = BTreeSet::new();
        for part in PARTS {
            copy(&paths::workspace().join(part), &scratch.tree().join(part), &mut kept)?;
        }
        remove_others(&scratch.tree(), &kept)?;
        Ok(scratch)
    }

    /// The copy's root.
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// A folder beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Does the patch fit the sources?
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, patch: &Patch) -> Result<()> {
        self.patched(patch).map(drop)
    }

    /// Applies a patch.
    ///
    /// # Errors
    /// It does not fit, or a file cannot be written.
    pub fn apply(&mut self, patch: &Patch) -> Result<()> {
        for (file, text) in self.patched(patch)? {
            fs::write(&file, text).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }

    /// Takes a patch back.
    ///
    /// # Errors
    /// A file cannot be copied.
    pub fn restore(&mut self, patch: &Patch) -> Result<()> {
        for Edit { file, .. } in &patch.edits {
            let (from, to) = (paths::workspace().join(file), self.tree().join(file));
            fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
        Ok(())
    }

    /// The files that a patch changes, as they are then.
    fn patched(&self, patch: &Patch) -> Result<Vec<(PathBuf, String)>> {
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for edit in &patch.edits {
            let path = self.tree().join(&edit.file);
            let before = files.iter().rposition(|(file, _)| *file == path);
            let text = match before {
                Some(at) => files.swap_remove(at).1,
                None => fs::read_to_string(&path).with_context(|| path.display().to_string())?,
            };
            let text = edit.apply(&text).with_context(|| format!("{} does not apply", patch.id))?;
            files.push((path, text));
        }
        Ok(files)
    }
}

/// Copies a file or folder, but not what builds leave in it, and remembers what there is.
fn copy(from: &Path, to: &Path, kept: &mut BTreeSet<PathBuf>) -> Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let name = entry?.file_name();
            if name != "target" {
                copy(&from.join(&name), &to.join(&name), kept)?;
            }
        }
    } else {
        let text = fs::read(from).with_context(|| from.display().to_string())?;
        if fs::read(to).ok().as_ref() != Some(&text) {
            fs::write(to, text).with_context(|| to.display().to_string())?;
        }
    }
    kept.insert(to.to_owned());
    Ok(())
}

/// Removes files of a former time.
fn remove_others(folder: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        match (kept.contains(&path), path.is_dir()) {
            (true, true) => remove_others(&path, kept)?,
            (false, true) => fs::remove_dir_all(&path)?,
            (false, false) => fs::remove_file(&path)?,
            (true, false) => {}
        }
    }
    Ok(())
}
