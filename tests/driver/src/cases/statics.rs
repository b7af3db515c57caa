// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ports that exist already. What would harm a machine with Linux's own driver is in `hazards.rs`.

use anyhow::{Result, anyhow};
use evtchn_abi::Errno;
use evtchn_abi::ioctl::Ioctl;

use super::Case;
use crate::device::Device;
use crate::privcmd::Privcmd;
use crate::report::{Driver, Report};

pub const CASES: &[Case] = &[
    ("statics.one_user", one_user),
    ("statics.events", events),
    ("statics.on_a_restricted_file", restricted),
];

/// A port that exists and that nobody uses.
pub struct Existing {
    privcmd: Option<Privcmd>,
    /// Its number.
    pub port: u32,
}

impl Existing {
    /// Makes one, or takes the simulation's.
    pub fn new(driver: Driver) -> Result<Self> {
        if driver == Driver::Simulated {
            return Ok(Self { privcmd: None, port: 2 });
        }
        let privcmd = Privcmd::open()?;
        let port = privcmd.unbound()?;
        Ok(Self { privcmd: Some(privcmd), port })
    }

    /// The other end, bound by `file`.
    pub fn peer(&self, file: &Device) -> Result<u32> {
        // The simulation's is connected to port 3, which exists as well.
        let peer = if self.privcmd.is_none() { bind(file, 3).map(|_| 3) } else { file.connect(self.port) };
        peer.map_err(|errno| anyhow!("the other end: {errno}"))
    }

    /// Whether it is still open, as far as that can be known.
    pub fn is_open(&self) -> Result<bool> {
        self.privcmd.as_ref().map_or(Ok(true), |privcmd| privcmd.is_open(self.port))
    }
}

impl Drop for Existing {
    fn drop(&mut self) {
        if let Some(privcmd) = &self.privcmd {
            let _ = privcmd.close(self.port);
        }
    }
}

/// BIND_STATIC.
pub fn bind(file: &Device, port: u32) -> Result<u32, Errno> {
    file.ioctl(Ioctl::BIND_STATIC, &[port])
}

fn one_user(report: &mut Report) -> Result<()> {
    let existing = Existing::new(report.driver())?;
    let file = Device::open()?;
    report.is("bind", bind(&file, existing.port), Ok(0));
    report.is("bind in the same file", bind(&file, existing.port), Err(Errno::EISCONN));
    report.is("unbind", file.unbind(existing.port), Ok(0));
    report.is("it is open", existing.is_open()?, true);
    report.is("bind again", bind(&file, existing.port), Ok(0));
    drop(file);
    report.is("it is open after the file's end", existing.is_open()?, true);
    let own = Device::open()?;
    let port = own.unbound().unwrap_or_default();
    report.is("a port of this file", bind(&own, port), Err(Errno::EISCONN));
    Ok(())
}

fn events(report: &mut Report) -> Result<()> {
    let existing = Existing::new(report.driver())?;
    let (file, other) = (Device::open()?, Device::open()?);
    report.name(existing.port, "s");
    report.is("bind", bind(&file, existing.port), Ok(0));
    let peer = existing.peer(&other)?;
    other.settled().ok();
    for _ in 0..3 {
        other.notify(peer).ok();
        let got = file.next(8)?;
        report.is("an event", report.named(&got), vec!["s".to_owned()]);
        report.is("enabled", file.write(&[existing.port]), Ok(4));
    }
    Ok(())
}

fn restricted(report: &mut Report) -> Result<()> {
    let existing = Existing::new(report.driver())?;
    let file = Device::open()?;
    report.is("restricted", file.ioctl(Ioctl::RESTRICT_DOMID, &[7]), Ok(0));
    report.differs("bind", bind(&file, existing.port), Ok(0), Err(Errno::EACCES));
    report.differs(
        "bind, nothing to read",
        file.ioctl_nowhere(Ioctl::BIND_STATIC),
        Err(Errno::EFAULT),
        Err(Errno::EACCES),
    );
    Ok(())
}
