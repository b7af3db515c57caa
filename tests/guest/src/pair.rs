// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two guests: domain 2 asks, domain 1 answers. What was asked is counted on both sides, and the counts are compared.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use evtchn_abi::Port;
use evtchn_abi::args::StatusKind;

use crate::device::{Device, PATIENCE};
use crate::ports;
use crate::privcmd::Privcmd;

const ASKER: u16 = 2;
const ANSWERER: u16 = 1;

/// Where on the board the answerer's port is, and where its count. A port on the board is never 0.
const PORT: u64 = 0;
const COUNT: u64 = 4;
const CONNECTED: u64 = 8;
/// How often the counts are compared; each comparison costs 4 exits.
const COMPARE: u64 = 100;
const INTERVAL: Duration = Duration::from_millis(20);
/// The other guest may take this long to boot.
const BOOT: Duration = Duration::from_secs(90);

/// Waits for a number on the board.
fn wait_for(at: u64) -> Result<u32> {
    let start = Instant::now();
    while start.elapsed() < BOOT {
        let number = ports::get(at)?;
        if number != 0 {
            return Ok(number);
        }
        thread::sleep(INTERVAL);
    }
    bail!("the other guest does not come")
}

/// Domain 1's part.
pub fn answer(count: u64, kill: bool) -> Result<()> {
    let device = Device::open()?;
    let port = device.bind_unbound_port(ASKER)?;
    ports::put(PORT, port.0)?;
    wait_for(CONNECTED)?;
    for round in 0..count {
        let patience = if round == 0 { BOOT } else { PATIENCE };
        let from = device.take(patience).with_context(|| format!("question {round}"))?;
        ensure!(from == port, "question {round}: port {} instead of {}", from.0, port.0);
        if round % COMPARE == 0 {
            ports::put(COUNT, u32::try_from(round)?)?;
        }
        device.notify(port)?;
    }
    println!("answer: {count} questions, {count} answers");
    if kill { look_at_orphan(&device, port) } else { Ok(()) }
}

/// The peer dies without closing anything.
fn look_at_orphan(device: &Device, port: Port) -> Result<()> {
    let privcmd = Privcmd::open()?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(StatusKind::Unbound { dom }) = privcmd.status(port)? {
            device.notify(port).context("to nobody")?;
            println!("answer: the peer is gone, and port {} is unbound, for domain {}", port.0, dom.0);
            return Ok(());
        }
        thread::sleep(INTERVAL);
    }
    bail!("port {} is still connected to a domain that was killed", port.0)
}

/// Is a round one of those, evenly spread, in which there is to be a snapshot?
fn is_time_for_one(round: u64, count: u64, snapshots: u64) -> bool {
    let done = |rounds: u64| rounds * (snapshots + 1) / count;
    round + 1 < count && done(round + 1) != done(round)
}

/// Domain 2's part.
pub fn ask(count: u64, snapshots: u64, kill: bool) -> Result<()> {
    let device = Device::open()?;
    let far = Port(wait_for(PORT)?);
    let port = device.bind_interdomain(ANSWERER, far)?;
    device.take(PATIENCE).context("the new channel's first event")?;
    ports::put(CONNECTED, 1)?;
    let (start, mut spurious) = (Instant::now(), 0_u64);
    for round in 0..count {
        if is_time_for_one(round, count, snapshots) {
            ports::wish_for_a_snapshot()?;
        }
        device.notify(port)?;
        let from = device.take(PATIENCE).with_context(|| format!("answer {round}"))?;
        ensure!(from == port, "answer {round}: port {} instead of {}", from.0, port.0);
        if round % COMPARE == 0 {
            let theirs = u64::from(ports::get(COUNT)?);
            // After a restore an event may come twice, which reads as an answer that is not there yet.
            spurious += u64::from(theirs != round);
        }
    }
    ensure!(spurious <= snapshots, "{spurious} counts differ");
    let each = start.elapsed().as_nanos() / u128::from(count.max(1));
    println!(
        "ask: {count} questions, {count} answers, {each} ns each; {spurious} of {} counts differ",
        count.div_ceil(COMPARE)
    );
    if kill {
        ports::wish_to_be_killed()?;
        bail!("still alive");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_snapshots_as_are_asked_for() {
        for (count, snapshots) in [(600, 10), (600, 0), (1, 0), (11, 10), (10, 3), (7, 6)] {
            let times = (0..count).filter(|&round| is_time_for_one(round, count, snapshots)).count();
            assert_eq!(times as u64, snapshots, "{count}");
        }
    }
}
