// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/dev/xen/evtchn`.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use evtchn_abi::ioctl::{BindInterdomain, BindUnboundPort, DEVICE_PATH, Ioctl, Notify};
use evtchn_abi::{CStruct, Port};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

use crate::calls::call;

/// An event that has not come by then is lost. The machine is an emulated one, and may be stopped for a snapshot.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Device(OwnedFd);

impl Device {
    pub fn open() -> Result<Self> {
        let file = rustix::fs::open(DEVICE_PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        file.map(Self).with_context(|| format!("open {DEVICE_PATH}"))
    }

    pub fn bind_unbound_port(&self, remote: u16) -> Result<Port> {
        self.bind(Ioctl::BIND_UNBOUND_PORT, BindUnboundPort { remote_domain: remote.into() })
    }

    pub fn bind_interdomain(&self, remote: u16, remote_port: Port) -> Result<Port> {
        self.bind(Ioctl::BIND_INTERDOMAIN, BindInterdomain { remote_domain: remote.into(), remote_port })
    }

    fn bind(&self, number: Ioctl, argument: impl CStruct) -> Result<Port> {
        let port = call(&self.0, number.0, argument.to_bytes()).with_context(|| format!("{number}"))?;
        Ok(Port(port.cast_unsigned()))
    }

    pub fn notify(&self, port: Port) -> Result<()> {
        call(&self.0, Ioctl::NOTIFY.0, Notify { port }.to_bytes()).map(drop).context("notify")
    }

    /// Waits for an event, takes it, and lets the next one come.
    pub fn take(&self, patience: Duration) -> Result<Port> {
        let timeout = Timespec::try_from(patience)?;
        let mut sources = [PollFd::new(&self.0, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut sources, Some(&timeout))).context("poll")?;
        ensure!(ready > 0, "no event within {patience:?}");
        let mut bytes = [0; 4];
        let count = retry_on_intr(|| rustix::io::read(&self.0, &mut bytes)).context("read")?;
        ensure!(count == bytes.len(), "a read returned {count} bytes of a port");
        rustix::io::write(&self.0, &bytes).context("write")?;
        Ok(Port(u32::from_ne_bytes(bytes)))
    }
}
