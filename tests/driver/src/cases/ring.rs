// SPDX-License-Identifier: MIT OR Apache-2.0
//! Overflow, reset, growth and the ring's end.

use anyhow::{Result, ensure};
use evtchn_abi::Errno;

use super::Case;
use crate::device::{Device, SETTLE};
use crate::report::Report;

pub const CASES: &[Case] = &[
    ("ring.the_65th_unread_port_overflows_it", overflow),
    ("ring.reset_enables_nothing", reset_enables_nothing),
    ("ring.reset_of_a_fresh_file", fresh_reset),
    ("ring.it_wraps", wraps),
    ("ring.growth_keeps_what_is_queued", growth),
];

/// Has the port queued once more, without reading, and waits until it is.
fn queue_again(file: &Device, other: &Device, port: u32, theirs: u32) {
    file.write(&[port]).ok();
    other.notify(theirs).ok();
    std::thread::sleep(std::time::Duration::from_millis(2));
}

/// How often a port is queued at most until the ring must be full, if some events are merged with the next.
const PATIENCE: u32 = 5000;

fn overflow(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    other.notify(theirs).ok();
    for _ in 1..64 {
        queue_again(&file, &other, port, theirs);
    }
    file.ready()?;
    report.is("poll with 64 unread at most", file.mask()?, 0x145);
    // Some of these may have been merged, so it takes one more or a few.
    for _ in 0..PATIENCE {
        queue_again(&file, &other, port, theirs);
        if file.mask()? == 0x8 {
            break;
        }
    }
    std::thread::sleep(SETTLE);
    report.is("poll with more", file.mask()?, 0x8);
    report.is("read", file.read(4), Err(Errno::EFBIG));
    report.is("read of less than a port", file.read(3), Ok(vec![]));
    report.is("write", file.write(&[port]), Ok(4));
    report.is("reset", file.reset(), Ok(0));
    report.is("poll after it", file.mask()?, 0x104);
    report.is("read after it", file.read(4), Err(Errno::EAGAIN));
    Ok(())
}

fn reset_enables_nothing(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    other.notify(theirs).ok();
    file.ready()?;
    report.is("reset", file.reset(), Ok(0));
    report.is("the entry is gone", file.read(4), Err(Errno::EAGAIN));
    other.notify(theirs).ok();
    report.is("the port is disabled", file.settled(), Err(Errno::EAGAIN));
    file.write(&[port]).ok();
    let got = file.next(8)?;
    report.is("after a write", report.named(&got), vec!["a".to_owned()]);
    Ok(())
}

fn fresh_reset(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    report.is("reset", file.reset(), Ok(0));
    report.is("poll", file.mask()?, 0x104);
    Ok(())
}

fn wraps(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let pairs: Vec<(u32, u32)> = (0..60).map(|_| file.pair(&other)).collect::<Result<_>>()?;
    let mut read = 0;
    for _ in 0..10 {
        for (_, theirs) in &pairs {
            other.notify(*theirs).ok();
        }
        let mut got = file.expect(60)?;
        file.write(&got).ok();
        got.sort_unstable();
        ensure!(got.windows(2).all(|pair| pair[0] < pair[1]), "a port came twice");
        read += got.len();
    }
    report.is("ports through a ring of 64", read, 600);
    Ok(())
}

fn growth(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let pairs: Vec<(u32, u32)> = (0..64).map(|_| file.pair(&other)).collect::<Result<_>>()?;
    for (_, theirs) in &pairs {
        other.notify(*theirs).ok();
    }
    let first = file.expect(10)?;
    let more: Vec<_> = (0..200).map(|_| file.unbound()).collect();
    report.is("bound meanwhile", more.iter().filter(|port| port.is_ok()).count(), 200);
    let rest = file.expect(54)?;
    report.is("read before", first.len(), 10);
    let mut all = [first, rest].concat();
    all.sort_unstable();
    let mut bound: Vec<u32> = pairs.iter().map(|(ours, _)| *ours).collect();
    bound.sort_unstable();
    report.is("each port once", all == bound, true);
    report.is("nothing is left", file.settled(), Err(Errno::EAGAIN));
    Ok(())
}
