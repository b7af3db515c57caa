// SPDX-License-Identifier: MIT OR Apache-2.0
//! A machine at work: passing its output on, and learning how it ended.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use thiserror::Error;

use super::qemu::{CONSOLE, PULSE};
use crate::progress;

/// How often a running machine is looked at.
const INTERVAL: Duration = Duration::from_millis(50);
/// A machine whose pulse rests for so long has stopped: its emulator, or the kernel, goes on with nothing.
const STILL: Duration = Duration::from_secs(60);
/// Lines of the console that are shown of a machine that did not finish.
const LAST_LINES: usize = 8;
/// How Linux and Xen say that they cannot go on.
const PANICS: [&str; 4] = ["Kernel panic - not syncing", "Panic on CPU", "kernel BUG at", "BUG: "];
/// The file with what QEMU itself complains about.
const COMPLAINTS: &str = "qemu";

/// The machine did not get as far as the program's end.
#[derive(Debug, Error)]
#[error("the machine {what}; its console ended with:\n{console}")]
pub struct Hung {
    /// `did not finish within ...`, `stopped by itself` or `has had no pulse for ...`, and the panic if there was one.
    pub what: String,
    /// The last lines of its console.
    pub console: String,
}

/// A machine at work. It is switched off when the value is dropped.
pub struct Running<'a> {
    child: Child,
    folder: &'a Path,
    limit: Duration,
    streams: Vec<Stream>,
}

impl<'a> Running<'a> {
    /// Starts QEMU, which writes into files of `folder`. What is printed in the machine is passed on if so asked.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(qemu: &mut Command, folder: &'a Path, limit: Duration, pass_on: bool) -> Result<Self> {
        let complaints = File::create(folder.join(COMPLAINTS))?;
        let child = spawn(qemu, &complaints)
            .with_context(|| format!("cannot start {}", qemu.get_program().display()))?;
        let stream = |name: &str, to: Sink| Stream { path: folder.join(name), position: 0, to };
        let streams =
            if pass_on { vec![stream("stdout", to_stdout), stream("stderr", to_stderr)] } else { Vec::new() };
        Ok(Self { child, folder, limit, streams })
    }

    /// Passes output on until the program has ended; its status. Then the machine is switched off.
    ///
    /// # Errors
    /// [`Hung`].
    pub fn follow(mut self) -> Result<i32> {
        let start = Instant::now();
        let mut shown = None;
        let mut pulse = Pulse { path: self.folder.join(PULSE), beats: 0, last: start };
        loop {
            let gone = self.child.try_wait()?.is_some();
            let status = text(&self.folder.join("status"));
            self.streams.iter_mut().try_for_each(Stream::pass_on)?;
            if let Some(status) = status.strip_suffix('\n') {
                self.quiet();
                return status.parse().context("the machine's status is damaged");
            }
            if gone {
                bail!(self.hung("stopped by itself".to_owned()));
            }
            if start.elapsed() >= self.limit {
                bail!(self.hung(format!("did not finish within {} s", self.limit.as_secs())));
            }
            if pulse.rests_for() >= STILL {
                bail!(self.hung(format!("has had no pulse for {} s", STILL.as_secs())));
            }
            let silent = self.streams.iter().all(|stream| stream.position == 0);
            if silent && !self.streams.is_empty() {
                let seconds = start.elapsed().as_secs();
                if shown.replace(seconds) != Some(seconds) {
                    progress::line(&format!("the machine starts: {seconds} s"));
                }
            }
            thread::sleep(INTERVAL);
        }
    }

    /// Takes the line of progress away.
    fn quiet(&self) {
        if !self.streams.is_empty() {
            progress::line("");
        }
    }

    fn hung(&self, what: String) -> Hung {
        self.quiet();
        let console = text(&self.folder.join(CONSOLE)) + &text(&self.folder.join(COMPLAINTS));
        let lines: Vec<&str> = console.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        let what = match lines.iter().find(|line| PANICS.iter().any(|panic| line.contains(panic))) {
            Some(line) => format!("{what}: {line}"),
            None => what,
        };
        let console = last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
        Hung { what, console }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts QEMU so that it dies with this program; where there is no `setpriv` it may outlive it.
fn spawn(qemu: &mut Command, complaints: &File) -> io::Result<Child> {
    let attempt = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(complaints.try_clone()?).stderr(complaints.try_clone()?).spawn()
    };
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL"]).arg(qemu.get_program()).args(qemu.get_args());
    bound.envs(qemu.get_envs().filter_map(|(name, value)| Some((name, value?))));
    bound.current_dir(qemu.get_current_dir().unwrap_or(Path::new(".")));
    match attempt(&mut bound) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => attempt(qemu),
        other => other,
    }
}

