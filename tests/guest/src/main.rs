// SPDX-License-Identifier: MIT OR Apache-2.0
//! A program for the user space of a guest of `evtchn-vmm`: event channels by Linux's own drivers, which know nothing of the
//! engine behind them. `cargo xtask guest` starts it there.
//!
//! The guest's I/O ports, through `/dev/port`, are how it talks to the VMM: see the VMM's `devices.rs`.

mod calls;
mod costs;
mod device;
mod hostile;
mod pair;
mod ports;
mod privcmd;
mod rounds;

use std::io::{Read, stdin};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Something to do in a guest of evtchn-vmm.
#[derive(Parser)]
enum Job {
    /// Tell the VMM that this moment has come
    Mark {
        /// Any number below 128
        number: u8,
    },
    /// Tell the VMM how this guest ends
    Status {
        /// As of a process
        status: u8,
    },
    /// Notify a port of this domain's own and take the event, again and again
    Rounds {
        /// How often
        count: u64,
    },
    /// Measure what an event costs, and leaving the guest without any
    Costs {
        /// How often
        count: usize,
    },
    /// Exchange events with the other guest: one asks, one answers
    Pair {
        /// This domain: 1 answers, 2 asks
        #[arg(long)]
        domain: u16,
        /// How often
        count: u64,
        /// The one that asks has the engine's state saved and restored so often meanwhile
        #[arg(long, default_value_t = 0)]
        snapshots: u64,
        /// The one that asks is killed at the end, and the other one looks at its port
        #[arg(long)]
        kill: bool,
    },
    /// Make hypercalls at random, with random pointers
    Hostile {
        /// How many
        count: u64,
        /// Where the random numbers begin
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Those too by which a guest most likely ends itself
        #[arg(long)]
        all: bool,
        /// The other domain, for operations that name one
        #[arg(long, default_value_t = 1)]
        peer: u16,
    },
    /// Hand stdin to the VMM, by Xen's debug console
    Console,
}

fn main() -> ExitCode {
    let status = match run(Job::parse()) {
        Ok(()) => 0,
        Err(error) => {
            println!("guest-probe: {error:#}");
            1
        }
    };
    ExitCode::from(status)
}

fn run(job: Job) -> Result<()> {
    match job {
        Job::Mark { number } => ports::mark(number),
        Job::Status { status } => ports::status(status),
        Job::Rounds { count } => rounds::run(count),
        Job::Costs { count } => costs::run(count),
        Job::Pair { domain: 1, count, kill, .. } => pair::answer(count, kill),
        Job::Pair { count, snapshots, kill, .. } => pair::ask(count, snapshots, kill),
        Job::Hostile { count, seed, all, peer } => hostile::run(count, seed, all, peer),
        Job::Console => {
            let mut bytes = Vec::new();
            stdin().read_to_end(&mut bytes)?;
            privcmd::Privcmd::open()?.console(&bytes)
        }
    }
}
