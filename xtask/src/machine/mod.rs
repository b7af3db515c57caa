// SPDX-License-Identifier: MIT OR Apache-2.0
//! An emulated machine that is made from Debian packages, for what needs a kernel of its own: real Xen, or Linux alone.
//!
//! Nothing is installed and nothing needs root: packages are [fetched](crate::fetch) once, QEMU emulates the processor (no KVM),
//! and everything that runs in the machine comes in its initramfs. A run takes about as long as the machine takes to start,
//! some fifteen seconds. Programs of this machine run there as they are: the shared libraries that they are linked with come along.
//!
//! ```ignore
//! // In domain 0 of Xen 4.17: the program's output is passed on as it comes.
//! let outcome = Machine::new(Flavour::Bookworm, System::Dom0).file("target/debug/prog", "/t/prog").run(&["./prog", "-v"])?;
//!
//! // A kernel module of one's own in Debian's newest kernel, without Xen; the output is kept.
//! let outcome = Machine::new(Flavour::Sid, System::Plain)
//!     .cpus(1)
//!     .module("kvm-amd")                        // one of Debian's, with what it depends on
//!     .drivers(&[])                             // and none of the usual ones
//!     .kernel_args("nosmp")
//!     .file("kernel/my.ko", "/t/my.ko")
//!     .folder("tests/data", "/t/data")
//!     .out("target/results")                    // what the program leaves in $OUT, console.txt, dmesg.txt
//!     .capture()
//!     .run(&["sh", "-c", "insmod ./my.ko && cat /proc/modules >$OUT/modules"])?;
//! assert_eq!(outcome.status, 0, "{}", outcome.stderr);
//! # anyhow::Ok(())
//! ```
//!
//! The program's working directory is `/t`. It finds busybox's commands, `/proc`, `/sys`, `/dev`, `/tmp`, and a folder for its results
//! in `$OUT`.

mod assemble;
mod boot;
mod domu;
mod files;
mod image;
mod kernel;
mod libraries;
mod modules;
mod packages;
mod qemu;
mod results;
mod running;
mod toolstack;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

pub use self::boot::Outcome;
pub use self::files::Files;
pub use self::image::Image;
pub use self::kernel::Kernel;
pub use self::modules::Tree;
pub use self::packages::Unavailable;
pub use self::running::Hung;

/// How long a run may take if nothing else is said.
const LIMIT: Duration = Duration::from_secs(300);
/// Drivers that are loaded on Xen: what `/dev/xen` and `/proc/xen` are made of.
const XEN_DRIVERS: [&str; 5] = ["xen-privcmd", "xenfs", "xen-evtchn", "xen-gntdev", "xen-gntalloc"];

/// Which Debian the machine is made from.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Debian 12: Xen 4.17 and Linux 6.1
    #[default]
    Bookworm,
    /// Debian unstable of October 2026: Xen 4.20 and Linux 7.2
    Sid,
}

/// What the program runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// Xen's first, privileged domain.
    Dom0,
    /// An unprivileged paravirtualised domain with the same kernel, which domain 0 starts.
    DomU,
    /// Linux without Xen.
    Plain,
}

/// A machine to be started, with what is to be found in it. Each [`run`](Self::run) starts it anew.
#[derive(Clone, Debug)]
pub struct Machine {
    flavour: Flavour,
    system: System,
    kernel: Option<Kernel>,
    cpus: u32,
    memory: u32,
    cpu_model: Option<String>,
    counted: bool,
    nested: bool,
    kernel_args: Vec<String>,
    xen_args: Vec<String>,
    modules: Vec<String>,
    drivers: Option<Vec<String>>,
    toolstack: bool,
    files: Files,
    out: Option<PathBuf>,
    limit: Duration,
    capture: bool,
}

impl Machine {
    /// A machine with two CPUs and 1400 MiB of memory, a limit of five minutes, and the usual drivers.
    #[must_use]
    pub fn new(flavour: Flavour, system: System) -> Self {
        Self {
            flavour,
            system,
            kernel: None,
            cpus: 2,
            memory: 1400,
            cpu_model: None,
            counted: false,
            nested: false,
            kernel_args: Vec::new(),
            xen_args: Vec::new(),
            modules: Vec::new(),
            drivers: None,
            toolstack: false,
            files: Files::default(),
            out: None,
            limit: LIMIT,
            capture: false,
        }
    }

