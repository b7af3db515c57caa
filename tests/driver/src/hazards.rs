// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls that stop the machine with Linux's own driver. Ours answers them, and goes on.

use anyhow::{Result, ensure};
use evtchn_abi::Errno;

use crate::cases::statics::{Existing, bind};
use crate::device::Device;
use crate::privcmd::Privcmd;
use crate::report::{Driver, Report};

/// Makes the calls.
///
/// # Errors
/// The driver is not ours, or something else than the calls failed.
pub fn run(report: &mut Report) -> Result<()> {
    ensure!(report.driver() != Driver::Linux, "these calls would stop a machine with Linux's own driver");
    report.begin("hazards.two_files_with_one_static_port");
    two_files(report)?;
    report.begin("hazards.a_static_port_that_was_left_disabled");
    left_disabled(report)?;
    report.begin("hazards.ports_of_the_kernel");
    ports_of_the_kernel(report)?;
    report.begin("hazards.ports_of_other_files");
    ports_of_others(report)?;
    report.begin("hazards.ports_that_do_not_exist");
    no_ports(report)?;
    report.begin("hazards.ports_closed_behind_the_drivers_back");
    closed_elsewhere(report)?;
    report.begin("hazards.afterwards");
    afterwards(report)
}

fn two_files(report: &mut Report) -> Result<()> {
    let existing = Existing::new(report.driver())?;
    let (first, second, third) = (Device::open()?, Device::open()?, Device::open()?);
    report.is("the first file", bind(&first, existing.port), Ok(0));
    report.is("the second file", bind(&second, existing.port), Ok(0));
    report.is("the third file", bind(&third, existing.port), Ok(0));
    report.is("the first lets go", first.unbind(existing.port), Ok(0));
    report.is("and once more", first.unbind(existing.port), Err(Errno::ENOTCONN));
    report.is("the second lets go", second.unbind(existing.port), Ok(0));
    drop(third);
    report.is("the port is open", existing.is_open()?, true);
    report.is("and can be bound again", bind(&first, existing.port), Ok(0));
    Ok(())
}

/// A file that lets go of a port which it has not enabled again does not take it from the others.
fn left_disabled(report: &mut Report) -> Result<()> {
    let existing = Existing::new(report.driver())?;
    let (first, second, peer) = (Device::open()?, Device::open()?, Device::open()?);
    report.name(existing.port, "s");
    report.is("the first file", bind(&first, existing.port), Ok(0));
    let theirs = existing.peer(&peer)?;
    peer.settled().ok();
    peer.notify(theirs).ok();
    let got = first.next(8)?;
    report.is("its event", report.named(&got), vec!["s".to_owned()]);
    report.is("the second file", bind(&second, existing.port), Ok(0));
    report.is("the first lets go", first.unbind(existing.port), Ok(0));
    for _ in 0..2 {
        peer.notify(theirs).ok();
        let got = second.next(8)?;
        report.is("an event", report.named(&got), vec!["s".to_owned()]);
        second.write(&[existing.port]).ok();
    }
    Ok(())
}

fn ports_of_the_kernel(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    report.is("port 0", bind(&file, 0), Err(Errno::EBUSY));
    // The kernel's first ports: its timer, and the signals between its CPUs.
    let last = if report.driver() == Driver::Simulated { 1 } else { 7 };
    for port in 1..=last {
        report.is(&format!("port {port}"), bind(&file, port), Err(Errno::EBUSY));
    }
    Ok(())
}

fn ports_of_others(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let port = other.unbound().unwrap_or_default();
    report.is("another file's port", bind(&file, port), Err(Errno::EBUSY));
    report.is("it is still that file's", other.unbind(port), Ok(0));
    report.is("closed by now", bind(&file, port), Err(Errno::EINVAL));
    Ok(())
}

fn no_ports(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    for port in [900, 16383, 99_999, 131_071, 131_072, 1 << 20, u32::MAX - 1, u32::MAX] {
        report.is(&format!("port {port}"), bind(&file, port), Err(Errno::EINVAL));
    }
    Ok(())
}

/// A channel that is closed by a hypercall while it is bound.
fn closed_elsewhere(report: &mut Report) -> Result<()> {
    if report.driver() == Driver::Simulated {
        return Ok(());
    }
    let privcmd = Privcmd::open()?;
    let (file, other) = (Device::open()?, Device::open()?);
    let port = file.unbound().unwrap_or_default();
    privcmd.close(port)?;
    report.is("notify", file.notify(port), Ok(0));
    report.is("write", file.write(&[port]), Ok(4));
    // Not unbind: Linux's own part below the driver insists on closing the port, and stops the machine if it cannot.
    // So the number is made valid again first.
    let again = privcmd.unbound()?;
    report.is("the number is given out again", again == port, true);
    report.is("bind of it elsewhere", bind(&other, again), Err(Errno::EBUSY));
    report.is("unbind", file.unbind(port), Ok(0));
    Ok(())
}

/// The driver and the kernel's own channels still work.
fn afterwards(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    other.notify(theirs).ok();
    let got = file.next(8)?;
    report.is("an event", report.named(&got), vec!["a".to_owned()]);
    // Sleeping needs the timer, and changing the CPU the signals between CPUs.
    for cpu in 0..std::thread::available_parallelism()?.get() {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    report.is("the CPUs work", true, true);
    Ok(())
}
