// SPDX-License-Identifier: MIT OR Apache-2.0
//! Traffic that keeps the driver busy while somebody tries to unload it.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;

use crate::device::Device;

/// Sends events to and fro until the input ends. Says `ready` when it has begun.
///
/// # Errors
/// An event did not come.
pub fn run() -> Result<()> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = scope.spawn(|| traffic(&stop));
        println!("ready");
        let ended = std::io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::SeqCst);
        let rounds = traffic.join().unwrap_or_else(|_| anyhow::bail!("panicked"))?;
        println!("held for {rounds} rounds");
        Ok(ended.map(drop)?)
    })
}

fn traffic(stop: &AtomicBool) -> Result<u64> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    let mut rounds = 0;
    while !stop.load(Ordering::SeqCst) {
        other.notify(theirs).ok();
        file.take(port)?;
        rounds += 1;
    }
    Ok(rounds)
}
