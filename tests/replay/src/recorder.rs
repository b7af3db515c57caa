// SPDX-License-Identifier: MIT OR Apache-2.0
//! Makes a device recording of our own: the unmodified recorder, run under `evtchn run`.
//!
//! The recorder is one C file in `recorder/`. It is built without the Xen toolstack's libraries, so the steps that need a
//! toolstack are absent from what it prints.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    recording::Recording,
    workspace::{root, target_dir},
};

/// Steps of each random sequence, as in the stored recordings.
const RANDOM_STEPS: usize = 60;
/// How long a run may take before it is ended: many times what the slowest program needs.
const DEADLINE: Duration = Duration::from_secs(300);
/// How often a running recorder is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Starts the recorder with next to no lockable memory. It locks all it has, now and later, if it may; an ordinary user may lock
/// some, and then its threads get no stacks. If it may not, it goes on without.
const WITHOUT_LOCKED_MEMORY: &str = "ulimit -l 64; exec \"$@\"";
/// The variable that names a ready-made `evtchn` binary.
const BINARY_VARIABLE: &str = "EVTCHN_BIN";

/// The two binaries that a run needs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The `evtchn` command.
    pub evtchn: PathBuf,
    /// The recorder.
    pub recorder: PathBuf,
}

/// How to run the recorder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    /// The seed of a random program.
    pub seed: u64,
    /// Microseconds that the recorder waits for events after each step; its own default (40,000) without.
    pub settle_us: Option<u32>,
}

impl Tools {
    /// Builds the recorder and, unless `EVTCHN_BIN` names one, the `evtchn` binary.
    ///
    /// # Errors
    /// A compiler cannot be started or fails.
    pub fn build() -> Result<Self> {
        let recorder = build_recorder(&target_dir().join("recorder"))?;
        Ok(Self { evtchn: evtchn_binary()?, recorder })
    }

    /// Runs the program that `xen` is a recording of, on a domain of the same shape, and reads what it prints.
    ///
    /// # Errors
    /// `xen` is not a device recording, or the run cannot be started, does not end in time, fails, or prints something
    /// else than a recording.
    pub fn record(&self, xen: &Recording, run: Run) -> Result<Recording> {
        let mut command = Command::new(&self.evtchn);
        command.arg("run").args(["--vcpus", &xen.meta.vcpus.to_string()]);
        command
            .args(["--linux", driver_level(&xen.meta.linux)])
            .args(["--domain", &xen.meta.domid.to_string()])
            .args(["--", "sh", "-c", WITHOUT_LOCKED_MEMORY, "sh"])
            .arg(&self.recorder);
        command.args(arguments(xen, run.seed)?).stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(settle_us) = run.settle_us {
            command.env("ORACLE_SETTLE_US", settle_us.to_string());
        }
        let printed = output_within(&mut command, DEADLINE)?;
        Recording::parse("evtchn run", &printed)
    }
}

/// The level of the driver that a recording's kernel had: BIND_STATIC came between the two.
fn driver_level(linux: &str) -> &'static str {
    if linux.starts_with("6.1.") { "6.1" } else { "7.2" }
}

/// The recorder's arguments that make a recording like `xen`, if the seed is its own.
///
/// # Errors
/// `xen` is not a device recording.
pub fn arguments(xen: &Recording, seed: u64) -> Result<Vec<String>> {
    let sequences: BTreeSet<_> = xen.steps.iter().map(|step| step.seq.as_str()).collect();
    match xen.meta.mode.as_str() {
        "dev-fixed" => Ok(vec!["dev-fixed".to_owned()]),
        "dev-random" => {
            let numbers = [seed.to_string(), sequences.len().to_string(), RANDOM_STEPS.to_string()];
            Ok(["dev-random".to_owned()].into_iter().chain(numbers).collect())
        }
        mode => bail!("{}: `{mode}` is not a device program that can be run again", xen.name),
    }
}

