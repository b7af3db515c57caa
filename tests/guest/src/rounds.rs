// SPDX-License-Identifier: MIT OR Apache-2.0
//! One guest with itself.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use evtchn_abi::Port;

use crate::device::{Device, PATIENCE};

/// `DOMID_SELF`.
const SELF: u16 = 0x7ff0;

/// A channel between two ports of this domain.
pub struct Loop {
    device: Device,
    near: Port,
    far: Port,
}

impl Loop {
    pub fn open() -> Result<Self> {
        let device = Device::open()?;
        let far = device.bind_unbound_port(SELF)?;
        let near = device.bind_interdomain(SELF, far)?;
        device.take(PATIENCE).context("the new channel's first event")?;
        Ok(Self { device, near, far })
    }

    pub fn notify(&self) -> Result<()> {
        self.device.notify(self.near)
    }

    pub fn take(&self) -> Result<()> {
        let port = self.device.take(PATIENCE)?;
        ensure!(port == self.far, "port {} instead of {}", port.0, self.far.0);
        Ok(())
    }
}

/// Notifies a port whose peer is another port of this domain, and takes the event, `count` times.
pub fn run(count: u64) -> Result<()> {
    let channel = Loop::open()?;
    let start = Instant::now();
    for round in 0..count {
        channel.notify()?;
        channel.take().with_context(|| format!("round {round}"))?;
    }
    println!(
        "rounds: {count} without a loss, {} ns each",
        start.elapsed().as_nanos() / u128::from(count.max(1))
    );
    Ok(())
}
