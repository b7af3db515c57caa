// SPDX-License-Identifier: MIT OR Apache-2.0
//! QEMU: which one, and its command line.
//!
//! The machine has a serial line for its console, and virtio ports by which the program's output, its results, its status and a pulse
//! come out, each into a file of its own.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use super::packages::{self, Unavailable};
use crate::fetch::Set;

const PROGRAM: &str = "qemu-system-x86_64";
/// The variable that names another QEMU.
const VARIABLE: &str = "EVTCHN_QEMU";
/// The first release whose emulated processor can be relied on to run guests. In a machine by 7.2 interrupts were lost, so that it stood
/// still, or were delivered twice, of which its guests died; in one by 10.0 never.
const NESTED: u32 = 10;

/// The console's file.
pub const CONSOLE: &str = "console";
/// The port that gets a byte every few seconds, and its file.
pub const PULSE: &str = "pulse";
/// The names of the virtio ports, and of their files.
pub const PORTS: [&str; 5] = ["stdout", "stderr", "results", "status", PULSE];
/// Files that are booted: the hypervisor, the kernel and its initramfs.
pub const XEN: &str = "xen";
pub const LINUX: &str = "linux";
pub const INITRAMFS: &str = "initramfs";

/// What is booted.
pub enum Boot<'a> {
    /// Xen with a kernel for domain 0; the arguments of both.
    Xen(&'a str, &'a str),
    /// A kernel alone, with its arguments.
    Linux(&'a str),
}

/// The parts of the machine itself.
pub struct Hardware<'a> {
    pub cpus: u32,
    pub memory: u32,
    pub cpu_model: &'a str,
    /// The clock counts instructions.
    pub counted: bool,
    /// The machine runs guests itself.
    pub nested: bool,
}

/// A command that boots the files of `folder` and writes others there.
///
/// # Errors
/// [`Unavailable`]: there is no QEMU.
pub fn command(hardware: &Hardware<'_>, boot: &Boot<'_>, folder: &Path) -> Result<Command> {
    let mut qemu = program(hardware.nested)?;
    // Names without a folder have no space, comma or colon, which mean something in QEMU's options.
    qemu.current_dir(folder).stdin(Stdio::null());
    qemu.args(["-machine", "pc", "-cpu", hardware.cpu_model]);
    if hardware.counted {
        qemu.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]);
    } else {
        qemu.args(["-accel", "tcg,thread=multi"]);
    }
    qemu.args(["-smp", &hardware.cpus.to_string(), "-m", &hardware.memory.to_string()]);
    qemu.args(["-display", "none", "-vga", "none", "-monitor", "none"]);
    qemu.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-serial", &format!("file:{CONSOLE}"), "-device", "virtio-serial-pci,max_ports=8"]);
    for port in PORTS {
        qemu.args(["-chardev", &format!("file,id={port},path={port}")]);
        qemu.args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
    }
    match boot {
        Boot::Xen(xen_args, args) => {
            qemu.args(["-kernel", XEN, "-append", xen_args, "-initrd", &modules(args)]);
        }
        Boot::Linux(args) => {
            qemu.args(["-kernel", LINUX, "-append", args, "-initrd", INITRAMFS]);
        }
    }
    Ok(qemu)
}

/// The multiboot modules: domain 0's kernel with its arguments, and its initramfs. A comma ends a module unless it is written twice.
fn modules(args: &str) -> String {
    format!("{LINUX} {},{INITRAMFS}", args.replace(',', ",,"))
}

/// `EVTCHN_QEMU`, or the QEMU that is installed if that is good enough, or Debian's.
fn program(nested: bool) -> Result<Command> {
    if let Some(named) = env::var_os(VARIABLE).map(PathBuf::from) {
        ensure!(
            named.is_file(),
            Unavailable::new(format!("{VARIABLE} names {}, which is no file", named.display()))
        );
        return Ok(Command::new(named.canonicalize()?));
    }
    match installed().filter(|path| !nested || release(path) >= Some(NESTED)) {
        Some(path) => Ok(Command::new(path)),
        None => Ok(unpacked(&packages::obtain(Set::Qemu)?)),
    }
}

/// The first number of a QEMU's version.
fn release(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().ok()?;
    first_number(&String::from_utf8_lossy(&output.stdout))
}

/// Of a text like `QEMU emulator version 10.0.13 (Debian 1:10.0.13)`.
fn first_number(version: &str) -> Option<u32> {
    version.split_once("version ")?.1.split('.').next()?.parse().ok()
}

fn installed() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|program| program.is_file())
}

/// QEMU of unpacked packages, started by their own loader, so that it sees their libraries and nothing else does.
fn unpacked(root: &Path) -> Command {
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(root.join("usr/bin").join(PROGRAM));
    for firmware in ["usr/share/qemu", "usr/share/seabios"] {
        command.arg("-L").arg(root.join(firmware));
    }
    command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_of_arguments_do_not_end_a_module() {
        assert_eq!(modules("console=hvc0,a"), "linux console=hvc0,,a,initramfs");
    }

    #[test]
    fn releases_are_compared_as_numbers() {
        let old = first_number("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\n");
        let new = first_number("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1)\n");
        assert!(old < Some(NESTED) && new >= Some(NESTED), "{old:?} {new:?}");
        assert!(first_number("no such thing") < Some(NESTED));
    }
}
