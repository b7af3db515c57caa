// SPDX-License-Identifier: MIT OR Apache-2.0
//! Downloads by whatever program the machine has: apt's own helper, which knows the machine's proxy, then curl, then wget.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

/// Seconds without progress after which a server counts as unreachable.
const TIMEOUT: &str = "15";

/// The name under which apt itself is remembered as a place.
const APT: &str = "apt";

/// Why a file could not be had from one place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure {
    /// The server answered that it does not have the file.
    #[error("no longer in the archive")]
    NotFound,
    /// The server gave no useful answer.
    #[error("{0}")]
    Unreachable(String),
    /// No program that can download is installed.
    #[error("none of apt-helper, curl and wget is installed")]
    NoTool,
}

/// A program that downloads one file.
#[derive(Clone, Copy, Debug)]
enum Tool {
    AptHelper,
    Curl,
    Wget,
}

impl Tool {
    const ALL: [Self; 3] = [Self::AptHelper, Self::Curl, Self::Wget];

    fn command(self, url: &str, to: &Path) -> Command {
        let mut command = Command::new(match self {
            Self::AptHelper => "/usr/lib/apt/apt-helper",
            Self::Curl => "curl",
            Self::Wget => "wget",
        });
        match self {
            Self::AptHelper => command
                .args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0"])
                .args(["-o", &format!("Acquire::http::Timeout={TIMEOUT}"), "download-file", url])
                .arg(to),
            Self::Curl => command
                .args(["--fail", "--silent", "--show-error", "--location", "--connect-timeout", TIMEOUT])
                .args(["--speed-limit", "1", "--speed-time", TIMEOUT, "--output"])
                .arg(to)
                .arg(url),
            Self::Wget => command
                .args(["--no-verbose", "--tries=1", &format!("--timeout={TIMEOUT}"), "-O"])
                .arg(to)
                .arg(url),
        };
        command.env("LC_ALL", "C");
        command
    }
}

/// Downloads files and remembers which places do not answer, so that an offline machine fails at once.
#[derive(Default)]
pub struct Downloader {
    dead: HashMap<String, Failure>,
}

impl Downloader {
    /// Fetches `base`/`path` into the file `to`.
    pub fn get(&mut self, base: &str, path: &str, to: &Path) -> Result<(), Failure> {
        if let Some(failure) = self.dead.get(base) {
            return Err(failure.clone());
        }
        let outcome = fetch(&format!("{base}/{path}"), to);
        if let Err(failure @ (Failure::Unreachable(_) | Failure::NoTool)) = &outcome {
            self.dead.insert(base.to_owned(), failure.clone());
        }
        outcome
    }

    /// Has the machine's own apt fetch a package into the empty folder `to`, from wherever it is configured to. Nothing of apt's
    /// state changes. Fails if apt does not know that version.
    pub fn by_apt(&mut self, name: &str, version: &str, to: &Path) -> Result<PathBuf, Failure> {
        if let Some(failure) = self.dead.get(APT) {
            return Err(failure.clone());
        }
        let outcome = apt_download(&format!("{name}={version}"), to);
        if let Err(failure @ (Failure::Unreachable(_) | Failure::NoTool)) = &outcome {
            self.dead.insert(APT.to_owned(), failure.clone());
        }
        outcome
    }
}

/// Asks each installed tool, so that a passing trouble is met three times before it counts; the first that gets the
/// file or a clear "not found" decides.
fn fetch(url: &str, to: &Path) -> Result<(), Failure> {
    let mut last = Failure::NoTool;
    for tool in Tool::ALL {
        let _ = fs::remove_file(to);
        match attempt(tool, url, to) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Failure::NotFound)) => return Err(Failure::NotFound),
            Ok(Err(failure)) => last = failure,
            Err(_not_installed) => {}
        }
    }
    Err(last)
}

fn attempt(tool: Tool, url: &str, to: &Path) -> io::Result<Result<(), Failure>> {
    let output = tool.command(url, to).output()?;
    if output.status.success() && to.exists() {
        return Ok(Ok(()));
    }
    let _ = fs::remove_file(to);
    Ok(Err(classify(&String::from_utf8_lossy(&output.stderr))))
}

fn apt_download(package: &str, to: &Path) -> Result<PathBuf, Failure> {
    let mut apt = Command::new("apt-get");
    apt.args(["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=0"]);
    apt.args(["-o", &format!("Acquire::http::Timeout={TIMEOUT}"), "download", package]);
    let output = apt.env("LC_ALL", "C").current_dir(to).output().map_err(|_| Failure::NoTool)?;
    let file = fs::read_dir(to).ok().and_then(|mut files| Some(files.next()?.ok()?.path()));
    match file {
        Some(file) if output.status.success() => Ok(file),
        _ => Err(classify(&String::from_utf8_lossy(&output.stderr))),
    }
}

/// What a tool's complaint means. All print the number of the HTTP status; apt says in words that it does not know a package.
fn classify(complaint: &str) -> Failure {
    if ["404", "was not found", "Unable to locate"].iter().any(|words| complaint.contains(words)) {
        return Failure::NotFound;
    }
    let line = complaint
        .lines()
        .rev()
        .find(|line| !line.starts_with("E: Download Failed") && !line.trim().is_empty());
    Failure::Unreachable(line.map_or_else(|| "no answer".to_owned(), |line| line.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_404_of_any_tool_means_the_file_is_gone() {
        let apt = "E: Failed to fetch http://h/f  404  Not Found [IP: 192.0.2.1 80]\nE: Download Failed\n";
        let curl = "curl: (22) The requested URL returned error: 404\n";
        let wget = "http://h/f:\n2026-01-01 00:00:00 ERROR 404: Not Found.\n";
        let unknown = "E: Version '2' for 'a' was not found\n";
        for complaint in [apt, curl, wget, unknown] {
            assert_eq!(classify(complaint), Failure::NotFound);
        }
    }

    #[test]
    fn any_other_complaint_is_kept_as_the_reason() {
        let complaint = "E: Failed to fetch http://h/f  Could not resolve 'h'\nE: Download Failed\n";
        assert_eq!(
            classify(complaint),
            Failure::Unreachable("E: Failed to fetch http://h/f  Could not resolve 'h'".to_owned())
        );
        assert_eq!(classify(""), Failure::Unreachable("no answer".to_owned()));
    }

    #[test]
    fn a_place_that_does_not_answer_is_asked_once() {
        let mut downloader = Downloader::default();
        let reason = Failure::Unreachable("down".to_owned());
        downloader.dead.insert("http://h/debian".to_owned(), reason.clone());
        assert_eq!(downloader.get("http://h/debian", "f", Path::new("/nonexistent/f")), Err(reason));
    }
}
