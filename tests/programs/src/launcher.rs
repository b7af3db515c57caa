// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finding `evtchn` and running programs under it, with a time limit.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait_until;

/// A run that takes longer has hung.
const LIMIT: Duration = Duration::from_secs(60);

/// The binary `evtchn`: `EVTCHN_BIN`, or built here.
///
/// # Panics
/// If it cannot be built.
pub fn evtchn() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| env::var_os("EVTCHN_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--package",
        "evtchn-cli",
        "--message-format",
        "json",
    ]);
    let output = cargo.output().expect("cargo starts");
    assert!(output.status.success(), "building evtchn: {}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    messages.lines().find_map(executable).expect("cargo names the binary that it built")
}

fn executable(message: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    message.get("executable")?.as_str().map(PathBuf::from)
}

/// `evtchn run` with its arguments, input and environment.
#[derive(Debug)]
pub struct Launch {
    command: Command,
    input: Vec<u8>,
}

impl Launch {
    /// `evtchn run ARGS`.
    pub fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(evtchn());
        command.arg("run").args(args).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, input: Vec::new() }
    }

    /// What the programs find on standard input.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs to the end.
    ///
    /// # Panics
    /// If it cannot be started, or takes longer than a minute: then everything that it started is killed.
    #[must_use]
    pub fn finish(self) -> Finished {
        self.start().finish()
    }

    /// Runs to the end and requires exit status 0.
    ///
    /// # Panics
    /// As [`finish`](Self::finish), and if the status is another.
    #[must_use]
    pub fn succeed(self) -> Finished {
        let finished = self.finish();
        assert_eq!(finished.status.code(), Some(0), "{finished}");
        finished
    }

    /// Starts and does not wait.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut self) -> Running {
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", evtchn().display()));
        feed(&mut child, self.input);
        let (stdout, stderr) = (Collector::new(child.stdout.take()), Collector::new(child.stderr.take()));
        Running { child, stdout, stderr }
    }
}

/// Writes standard input from a thread of its own, so that a program that does not read cannot block the test.
fn feed(child: &mut Child, input: Vec<u8>) {
    if let Some(mut stdin) = child.stdin.take() {
        thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
    }
}

/// What a stream has delivered so far, read by a thread of its own.
#[derive(Debug)]
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Collector {
    fn new(stream: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut chunk = [0; 4096];
            let Some(mut stream) = stream else { return };
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&chunk[..length]);
            }
        });
        Self { bytes, thread }
    }

    /// Everything up to the end of the stream, or what there is if a program that was left behind keeps it open.
    fn text(&self) -> String {
        wait_until(Duration::from_secs(5), || self.thread.is_finished());
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// A started `evtchn run`. It and its programs are killed when the value is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collector,
    stderr: Collector,
}

impl Running {
    /// Sends a signal to `evtchn` alone, not to its programs.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("evtchn runs");
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it takes longer than a minute: then everything is killed.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        let status = self.wait();
        if status.is_none() {
            self.kill();
        }
        let (stdout, stderr) = (self.stdout.text(), self.stderr.text());
        let Some(status) = status else {
            panic!("still running after {LIMIT:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
        };
        Finished { status, stdout, stderr }
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        let mut status = None;
        wait_until(LIMIT, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status
    }

    /// The programs are in the group of `evtchn` unless they left it.
    fn kill(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A run that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How `evtchn` itself ended.
    pub status: ExitStatus,
    /// What it and its programs printed.
    pub stdout: String,
    /// What it and its programs complained.
    pub stderr: String,
}

impl Finished {
    /// The status as a shell shows it: 128 and the number for a signal.
    #[must_use]
    pub fn shell_status(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or_default())
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nstdout:\n{}\nstderr:\n{}", self.status, self.stdout, self.stderr)
    }
}
