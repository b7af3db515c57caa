// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that gave their privileges up.

use anyhow::Result;
use evtchn_abi::Errno;
use evtchn_abi::ioctl::Ioctl;

use super::Case;
use crate::device::{Device, SELF};
use crate::report::Report;

pub const CASES: &[Case] = &[
    ("restriction.of_domains", of_domains),
    ("restriction.is_for_good", is_for_good),
    ("restriction.what_is_refused", refused),
    ("restriction.what_was_bound_stays", stays),
];

fn restrict(file: &Device, domain: u32) -> Result<u32, Errno> {
    file.ioctl(Ioctl::RESTRICT_DOMID, &[domain])
}

fn of_domains(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    for domain in [0, 0x7ff0, 0x7ff4, 0x7fff, 0x8000, 0xffff] {
        report.is(&format!("to {domain:#x}"), restrict(&file, domain), Err(Errno::EINVAL));
    }
    report.is("to a domain that is not there", restrict(&file, 4321), Ok(0));
    report.is("to the last possible one", restrict(&Device::open()?, 0x7fef), Ok(0));
    Ok(())
}

fn is_for_good(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    report.is("once", restrict(&file, 7), Ok(0));
    report.is("twice", restrict(&file, 7), Err(Errno::EACCES));
    report.is("twice, with nothing to read", file.ioctl_nowhere(Ioctl::RESTRICT_DOMID), Err(Errno::EACCES));
    report.is("to 0 after that", restrict(&file, 0), Err(Errno::EACCES));
    report.is("another file", restrict(&Device::open()?, 8), Ok(0));
    Ok(())
}

fn refused(report: &mut Report) -> Result<()> {
    let file = Device::open()?;
    let unbound = file.unbound().unwrap_or_default();
    restrict(&file, 7).ok();
    report.is("VIRQ", file.ioctl(Ioctl::BIND_VIRQ, &[4]), Err(Errno::EACCES));
    report.is("VIRQ, nothing to read", file.ioctl_nowhere(Ioctl::BIND_VIRQ), Err(Errno::EACCES));
    report.is("unbound port", file.ioctl(Ioctl::BIND_UNBOUND_PORT, &[7]), Err(Errno::EACCES));
    report.is(
        "unbound port, nothing to read",
        file.ioctl_nowhere(Ioctl::BIND_UNBOUND_PORT),
        Err(Errno::EACCES),
    );
    let connect = |domain: u32| file.ioctl(Ioctl::BIND_INTERDOMAIN, &[domain, unbound]);
    report.is("another domain", connect(SELF), Err(Errno::EACCES));
    report.is("another, with the permitted one in its lower bits", connect(0x1_0007), Err(Errno::EACCES));
    report.is("the permitted domain, which is not there", connect(7), Err(Errno::ESRCH));
    report.is("connect, nothing to read", file.ioctl_nowhere(Ioctl::BIND_INTERDOMAIN), Err(Errno::EFAULT));
    Ok(())
}

fn stays(report: &mut Report) -> Result<()> {
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    restrict(&file, 7).ok();
    other.notify(theirs).ok();
    let got = file.next(8)?;
    report.is("an event", report.named(&got), vec!["a".to_owned()]);
    report.is("write", file.write(&[port]), Ok(4));
    report.is("notify", file.notify(port), Ok(0));
    report.is("reset", file.reset(), Ok(0));
    report.is("unbind", file.unbind(port), Ok(0));
    Ok(())
}
