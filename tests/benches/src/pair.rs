// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two programs in two domains that send an event back and forth, each with notify, read and unmask. The binary `probe` is both.

use std::fs;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use evtchn_abi::DomId;
use rustix::fs::OFlags;

use crate::device::Device;
use crate::spread::Bursts;

/// The domain that answers.
pub const PONG: DomId = DomId(1);
/// The domain that asks, and times the round trips.
pub const PING: DomId = DomId(2);

const PATIENCE: Duration = Duration::from_secs(10);

/// Answers every event, until the process is killed. Leaves its port's number in the file `meet`.
///
/// # Errors
/// A call failed.
pub fn pong(meet: &Path) -> io::Result<()> {
    let device = Device::open(OFlags::empty())?;
    let port = device.bind_unbound(PING)?;
    let unfinished = meet.with_extension("new");
    fs::write(&unfinished, port.to_string())?;
    fs::rename(unfinished, meet)?;
    loop {
        let port = device.read()?;
        device.write(port)?;
        device.notify(port)?;
    }
}

/// Connects to the port whose number is in the file `meet`, and times round trips: nanoseconds, one for each burst.
///
/// # Errors
/// A call failed, or nobody answers.
pub fn ping(meet: &Path, bursts: Bursts) -> io::Result<Vec<f64>> {
    let remote = wait_for(meet)?;
    let device = Device::open(OFlags::empty())?;
    let port = device.bind_interdomain(PONG, remote)?;
    // A new connection has an event pending on this side.
    device.write(device.read()?)?;
    device.notify(port)?;
    device.write(device.read()?)?;
    Ok(bursts.time(|| {
        device.notify(port)?;
        Ok::<(), io::Error>(device.write(device.read()?)?)
    }))
}

fn wait_for(meet: &Path) -> io::Result<u32> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Ok(text) = fs::read_to_string(meet) {
            return text.parse().map_err(io::Error::other);
        }
        sleep(Duration::from_millis(1));
    }
    Err(io::ErrorKind::TimedOut.into())
}
