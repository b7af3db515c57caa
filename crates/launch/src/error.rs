// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why programs could not be run.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use evtchn_host::StartError;

/// Why programs could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// A program could not be executed.
    #[error("{}", program.display())]
    Program {
        /// Its name.
        program: OsString,
        /// Why.
        source: io::Error,
    },
    /// A program that was named without a folder is in none of those of `PATH`.
    #[error("{}: not found in PATH", program.display())]
    NotInPath {
        /// Its name.
        program: OsString,
    },
    /// There is nothing to run.
    #[error("no program was given")]
    NoProgram,
    /// Another supervisor serves this process tree already.
    #[error(
        "this process is traced by another seccomp supervisor already \
         (hint: `evtchn run` cannot be nested; a container manager that uses notifications must be told not to)"
    )]
    Nested,
    /// The kernel has no notification that survives signals.
    #[error(
        "the kernel lacks seccomp user notification with WAIT_KILLABLE_RECV (hint: Linux 5.19 or later is needed)"
    )]
    OldKernel,
    /// The filter was refused for another reason.
    #[error("the seccomp filter was refused")]
    Filter(#[source] io::Error),
    /// A domain could not be started.
    #[error(transparent)]
    Domain(#[from] StartError),
    /// A system call failed.
    #[error("starting the supervisor")]
    System(#[from] io::Error),
    /// What the supervisor said.
    #[error("{text}")]
    Supervisor {
        /// Its words.
        text: String,
        /// What the command should end with.
        status: u8,
    },
}

/// The status for "failed", and those that `env` and its kind have for a program that cannot be run.
const FAILED: u8 = 1;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

impl LaunchError {
    /// What an error of `seccomp(SECCOMP_SET_MODE_FILTER)` means.
    pub(crate) fn filter(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EBUSY) => Self::Nested,
            Some(libc::EINVAL | libc::ENOSYS) => Self::OldKernel,
            _ => Self::Filter(error),
        }
    }

    /// What it means that `program` could not be executed. One that is in `PATH` may lack what it needs itself: its interpreter.
    pub(crate) fn program(program: OsString, source: io::Error) -> Self {
        let is_missing = source.kind() == io::ErrorKind::NotFound;
        if is_missing && !program.as_bytes().contains(&b'/') && !is_in_path(&program) {
            Self::NotInPath { program }
        } else {
            Self::Program { program, source }
        }
    }

    /// The exit status for this error: 127 for a program that is not found, 126 for one that cannot be executed, else 1.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::NotInPath { .. } => NOT_FOUND,
            Self::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Program { .. } => NOT_EXECUTABLE,
            Self::Supervisor { status, .. } => *status,
            _ => FAILED,
        }
    }

    /// The whole chain of causes in one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

fn is_in_path(program: &OsStr) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).exists())
}