/// Builds the recorder, without `evtchn`.
///
/// # Errors
/// A compiler cannot be started or fails.
pub fn build_recorder_alone() -> Result<PathBuf> {
    build_recorder(&target_dir().join("recorder"))
}

/// Compiles the recorder into `folder`, under its final name only when it is complete.
fn build_recorder(folder: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorder/evtchn_oracle.c");
    let binary = folder.join("evtchn_oracle");
    let partial = folder.join(format!("evtchn_oracle.{}", std::process::id()));
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut compiler = Command::new(env::var_os("CC").unwrap_or_else(|| "cc".into()));
    succeed(compiler.args(["-O1", "-w", "-o"]).args([&partial, &source]).arg("-lpthread"))?;
    fs::rename(&partial, &binary).with_context(|| format!("cannot write {}", binary.display()))?;
    Ok(binary)
}

/// The `evtchn` binary: a given one, or one built like this code (debug or release).
fn evtchn_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os(BINARY_VARIABLE) {
        return Ok(path.into());
    }
    let (profile, flags): (&str, &[&str]) =
        if cfg!(debug_assertions) { ("debug", &[]) } else { ("release", &["--release"]) };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    succeed(
        Command::new(cargo).args(["build", "--quiet", "-p", "evtchn-cli"]).args(flags).current_dir(root()),
    )?;
    Ok(target_dir().join(profile).join("evtchn"))
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// What `command` prints, if it ends well within `limit`.
fn output_within(command: &mut Command, limit: Duration) -> Result<String> {
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut pipe = child.stdout.take().context("no pipe to the program")?;
    let reader = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let ended = wait_until(&mut child, Instant::now() + limit);
    ended.with_context(|| format!("{command:?}"))?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader of its output failed"))?;
    text.with_context(|| format!("cannot read what {command:?} printed"))
}

/// Waits for `child` to end well; ends it at the deadline.
fn wait_until(child: &mut Child, deadline: Instant) -> Result<()> {
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "{status}");
            return Ok(());
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!("did not end in time");
        }
        thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::stored;

    fn load(name: &str) -> Recording {
        Recording::load(&stored(name)).unwrap()
    }

    #[test]
    fn a_random_program_has_as_many_sequences_as_the_recording() {
        let words = arguments(&load("xen4.17.7_linux6.1.192_2l.dev-random"), 7).unwrap();
        assert_eq!(words, ["dev-random", "7", "200", "60"]);
        let words = arguments(&load("xen4.17.7_linux6.1.192_2l.dev-fixed"), 7).unwrap();
        assert_eq!(words, ["dev-fixed"]);
    }

    #[test]
    fn a_hypercall_recording_is_not_run_again() {
        assert!(arguments(&load("xen4.17.7_linux6.1.192_2l.hyper-fixed"), 7).is_err());
    }

    #[test]
    fn the_recorder_builds_and_refuses_to_run_without_a_hypervisor() {
        let recorder = build_recorder(&target_dir().join("recorder")).unwrap();
        let run = Command::new(recorder).arg("dev-fixed").output().unwrap();
        assert!(!run.status.success());
        assert!(String::from_utf8_lossy(&run.stderr).contains("/dev/xen/privcmd"));
    }

    #[test]
    fn what_a_program_prints_is_returned() {
        let printed = output_within(Command::new("echo").arg("hello").stdout(Stdio::piped()), DEADLINE);
        assert_eq!(printed.unwrap(), "hello\n");
    }

    #[test]
    fn a_program_that_fails_or_hangs_is_an_error() {
        let failed = output_within(Command::new("false").stdout(Stdio::piped()), DEADLINE).unwrap_err();
        assert!(format!("{failed:#}").contains("exit status: 1"), "{failed:#}");
        let mut hanging = Command::new("sleep");
        let hung = output_within(hanging.arg("60").stdout(Stdio::piped()), Duration::from_millis(50));
        assert!(format!("{:#}", hung.unwrap_err()).contains("did not end in time"));
    }
}
