// SPDX-License-Identifier: MIT OR Apache-2.0
//! When an event comes, and when it does not.

use anyhow::Result;

use super::Case;
use crate::device::Device;
use crate::report::Report;

pub const CASES: &[Case] = &[
    ("delivery.a_connected_port_has_an_event_at_once", first_event),
    ("delivery.events_are_merged_until_the_port_is_enabled", merged),
    ("delivery.writes_of_other_ports_are_passed_over", foreign_writes),
    ("delivery.a_bound_port_is_enabled", starts_enabled),
    ("delivery.entries_stay_after_unbind", stale_entries),
    ("delivery.bulk", bulk),
    ("delivery.both_ends_in_one_file", loopback),
];

fn first_event(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let theirs = other.unbound().unwrap_or_default();
    report.is("an unbound port", other.settled(), Err(evtchn_abi::Errno::EAGAIN));
    let port = file.connect(theirs).unwrap_or_default();
    report.name(port, "a");
    let got = file.next(8)?;
    report.is("the connected port", report.named(&got), vec!["a".to_owned()]);
    report.is("its peer", other.settled(), Err(evtchn_abi::Errno::EAGAIN));
    Ok(())
}

fn merged(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    for _ in 0..3 {
        other.notify(theirs).ok();
    }
    let got = file.next(8)?;
    report.is("three events, at once", report.named(&got), vec!["a".to_owned()]);
    for _ in 0..3 {
        other.notify(theirs).ok();
    }
    report.is("three more while it is disabled", file.settled(), Err(evtchn_abi::Errno::EAGAIN));
    report.is("enabled", file.write(&[port]), Ok(4));
    let got = file.next(8)?;
    report.is("the merged one", report.named(&got), vec!["a".to_owned()]);
    report.is("enabled again", file.write(&[port]), Ok(4));
    report.is("nothing is left", file.settled(), Err(evtchn_abi::Errno::EAGAIN));
    Ok(())
}

fn foreign_writes(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    other.notify(theirs).ok();
    file.expect(1)?;
    other.notify(theirs).ok();
    report.is("another file writes it", other.write(&[port]), Ok(4));
    report.is("it stays disabled", file.settled(), Err(evtchn_abi::Errno::EAGAIN));
    report.is("written among others", file.write(&[0, 77777, port, port, theirs]), Ok(20));
    let got = file.next(8)?;
    report.is("it comes", report.named(&got), vec!["a".to_owned()]);
    report.is("once", file.settled(), Err(evtchn_abi::Errno::EAGAIN));
    Ok(())
}

fn starts_enabled(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let theirs = other.unbound().unwrap_or_default();
    report.is("write right after the bind", other.write(&[theirs]), Ok(4));
    report.name(theirs, "b");
    let port = file.connect(theirs).unwrap_or_default();
    file.take(port)?;
    file.notify(port).ok();
    let got = other.next(8)?;
    report.is("an event", report.named(&got), vec!["b".to_owned()]);
    Ok(())
}

fn stale_entries(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (first, theirs_first) = file.pair(&other)?;
    let (second, theirs_second) = file.pair(&other)?;
    report.name(first, "a");
    report.name(second, "b");
    other.notify(theirs_first).ok();
    file.ready()?;
    report.is("unbind of the first", file.unbind(first), Ok(0));
    other.notify(theirs_second).ok();
    let got = file.expect(2)?;
    report.is("both are read", report.named(&got), vec!["a".to_owned(), "b".to_owned()]);
    Ok(())
}

/// More ports than one read takes. They must all be there at the first, so it is tried some times.
fn bulk(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let pairs: Vec<(u32, u32)> = (0..1100).map(|_| file.pair(&other)).collect::<Result<_>>()?;
    let mut bound: Vec<u32> = pairs.iter().map(|(ours, _)| *ours).collect();
    bound.sort_unstable();
    let (mut first, mut all) = (Vec::new(), Vec::new());
    for wait in [10, 20, 40, 80] {
        for (_, theirs) in &pairs {
            other.notify(*theirs).ok();
        }
        std::thread::sleep(crate::device::SETTLE * wait);
        first = file.read(16384).unwrap_or_default();
        let second = file.expect(bound.len().saturating_sub(first.len()))?;
        all = [first.clone(), second].concat();
        all.sort_unstable();
        for some in bound.chunks(1024) {
            file.write(some).ok();
        }
        if first.len() >= 1024 {
            break;
        }
    }
    report.is("the first read", first.len(), 1024);
    report.is("each port once", all == bound, true);
    Ok(())
}

fn loopback(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    let (a, b) = file.pair(&file)?;
    report.name(a, "a");
    report.name(b, "b");
    for round in 0..200 {
        let (from, to) = if round % 2 == 0 { (a, b) } else { (b, a) };
        file.notify(from).ok();
        file.take(to)?;
    }
    report.is("nothing is left", file.settled(), Err(evtchn_abi::Errno::EAGAIN));
    Ok(())
}
