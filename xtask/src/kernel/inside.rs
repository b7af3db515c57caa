// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs of another Debian, run in its folder as if it were the whole machine.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

use crate::progress;

/// What a program finds in its environment.
const ENVIRONMENT: [&str; 4] =
    ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C", "TMPDIR=/build"];
/// Gives the folder the machine's devices and processes, in a mount namespace that ends with the program.
const ENTER: &str =
    r#"mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" env -i "$@""#;
/// Lines of a failed program's output that are shown.
const LAST_LINES: usize = 30;

/// A root folder whose programs can be run.
pub struct Inside<'a> {
    root: &'a Path,
}

impl<'a> Inside<'a> {
    /// For programs below `root`.
    ///
    /// # Errors
    /// This user may not change the root folder, not even in a user namespace.
    pub fn new(root: &'a Path) -> Result<Self> {
        let this = Self { root };
        let probe = this.command(&["true"]).stdout(Stdio::null()).output();
        let works = probe.as_ref().is_ok_and(|output| output.status.success());
        ensure!(
            works,
            "the module is built in a root folder of its own: this needs root, or user namespaces (unshare --map-root-user)"
        );
        Ok(this)
    }

    /// A command there, whose working folder is the root.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER]).arg(self.root);
        command.args(ENVIRONMENT).args(words).stdin(Stdio::null());
        command
    }

    /// Runs a command. Its output is kept in a file, and the end of it shown if it fails.
    ///
    /// # Errors
    /// It failed.
    pub fn run(&self, words: &[&str], what: &str) -> Result<()> {
        let log = self.root.join("build/log");
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let mut child = self.command(words).stdout(file.try_clone()?).stderr(file).spawn()?;
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            progress::line(&format!("kernel: {what}: {} s", start.elapsed().as_secs()));
            std::thread::sleep(Duration::from_millis(50));
        };
        progress::line("");
        if !status.success() {
            let text = std::fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            bail!(
                "{what} failed ({status}):\n{}",
                lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
            );
        }
        Ok(())
    }
}