    /// Another kernel than the flavour's own.
    #[must_use]
    pub fn kernel(mut self, kernel: Kernel) -> Self {
        self.kernel = Some(kernel);
        self
    }

    /// The number of CPUs of the machine, and of the domain.
    #[must_use]
    pub fn cpus(mut self, count: u32) -> Self {
        self.cpus = count;
        self
    }

    /// The machine's memory in MiB. Domain 0 gets all but 800, another domain 256.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// QEMU's CPU model with its flags; `max` otherwise, and on Xen `max` without what its emulation has wrong.
    #[must_use]
    pub fn cpu_model(mut self, model: &str) -> Self {
        self.cpu_model = Some(model.to_owned());
        self
    }

    /// A machine whose clock advances by a nanosecond with each instruction: its time stamp counter counts instructions. It has to
    /// have one CPU to mean anything, and is some times slower.
    #[must_use]
    pub fn counted(mut self) -> Self {
        self.counted = true;
        self
    }

    /// A machine that runs guests itself: with KVM on the emulated processor's SVM.
    #[must_use]
    pub fn nested(mut self) -> Self {
        self.nested = true;
        // Now and then the interrupt of the local APIC's timer waits (in its IRR) while the processor sleeps with interrupts on, which no
        // processor does. A kernel whose timer ticks always, not once for each deadline, asks again at the next tick.
        self.module("kvm-amd").kernel_args("nohz=off highres=off")
    }

    /// More of Linux's command line.
    #[must_use]
    pub fn kernel_args(mut self, args: &str) -> Self {
        self.kernel_args.push(args.to_owned());
        self
    }

    /// More of Xen's command line.
    #[must_use]
    pub fn xen_args(mut self, args: &str) -> Self {
        self.xen_args.push(args.to_owned());
        self
    }

    /// Loads a module of the kernel's packages, after those that it depends on. What is no file there is taken to be built in.
    #[must_use]
    pub fn module(mut self, name: &str) -> Self {
        self.modules.push(name.to_owned());
        self
    }

    /// Loads these drivers and not the usual ones: on Xen those behind `/dev/xen` and `/proc/xen`, else none.
    #[must_use]
    pub fn drivers(mut self, names: &[&str]) -> Self {
        self.drivers = Some(names.iter().map(ToString::to_string).collect());
        self
    }

    /// Brings Xen's own programs into domain 0: `xl`, `xenstored`, `xenconsoled`, `lsevtchn` and what clients there are.
    #[must_use]
    pub fn toolstack(mut self) -> Self {
        self.toolstack = true;
        self
    }

    /// Puts a file of this machine at an absolute path of the emulated one, with its mode, and the libraries that it needs.
    #[must_use]
    pub fn file(mut self, here: impl Into<PathBuf>, there: &str) -> Self {
        self.files.file(here.into(), there);
        self
    }

    /// Puts all that a folder contains below an absolute path of the emulated machine. Links are followed, those to nothing left out.
    #[must_use]
    pub fn folder(mut self, here: impl Into<PathBuf>, there: &str) -> Self {
        self.files.file(here.into(), there);
        self
    }

    /// Where results go: what the program leaves in `$OUT`, `console.txt` and `dmesg.txt`. Without it they are lost.
    #[must_use]
    pub fn out(mut self, folder: impl Into<PathBuf>) -> Self {
        self.out = Some(folder.into());
        self
    }

    /// How long the machine may run.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Keeps the program's output to itself instead of passing it on as it comes.
    #[must_use]
    pub fn capture(mut self) -> Self {
        self.capture = true;
        self
    }

    /// Starts the machine, runs a program in it, and brings its output, its results and its status back.
    ///
    /// A program without a slash in its name is looked for in the machine; another one is a path there.
    ///
    /// # Errors
    /// [`Unavailable`] if packages or QEMU cannot be had; [`Hung`] if the machine did not finish in time or stopped by itself; a
    /// file that cannot be read. A program that fails is not an error: see [`Outcome::status`].
    pub fn run(&self, command: &[&str]) -> Result<Outcome> {
        boot::run(self, command)
    }
}
