// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting a machine, passing its output on, and learning how it ended.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use thiserror::Error;

use super::kernel::Kernel;
use super::qemu::{self, Boot, CONSOLE, Hardware};
use super::{Flavour, Machine, System, assemble, results};
use crate::{paths, progress};

/// How often a running machine is looked at.
const INTERVAL: Duration = Duration::from_millis(50);
/// MiB that domain 0 leaves to Xen and to other domains.
const NOT_DOM0: u32 = 800;
/// Lines of the console that are shown of a machine that did not finish.
const LAST_LINES: usize = 8;
/// How Linux and Xen say that they cannot go on.
const PANICS: [&str; 4] = ["Kernel panic - not syncing", "Panic on CPU", "kernel BUG at", "BUG: "];
/// What QEMU itself complains about.
const COMPLAINTS: &str = "qemu";

/// How a program in a machine ended, and what it printed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its exit status; 128 and the number of the signal if one killed it, as a shell has it.
    pub status: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
    /// How long the machine ran.
    pub duration: Duration,
}

/// The machine did not get as far as the program's end.
#[derive(Debug, Error)]
#[error("the machine {what}; its console ended with:\n{console}")]
pub struct Hung {
    /// `did not finish within ...` or `stopped by itself`.
    pub what: String,
    /// The last lines of its console.
    pub console: String,
}

/// Runs a command in a machine. See [`Machine::run`].
///
/// # Errors
/// As there.
pub fn run(machine: &Machine, command: &[&str]) -> Result<Outcome> {
    let all = paths::workspace().join("target/machine");
    fs::create_dir_all(&all).with_context(|| format!("cannot create {}", all.display()))?;
    let folder = TempDir::with_prefix_in("run-", &all).context("no folder for the machine's files")?;
    let qemu = prepare(machine, command, folder.path())?;
    let start = Instant::now();
    let ended = Running::start(qemu, machine, folder.path())?.follow(start + machine.limit);
    let duration = start.elapsed();
    let status = match ended {
        Ok(status) => status,
        Err(error) => {
            machine.out.as_ref().map_or(Ok(()), |out| results::console(folder.path(), out))?;
            return Err(error);
        }
    };
    if let Some(out) = &machine.out {
        results::collect(folder.path(), out)?;
    }
    let [stdout, stderr] = ["stdout", "stderr"].map(|name| text(&folder.path().join(name)));
    Ok(Outcome { status, stdout, stderr, duration })
}

/// Makes the machine's files and the command that runs it.
fn prepare(machine: &Machine, command: &[&str], folder: &Path) -> Result<Command> {
    let root = machine.flavour.root()?;
    let kernel = machine.kernel.clone().map_or_else(|| Kernel::of(&root), Ok)?;
    let mut archive = BufWriter::new(File::create(folder.join(qemu::INITRAMFS))?);
    assemble::initramfs(machine, &root, &kernel, command)?.write(&mut archive)?;
    archive.flush()?;
    let (linux, given) = (folder.join(qemu::LINUX), machine.kernel_args.join(" "));
    if machine.system == System::Plain {
        fs::copy(&kernel.image, linux).with_context(|| kernel.image.display().to_string())?;
        let args = format!("console=ttyS0 loglevel=5 panic=1 {given}");
        return qemu::command(&hardware(machine, "max"), &Boot::Linux(&args), folder);
    }
    fs::write(linux, kernel.uncompressed()?)?;
    unzip(&hypervisor(&root, machine.flavour)?, &folder.join(qemu::XEN))?;
    let given = if machine.system == System::Dom0 { given.as_str() } else { "" };
    let args = format!("console=hvc0 loglevel=5 panic=1 {given}");
    // QEMU checks SMAP on the stack reads of `iret` with the guest's privilege, which kills a PV kernel early.
    qemu::command(&hardware(machine, "max,smap=off"), &Boot::Xen(&xen_args(machine), &args), folder)
}

fn hardware<'a>(machine: &'a Machine, usual: &'a str) -> Hardware<'a> {
    let cpu_model = machine.cpu_model.as_deref().unwrap_or(usual);
    Hardware { cpus: machine.cpus, memory: machine.memory, cpu_model, counted: machine.counted }
}

fn xen_args(machine: &Machine) -> String {
    let (cpus, memory) = (machine.cpus, machine.memory.saturating_sub(NOT_DOM0));
    let given = machine.xen_args.join(" ");
    format!(
        "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_max_vcpus={cpus} dom0_mem={memory}M {given}"
    )
}

/// The hypervisor's file in the packages, compressed.
fn hypervisor(root: &Path, flavour: Flavour) -> Result<PathBuf> {
    let prefix = format!("xen-{}", flavour.xen());
    let files = fs::read_dir(root.join("boot")).context("no hypervisor in the packages")?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut images = files.filter_map(|file| Some(file.ok()?.path()));
    images
        .find(|path| name(path).starts_with(&prefix) && name(path).ends_with(".gz"))
        .context("no hypervisor in the packages")
}

/// QEMU takes the hypervisor only uncompressed.
fn unzip(from: &Path, to: &Path) -> Result<()> {
    let source = File::open(from).with_context(|| from.display().to_string())?;
    io::copy(&mut GzDecoder::new(source), &mut File::create(to)?)?;
    Ok(())
}

/// A machine at work. It is switched off when the value is dropped.
struct Running<'a> {
    child: Child,
    folder: &'a Path,
    limit: Duration,
    streams: Vec<Stream>,
}

impl<'a> Running<'a> {
    fn start(qemu: Command, machine: &Machine, folder: &'a Path) -> Result<Self> {
        let complaints = File::create(folder.join(COMPLAINTS))?;
        let mut guarded = guarded(&qemu, machine.limit);
        let child = guarded.stdout(complaints.try_clone()?).stderr(complaints).spawn();
        let child = child.with_context(|| format!("cannot start {}", qemu.get_program().display()))?;
        let pass_on: [fn(&[u8]); 2] = [to_stdout, to_stderr];
        let names = ["stdout", "stderr"].into_iter().zip(pass_on).filter(|_| !machine.capture);
        let streams = names.map(|(name, to)| Stream { path: folder.join(name), position: 0, to }).collect();
        Ok(Self { child, folder, limit: machine.limit, streams })
    }

    /// Passes output on until the program has ended; its status.
    fn follow(mut self, deadline: Instant) -> Result<i32> {
        let start = Instant::now();
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
            if Instant::now() >= deadline {
                bail!(self.hung(format!("did not finish within {} s", self.limit.as_secs())));
            }
            let silent = self.streams.iter().all(|stream| stream.position == 0);
            if silent && !self.streams.is_empty() {
                progress::line(&format!("machine: {} s", start.elapsed().as_secs()));
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
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// QEMU under `timeout`, which passes signals on, so that the machine does not outlive this program for ever if this is killed.
fn guarded(qemu: &Command, limit: Duration) -> Command {
    let mut guarded = Command::new("timeout");
    guarded.args(["--foreground", "--signal=KILL"]).arg((limit.as_secs() + 10).to_string());
    guarded.arg(qemu.get_program()).args(qemu.get_args());
    guarded.envs(qemu.get_envs().filter_map(|(name, value)| Some((name, value?))));
    guarded.stdin(Stdio::null()).current_dir(qemu.get_current_dir().unwrap_or(Path::new(".")));
    guarded
}

/// A file that grows, and where what is new in it goes.
struct Stream {
    path: PathBuf,
    position: u64,
    to: fn(&[u8]),
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
fn text(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
