// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs unmodified programs with `/dev/xen/evtchn`, without Xen and without root, by seccomp user notification.
//!
//! ```no_run
//! use evtchn_launch::{Abi, Config, Levels, Program};
//!
//! let program = Program { domain: 1, argv: vec!["./server".into()], virqs: vec![] };
//! let config = Config {
//!     programs: vec![program],
//!     vcpus: 1,
//!     levels: Levels::default(),
//!     abi: Abi::default(),
//!     give_up_streams: true,
//!     prefix: "evtchn: run: ".into(),
//! };
//! evtchn_launch::run(&config)?.mirror() // ends as the program ended
//! # ; Ok::<(), evtchn_launch::LaunchError>(())
//! ```
//!
//! # How it works
//!
//! ```text
//!   shell -> front            stands for the program: passes signals on, stops and ends as it does      (front)
//!              |
//!            supervisor       has the machine: host, open files, one event loop                         (supervisor, world)
//!              |    ^
//!              |    | stopped calls: paths, reads, writes, ioctls of device files                       (filter, trapped, calls)
//!              v    |
//!            programs and all their descendants
//! ```
//!
//! The filter stops calls that name a path, and calls on descriptors in a range of numbers that only our files get; everything else runs natively.
//! What a program's descriptor refers to is a pipe that is readable exactly when the device file has an event (`readiness`), so waiting, polling,
//! SIGIO and the last close are the kernel's own. Which nodes there are is in `node`, how a path leads to one in `path`.
//!
//! The process that calls [`run`] must have a single thread: it forks.

mod calls;
mod error;
mod files;
mod filter;
mod folders;
mod front;
mod limits;
mod node;
mod objects;
mod path;
mod processes;
mod readiness;
mod signals;
mod slot;
mod spawn;
mod supervisor;
mod sys;
mod trapped;
mod warnings;
mod world;

use std::ffi::OsString;
use std::time::Duration;

use evtchn_abi::Virq;
pub use evtchn_host::{Abi, Levels, LinuxLevel, XenLevel};

pub use error::LaunchError;
pub use front::{Ending, run};

/// What to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The programs; the last one is the foreground one.
    pub programs: Vec<Program>,
    /// How many vCPUs each domain has.
    pub vcpus: u32,
    /// Which releases to answer like.
    pub levels: Levels,
    /// Which ABI the domains' kernels use.
    pub abi: Abi,
    /// Whether the calling process gives up its standard input and output, and whatever else it has inherited, to the programs. Then who
    /// is at the other end sees them closed when the programs have closed them. Standard error stays.
    pub give_up_streams: bool,
    /// How lines for the user begin that are written to standard error while the programs run, for example `evtchn: run: `.
    pub prefix: String,
}

/// One program.
#[derive(Clone, Debug)]
pub struct Program {
    /// The id of its domain.
    pub domain: u32,
    /// Its name, and its arguments.
    pub argv: Vec<OsString>,
    /// VIRQs to raise in its domain while it runs.
    pub virqs: Vec<PeriodicVirq>,
}

/// A VIRQ that is raised again and again, on vCPU 0 of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodicVirq {
    /// Which.
    pub virq: Virq,
    /// How much time goes by before the first, and between two; at least a millisecond.
    pub every: Duration,
}
