// SPDX-License-Identifier: MIT OR Apache-2.0
//! Benches of the whole system, and what all benches share.
//!
//! `cargo xtask bench` builds and runs everything here and prints one table; `cargo xtask bench launch` only what `evtchn run` costs,
//! `cargo xtask bench engine` only the engine.
//!
//! # How it measures
//! A figure is a row: what was measured, and beside it its *floor*, the least that any implementation has to pay, measured in the same run.
//! The machine may be busy and may change while we measure. So calls are timed in *bursts*, bursts of a figure and of its floor take turns
//! over several rounds, and a row has the best and the median burst. Compare ratios between runs, not times.
//!
//! * [`floor`]: a bare seccomp notification, with and without its argument read.
//! * [`identity`]: what finding out costs whose descriptor a call is about.
//! * [`eventfd`]: what programs would use without event channels.
//! * [`calls`]: the calls that are timed in a program, under `evtchn run` or natively.
//! * [`pair`]: two programs that send events to each other.
//! * [`launch`]: the order of it all; the binary `launch` runs it.
//! * [`criterion`] and [`callgrind`]: times and instruction counts of the engine, as those tools leave them.

pub mod callgrind;
pub mod calls;
pub mod criterion;
pub mod device;
pub mod eventfd;
pub mod floor;
pub mod identity;
pub mod launch;
pub mod pair;
pub mod report;
pub mod spread;
pub mod sys;