/// A file that grows while the machine lives.
struct Pulse {
    path: PathBuf,
    beats: u64,
    last: Instant,
}

impl Pulse {
    /// How long it has not grown; not at all before it has begun to.
    fn rests_for(&mut self) -> Duration {
        let beats = fs::metadata(&self.path).map_or(0, |file| file.len());
        if beats > self.beats {
            (self.beats, self.last) = (beats, Instant::now());
        }
        if self.beats == 0 { Duration::ZERO } else { self.last.elapsed() }
    }
}

/// Where output is passed on to.
type Sink = fn(&[u8]);

/// A file that grows, and where what is new in it goes.
struct Stream {
    path: PathBuf,
    position: u64,
    to: Sink,
}

impl Stream {
    fn pass_on(&mut self) -> io::Result<()> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(());
        };
        io::Seek::seek(&mut file, io::SeekFrom::Start(self.position))?;
        let mut fresh = Vec::new();
        self.position += file.read_to_end(&mut fresh)? as u64;
        if !fresh.is_empty() {
            progress::line("");
            (self.to)(&fresh);
        }
        Ok(())
    }
}

/// If nobody reads it, it is lost.
fn to_stdout(bytes: &[u8]) {
    let _ = io::stdout().write_all(bytes).and_then(|()| io::stdout().flush());
}

fn to_stderr(bytes: &[u8]) {
    let _ = io::stderr().write_all(bytes);
}

/// A file's text so far; empty if there is none.
pub fn text(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that writes files as QEMU does.
    fn machine(script: &str, limit: Duration) -> Result<i32> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        Running::start(&mut command, folder.path(), limit, false)?.follow()
    }

    fn hung(script: &str, limit: Duration) -> Hung {
        machine(script, limit).unwrap_err().downcast().unwrap()
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_programs_status_ends_the_machine() {
        let start = Instant::now();
        assert_eq!(machine("printf 3 >status; sleep 0.2; echo >>status; exec sleep 50", LONG).unwrap(), 3);
        assert!(start.elapsed() < LONG / 2, "the machine was not switched off");
    }

    #[test]
    fn a_machine_that_stops_is_told_with_its_panic_and_its_last_lines() {
        let hung = hung(
            "seq 20 >console; echo '[1.0] Kernel panic - not syncing: why' >>console; seq 21 30 >>console",
            LONG,
        );
        assert_eq!(hung.what, "stopped by itself: [1.0] Kernel panic - not syncing: why");
        assert_eq!(
            hung.console.lines().collect::<Vec<_>>(),
            ["  23", "  24", "  25", "  26", "  27", "  28", "  29", "  30"]
        );
    }

    #[test]
    fn a_machine_that_takes_too_long_is_switched_off() {
        let hung = hung("echo last >console; exec sleep 50", Duration::from_secs(1));
        assert_eq!((hung.what.as_str(), hung.console.as_str()), ("did not finish within 1 s", "  last"));
    }

    #[test]
    fn a_pulse_rests_only_after_it_has_begun() {
        let folder = tempfile::tempdir().unwrap();
        let long_ago = Instant::now().checked_sub(STILL).unwrap();
        let mut pulse = Pulse { path: folder.path().join(PULSE), beats: 0, last: long_ago };
        assert!(pulse.rests_for() < STILL, "the machine is starting");
        fs::write(&pulse.path, "\n").unwrap();
        assert!(pulse.rests_for() < STILL);
        pulse.last = long_ago;
        assert!(pulse.rests_for() >= STILL);
        fs::write(&pulse.path, "\n\n").unwrap();
        assert!(pulse.rests_for() < STILL);
    }

    #[test]
    fn what_qemu_complains_about_is_told() {
        assert_eq!(hung("echo 'qemu: no such device' >&2; exit 1", LONG).console, "  qemu: no such device");
    }
}
