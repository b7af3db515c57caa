// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a call costs, in ticks of the time stamp counter.
//!
//! In a machine whose clock is driven by its instructions (QEMU's `-icount shift=0`) a tick is an instruction, of the program, of
//! Linux and of Xen together. On other machines the figures are times, and mean little.

use anyhow::{Result, ensure};

use crate::device::Device;
use crate::sys::{self, ticks};

/// How often everything is measured; the median counts.
const SAMPLES: usize = 7;

/// Ticks per call.
#[derive(Clone, Copy, Default)]
struct Cost {
    notify: u64,
    read: u64,
    write: u64,
}

/// Prints the medians, a line for each call.
///
/// # Errors
/// An event did not come at once: the machine has more than one CPU.
pub fn run(rounds: u32) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        samples.push(sample(&file, &other, port, theirs, rounds)?);
    }
    println!("notify {}", median(&samples, |cost| cost.notify));
    println!("read {}", median(&samples, |cost| cost.read));
    println!("write {}", median(&samples, |cost| cost.write));
    println!("getppid {}", getppid(rounds));
    Ok(())
}

fn median(samples: &[Cost], of: impl Fn(&Cost) -> u64) -> u64 {
    let mut ticks: Vec<u64> = samples.iter().map(of).collect();
    ticks.sort_unstable();
    ticks[SAMPLES / 2]
}

fn sample(file: &Device, other: &Device, port: u32, theirs: u32, rounds: u32) -> Result<Cost> {
    let mut sum = Cost::default();
    let mut buffer = [0_u32];
    let fd = std::os::fd::AsFd::as_fd(file);
    for _ in 0..rounds {
        let start = ticks();
        other.notify(theirs).ok();
        let notified = ticks();
        let got = sys::read(fd, buffer.as_mut_ptr() as usize, 4);
        let got_at = ticks();
        file.write(&[port]).ok();
        sum.write += ticks() - got_at;
        sum.read += got_at - notified;
        sum.notify += notified - start;
        ensure!(got == Ok(4), "no event after notify: {got:?}; this needs a machine with one CPU");
    }
    let rounds = u64::from(rounds);
    Ok(Cost { notify: sum.notify / rounds, read: sum.read / rounds, write: sum.write / rounds })
}

/// The cheapest system call: what all others cost at least.
fn getppid(rounds: u32) -> u64 {
    let start = ticks();
    for _ in 0..rounds {
        std::hint::black_box(rustix::process::getppid());
    }
    (ticks() - start) / u64::from(rounds)
}
