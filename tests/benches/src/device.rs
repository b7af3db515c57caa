// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/dev/xen/evtchn` as a program uses it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use evtchn_abi::DomId;
use evtchn_abi::ioctl::Ioctl;
use rustix::fs::{Mode, OFlags};

use crate::sys;

const PATH: &str = "/dev/xen/evtchn";

/// An open of the device.
#[derive(Debug)]
pub struct Device(OwnedFd);

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device {
    /// Opens the device; `flags` besides `O_RDWR`.
    ///
    /// # Errors
    /// There is no such device, or it may not be opened.
    pub fn open(flags: OFlags) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | flags;
        Ok(Self(rustix::fs::open(PATH, flags, Mode::empty())?))
    }

    /// Makes a port that a domain may connect to.
    ///
    /// # Errors
    /// Whatever the driver answers.
    pub fn bind_unbound(&self, remote: DomId) -> io::Result<u32> {
        let argument = [remote.0.into()];
        sys::ioctl(self.as_fd(), Ioctl::BIND_UNBOUND_PORT.0, &argument)
    }

    /// Connects to a port of a domain.
    ///
    /// # Errors
    /// Whatever the driver answers.
    pub fn bind_interdomain(&self, remote: DomId, port: u32) -> io::Result<u32> {
        let argument = [remote.0.into(), port];
        sys::ioctl(self.as_fd(), Ioctl::BIND_INTERDOMAIN.0, &argument)
    }

    /// Sends an event.
    ///
    /// # Errors
    /// ENOTCONN if the port is not bound here.
    pub fn notify(&self, port: u32) -> io::Result<()> {
        sys::ioctl(self.as_fd(), Ioctl::NOTIFY.0, &[port]).map(drop)
    }

    /// Reads one port.
    ///
    /// # Errors
    /// EAGAIN if nothing is there and the device was opened so.
    pub fn read(&self) -> rustix::io::Result<u32> {
        let mut port = [0; 4];
        rustix::io::read(self, &mut port)?;
        Ok(u32::from_ne_bytes(port))
    }

    /// Enables a port again.
    ///
    /// # Errors
    /// Whatever the driver answers.
    pub fn write(&self, port: u32) -> rustix::io::Result<()> {
        rustix::io::write(self, &port.to_ne_bytes()).map(drop)
    }
}
