// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a machine hands over at its end: an archive of the program's results and the kernel's messages.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::qemu;

/// Unpacks what the machine wrote into files of `folder`, and copies its console.
///
/// # Errors
/// `out` cannot be written, or the archive is damaged.
pub fn collect(folder: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    console(folder, out)?;
    let archive = File::open(folder.join("results")).context("no results")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--no-same-owner", "--file", "-", "--directory"]).arg(out);
    let output = tar.stdin(archive).stdout(Stdio::null()).output().context("cannot start tar")?;
    ensure!(output.status.success(), "damaged results: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Copies the console alone, of a machine that did not finish.
///
/// # Errors
/// `out` cannot be written.
pub fn console(folder: &Path, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let target = out.join("console.txt");
    fs::copy(folder.join(qemu::CONSOLE), &target)
        .with_context(|| format!("cannot write {}", target.display()))?;
    Ok(())
}
