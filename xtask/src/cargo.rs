// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running cargo and other programs from the workspace's folder.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

/// The cargo that started this program, in the workspace's folder.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::workspace());
    command
}

/// Whether `cargo NAME` exists on this machine.
pub fn has(name: &str) -> bool {
    let probe = cargo()
        .args([name, "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}

/// Runs a command to its end with this program's own input and output.
pub fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {what}"))?;
    ensure!(status.success(), "{what} failed ({status})");
    Ok(())
}

/// Builds the binary `evtchn` and answers with its path, as cargo reports it.
pub fn build_evtchn() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", "evtchn-cli", "--bin", "evtchn"]);
    build(&mut command, "evtchn")
}

/// Runs a `cargo build` of one executable and answers with its path, as cargo reports it.
pub fn build(command: &mut Command, what: &str) -> Result<PathBuf> {
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo build")?;
    ensure!(output.status.success(), "cargo build of {what} failed ({})", output.status);
    match String::from_utf8_lossy(&output.stdout).lines().find_map(executable) {
        Some(path) => Ok(path),
        None => bail!("cargo build named no executable"),
    }
}

/// The executable in one of cargo's JSON messages.
pub fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_read_from_the_artifact_message_only() {
        assert_eq!(
            executable(r#"{"reason":"compiler-artifact","executable":"/t/evtchn"}"#),
            Some(PathBuf::from("/t/evtchn"))
        );
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
        assert_eq!(executable("not json"), None);
    }
}
