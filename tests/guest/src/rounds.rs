// SPDX-License-Identifier: MIT OR Apache-2.0
//! One guest with itself.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::device::{Device, PATIENCE};
use crate::ports;

/// `DOMID_SELF`.
const SELF: u16 = 0x7ff0;

/// Notifies a port whose peer is another port of this domain, and takes the event, `count` times.
pub fn run(count: u64) -> Result<()> {
    let device = Device::open()?;
    let far = device.bind_unbound_port(SELF)?;
    let near = device.bind_interdomain(SELF, far)?;
    device.take(PATIENCE).context("the new channel's first event")?;
    let start = Instant::now();
    for round in 0..count {
        device.notify(near)?;
        let port = device.take(PATIENCE).with_context(|| format!("lost in round {round}"))?;
        ensure!(port == far, "round {round}: port {} instead of {}", port.0, far.0);
    }
    println!(
        "rounds: {count} without a loss, {} ns each",
        start.elapsed().as_nanos() / u128::from(count.max(1))
    );
    Ok(())
}

/// Reads a port that does nothing: a system call and an exit.
pub fn bare(count: u64) -> Result<()> {
    let start = Instant::now();
    for _ in 0..count {
        ports::nothing()?;
    }
    let exits = start.elapsed().as_nanos();
    let start = Instant::now();
    for _ in 0..count {
        std::hint::black_box(std::fs::File::open("/dev/null")?);
    }
    let calls = start.elapsed().as_nanos();
    println!(
        "bare: {} ns each, of which {} ns are opening and closing a file",
        exits / u128::from(count),
        calls / u128::from(count)
    );
    Ok(())
}
