// SPDX-License-Identifier: MIT OR Apache-2.0
//! Other drivers that hold a port: "send an event when this page goes" (gntalloc).

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};
use evtchn_abi::Errno;

use super::Case;
use crate::device::{Device, SETTLE};
use crate::privcmd::Privcmd;
use crate::report::{Driver, Report};
use crate::sys::{self, Answer};

pub const CASES: &[Case] = &[("holders.gntalloc_keeps_a_port_and_sends_at_the_end", gntalloc)];

/// Allocates a page to share (`IOCTL_GNTALLOC_ALLOC_GREF`, one page).
const ALLOCATE: u32 = 0x0018_4705;
/// Says what is to happen when the page goes (`IOCTL_GNTALLOC_SET_UNMAP_NOTIFY`).
const SET_NOTIFY: u32 = 0x0010_4707;
/// An event is to be sent (`UNMAP_NOTIFY_SEND_EVENT`).
const SEND_EVENT: u32 = 2;

/// A shared page of domain 0, that is, of nobody.
struct Page {
    device: File,
    index: u64,
}

impl Page {
    fn allocate() -> Result<Self> {
        let path = "/dev/xen/gntalloc";
        let device = File::options().read(true).write(true).open(path).context(path)?;
        // Domain 0 and no flags, one page; out: index, reference.
        let mut argument = [0_u32, 1, 0, 0, 0, 0];
        sys::ioctl_mut(device.as_fd(), ALLOCATE, &mut argument)
            .map_err(|errno| anyhow!("{path}: {errno}"))?;
        Ok(Self { device, index: u64::from(argument[2]) | u64::from(argument[3]) << 32 })
    }

    /// An event on `port` when the page goes.
    fn notify_at_end(&self, port: u32) -> Answer<u32> {
        let mut argument = [self.index as u32, (self.index >> 32) as u32, SEND_EVENT, port];
        sys::ioctl_mut(self.device.as_fd(), SET_NOTIFY, &mut argument)
    }
}

fn gntalloc(report: &mut Report) -> Result<()> {
    if report.driver() == Driver::Simulated {
        return Ok(());
    }
    let (privcmd, page) = (Privcmd::open()?, Page::allocate()?);
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    report.name(port, "a");
    report.is("a port of the kernel", page.notify_at_end(1), Err(Errno::EINVAL));
    report.is("a port that nobody has", page.notify_at_end(1000), Err(Errno::EINVAL));
    report.is("a port of ours", page.notify_at_end(theirs), Ok(0));
    drop(other);
    report.is("it is open after its file's end", privcmd.is_open(theirs)?, true);
    report.is("nothing came", file.settled(), Err(Errno::EAGAIN));
    drop(page);
    let got = file.next(8)?;
    report.is("an event at the page's end", report.named(&got), vec!["a".to_owned()]);
    std::thread::sleep(SETTLE);
    report.is("it is closed then", privcmd.is_open(theirs)?, false);
    Ok(())
}
