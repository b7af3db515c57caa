// SPDX-License-Identifier: MIT OR Apache-2.0
//! One run of a machine: its files, its start, and what comes back.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use tempfile::TempDir;

use super::kernel::Kernel;
use super::qemu::{self, Boot, Hardware};
use super::running::{Running, text};
use super::{Flavour, Machine, System, assemble, results};
use crate::paths;

/// MiB that domain 0 leaves to Xen and to other domains.
const NOT_DOM0: u32 = 800;
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

/// Runs a command in a machine. See [`Machine::run`].
///
/// # Errors
/// As there.
pub fn run(machine: &Machine, command: &[&str]) -> Result<Outcome> {
    let folder = folder().context("no folder for the machine's files")?;
    let mut qemu = prepare(machine, command, folder.path())?;
    let start = Instant::now();
    let ended = Running::start(&mut qemu, folder.path(), machine.limit, !machine.capture)?.follow();
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

/// A folder for one run. Those of runs that were killed are removed.
fn folder() -> io::Result<TempDir> {
    let all = paths::workspace().join("target/machine");
    fs::create_dir_all(&all)?;
    for entry in fs::read_dir(&all)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let alive = name
            .to_string_lossy()
            .split_once('-')
            .is_some_and(|(id, _)| Path::new("/proc").join(id).exists());
        if !alive {
            let _ = fs::remove_dir_all(path);
        }
    }
    TempDir::with_prefix_in(format!("{}-", process::id()), &all)
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
    let &Machine { cpus, memory, counted, nested, .. } = machine;
    Hardware { cpus, memory, cpu_model, counted, nested }
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
