// SPDX-License-Identifier: MIT OR Apache-2.0
//! Both drivers on one CPU: the recorder sees the same, and what calls cost in instructions: of the program's call, of Linux and
//! of Xen together.
//!
//! The machine's clock counts instructions, so its time stamps do. That says nothing about caches, but it is the same on every
//! computer, and next to the same in every run.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::trial;
use crate::machine::System;

/// How much more than with Linux's driver all three calls together may cost.
const LIMIT: f64 = 1.1;
/// Random sequences of calls that are compared. The stored recordings have more; each takes a third of a second here.
const SEQUENCES: &str = "60";

/// Measures and prints.
///
/// # Errors
/// The machine did not finish, the recordings differ, or ours costs too much.
pub fn run() -> Result<()> {
    let (machine, folder) = trial::machine(System::Dom0, "one-cpu")?;
    let machine = machine.file(evtchn_replay::recorder::build()?, "/t/recorder").cpus(1).counted();
    trial::run(&machine, &folder, &["one-cpu.sh", SEQUENCES])?;
    trial::same_recording(&folder, "fixed")?;
    trial::same_recording(&folder, "random")?;
    let (linux, ours) = (Costs::load(&folder, "linux")?, Costs::load(&folder, "ours")?);
    println!("kernel: instructions a call, with Xen's     Linux's    ours   ratio");
    for (index, name) in NAMES.iter().enumerate() {
        let [linux, ours] = [linux.0[index], ours.0[index]];
        println!("kernel: {name:34} {linux:>8} {ours:>7} {:>7.2}", ours as f64 / linux as f64);
    }
    let ratio = ours.together() as f64 / linux.together() as f64;
    println!("kernel: notify, read and write together: {ratio:.2} of Linux's driver");
    ensure!(ratio <= LIMIT, "ours costs {ratio:.2} of what Linux's driver does; {LIMIT} is allowed");
    Ok(())
}

/// The calls; the last is one that does nothing, for comparison.
const NAMES: [&str; 4] = ["notify", "read", "write", "getppid"];

/// Instructions for each of [`NAMES`].
#[derive(Debug, PartialEq, Eq)]
struct Costs([u64; 4]);

impl Costs {
    fn load(folder: &Path, whose: &str) -> Result<Self> {
        let path = folder.join(format!("{whose}-cost.txt"));
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut costs = [0; 4];
        for (cost, name) in costs.iter_mut().zip(NAMES) {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .with_context(|| format!("no {name}"))?;
            *cost = line.trim().parse().context(name)?;
            ensure!(*cost > 0, "{name} cost nothing");
        }
        Ok(Self(costs))
    }

    /// The three calls of a round.
    fn together(&self) -> u64 {
        self.0[..3].iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_by_name() {
        let text = "notify 400\nread 100\nwrite 200\ngetppid 50\n";
        assert_eq!(Costs::parse(text).unwrap().together(), 700);
        assert!(Costs::parse("notify 400\nread 100\n").is_err());
        assert!(Costs::parse(&text.replace("50", "0")).is_err());
    }
}
