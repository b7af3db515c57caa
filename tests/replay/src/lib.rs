// SPDX-License-Identifier: MIT OR Apache-2.0
//! The judge of fidelity: recordings of a real Xen, held against this project.
//!
//! * [`replay_hypercalls`] runs every hypercall of a recording against `evtchn-engine` and compares the answer, the raw
//!   port numbers and the memory that it leaves.
//! * [`replay_guest`] does the same for the guest without a kernel, down to each word of its memory, with both ABIs;
//!   [`replay`] chooses between the two.
//! * [`compare_device`] holds two recordings of the driver's device against each other; [`recorder`] makes the second one
//!   by running the unmodified recorder under `evtchn run`.
//!
//! A deliberate difference is a row of `docs/compat.md` ([`Excuses`]); everything else that differs is a failure.
//!
//! ```no_run
//! use evtchn_replay::{Excuses, Recording, Table, replay_hypercalls};
//!
//! # fn main() -> anyhow::Result<()> {
//! let recording = Recording::load("xen4.17.7_linux6.1.192_2l.hyper-fixed.jsonl.gz".as_ref())?;
//! let report = replay_hypercalls(&recording, &Excuses::load(Table::Hypercalls)?)?;
//! println!("{report}");
//! assert!(report.failure().is_none());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod board;
mod boot;
mod device;
mod diff;
mod excuses;
mod guest;
mod hypercall;
mod kernel;
mod machine;
mod memory;
mod recording;
mod replay;
mod report;
mod symbols;

pub mod recorder;
pub mod workspace;

pub use device::compare_device;
pub use excuses::{Excuse, Excuses, Table};
pub use guest::replay_guest;
pub use recording::{Level, Meta, PortStatus, Recording, Step};
pub use replay::{replay, replay_hypercalls};
pub use report::{Difference, Excused, Report};
