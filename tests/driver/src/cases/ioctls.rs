// SPDX-License-Identifier: MIT OR Apache-2.0
//! Commands, their checks and the order of these.

use std::os::fd::AsFd;

use anyhow::Result;
use evtchn_abi::Errno;
use evtchn_abi::ioctl::Ioctl;

use super::Case;
use crate::device::{Device, SELF};
use crate::report::{Driver, Report};
use crate::sys;

pub const CASES: &[Case] = &[
    ("ioctls.unknown_commands", unknown),
    ("ioctls.of_32_bit_programs", of_32_bit_programs),
    ("ioctls.arguments_that_cannot_be_read", faults),
    ("ioctls.unbind_and_notify_of_other_ports", other_ports),
    ("ioctls.virqs", virqs),
    ("ioctls.remote_domains", remote_domains),
    ("ioctls.what_cannot_be_connected", not_connectable),
    ("ioctls.a_port_can_be_used_again_after_its_peer_left", peer_left),
    ("ioctls.a_failed_set_up_closes_the_channel_once", failed_set_up),
];

fn unknown(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    let words = [
        ("TCGETS", 0x5401),
        ("FIONREAD", 0x541b),
        ("RESET with a size", 0x4_4505),
        ("NOTIFY without a size", 0x4504),
        ("NOTIFY with a direction", 0x4004_4504),
        ("number 8", 0x4_4508),
        ("FreeBSD's BIND_VIRQ", 0xc008_4504),
    ];
    for (name, word) in words {
        report.is(name, file.ioctl(Ioctl(word), &[0; 4]), Err(Errno::ENOSYS));
    }
    let blocking = Device::blocking()?;
    report.is("FIONBIO", blocking.ioctl(Ioctl(libc::FIONBIO as u32), &[1]), Ok(0));
    report.is("read after FIONBIO", blocking.read(4), Err(Errno::EAGAIN));
    Ok(())
}

fn of_32_bit_programs(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    for (name, word) in [("RESET", Ioctl::RESET.0), ("NOTIFY", Ioctl::NOTIFY.0), ("an unknown one", 0x1234)] {
        if let Some(answer) = sys::ioctl_32bit(file.as_fd(), word, 0) {
            report.is(name, answer, -i32::from(Errno::ENOTTY.0));
        }
    }
    Ok(())
}

fn faults(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    for command in Ioctl::ALL {
        let expected = if *command == Ioctl::RESET { Ok(0) } else { Err(Errno::EFAULT) };
        report.is(&command.to_string(), file.ioctl_nowhere(*command), expected);
    }
    Ok(())
}

fn other_ports(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let port = other.unbound().unwrap_or_default();
    report.is("unbind of another file's", file.unbind(port), Err(Errno::ENOTCONN));
    report.is("notify of another file's", file.notify(port), Err(Errno::ENOTCONN));
    report.is("unbind of 0", file.unbind(0), Err(Errno::ENOTCONN));
    report.is("unbind of 1023", file.unbind(1023), Err(Errno::ENOTCONN));
    report.is("unbind of 131072", file.unbind(131_072), Err(Errno::EINVAL));
    report.is("unbind of the largest number", file.unbind(u32::MAX), Err(Errno::EINVAL));
    report.is("notify of the largest number", file.notify(u32::MAX), Err(Errno::ENOTCONN));
    report.is("unbind", other.unbind(port), Ok(0));
    report.is("unbind once more", other.unbind(port), Err(Errno::ENOTCONN));
    report.is("notify afterwards", other.notify(port), Err(Errno::ENOTCONN));
    Ok(())
}

fn virqs(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let bind = |file: &Device, virq: u32| file.ioctl(Ioctl::BIND_VIRQ, &[virq]);
    report.is("the kernel's timer", bind(&file, 0), Err(Errno::EEXIST));
    for virq in [24, 25, u32::MAX] {
        report.is(&format!("number {virq}"), bind(&file, virq), Err(Errno::EINVAL));
    }
    report.is("TBUF", bind(&file, 4).is_ok(), true);
    report.is("TBUF again", bind(&file, 4), Err(Errno::EEXIST));
    report.is("TBUF in another file", bind(&other, 4), Err(Errno::EEXIST));
    drop(file);
    report.is("TBUF after the first file's end", bind(&other, 4).is_ok(), true);
    Ok(())
}

fn remote_domains(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    for domain in [0, 1, 54321, SELF, 0x7ff1, 0x7ff4, 0x1_7ff0] {
        let bound = file.ioctl(Ioctl::BIND_UNBOUND_PORT, &[domain]);
        report.is(&format!("a port for domain {domain:#x}"), bound.is_ok(), true);
    }
    Ok(())
}

fn not_connectable(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    let stranger = file.ioctl(Ioctl::BIND_UNBOUND_PORT, &[54321]).unwrap_or_default();
    let port = file.unbound().unwrap_or_default();
    report.is("port 0", file.connect(0), Err(Errno::EINVAL));
    report.is("a number out of range", file.connect(100_000), Err(Errno::EINVAL));
    report.is("a port for another domain", file.connect(stranger), Err(Errno::EINVAL));
    report.is(
        "a domain that is not there",
        file.ioctl(Ioctl::BIND_INTERDOMAIN, &[999, port]),
        Err(Errno::ESRCH),
    );
    report.is("a port that waits", file.connect(port).is_ok(), true);
    report.is("the same port, connected by now", file.connect(port), Err(Errno::EINVAL));
    let again = file.unbound().unwrap_or_default();
    let cut = file.ioctl(Ioctl::BIND_INTERDOMAIN, &[0x1_0000 | SELF, again]);
    report.is("a domain whose upper bits are cut off", cut.is_ok(), true);
    Ok(())
}

fn peer_left(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    report.is("the peer's end", other.unbind(theirs), Ok(0));
    report.is("notify without a peer", file.notify(port), Ok(0));
    let theirs = other.connect(port);
    report.is("connected again", theirs.is_ok(), true);
    other.take(theirs.unwrap_or_default())?;
    other.notify(theirs.unwrap_or_default()).ok();
    let got = file.next(8)?;
    report.is("the event", report.named(&got), vec!["a".to_owned()]);
    Ok(())
}

/// Virtual interrupts 22 and 23 of the simulation cannot be set up: the channel is open afterwards, or closed.
fn failed_set_up(report: &mut Report) -> Result<()> {
    if report.driver() != Driver::Simulated {
        return Ok(());
    }
    let file = Device::open()?;
    for virq in [22, 22, 23, 23] {
        report.is(&format!("number {virq}"), file.ioctl(Ioctl::BIND_VIRQ, &[virq]), Err(Errno::ENOMEM));
    }
    report.is("the file after that", file.unbound().is_ok(), true);
    Ok(())
}
