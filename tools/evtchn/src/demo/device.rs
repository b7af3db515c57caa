// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plain user of `/dev/xen/evtchn`: open, ioctl, read, write and poll, and no machinery of this project.

// UNSAFETY: ioctls; the result is the call's own, which no safe wrapper returns.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Context;
use evtchn_abi::ioctl::{BindInterdomain, BindUnboundPort, DEVICE_PATH, Ioctl as Command, Notify};
use evtchn_abi::{CStruct, Port};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

/// An open device.
pub struct Device(OwnedFd);

impl Device {
    /// Opens the device.
    pub fn open() -> anyhow::Result<Self> {
        rustix::fs::open(DEVICE_PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .with_context(|| format!("open {DEVICE_PATH}"))
    }

    /// Makes a port that the domain `remote` may bind to.
    pub fn bind_unbound_port(&self, remote: u32) -> anyhow::Result<Port> {
        let argument = BindUnboundPort { remote_domain: remote };
        self.port(Command::BIND_UNBOUND_PORT, argument)
    }

    /// Makes a port bound to a port of the domain `remote`. It has an event pending at first.
    pub fn bind_interdomain(&self, remote: u32, remote_port: Port) -> anyhow::Result<Port> {
        let argument = BindInterdomain { remote_domain: remote, remote_port };
        self.port(Command::BIND_INTERDOMAIN, argument)
    }

    /// Signals the peer of `port`.
    pub fn notify(&self, port: Port) -> anyhow::Result<()> {
        self.ioctl(Command::NOTIFY, Notify { port }).map(drop)
    }

    /// Waits until a port can be read, `patience` at most. Returns whether one can.
    pub fn wait(&self, patience: Duration) -> anyhow::Result<bool> {
        let timeout = Timespec::try_from(patience)?;
        let mut sources = [PollFd::new(&self.0, PollFlags::IN)];
        let ready = retry_on_intr(|| poll(&mut sources, Some(&timeout))).context("poll")?;
        Ok(ready > 0)
    }

    /// Reads one port. It stays masked until it is written.
    pub fn read(&self) -> anyhow::Result<Port> {
        let mut bytes = [0; 4];
        let count = retry_on_intr(|| rustix::io::read(&self.0, &mut bytes)).context("read")?;
        anyhow::ensure!(count == bytes.len(), "a read returned {count} bytes of a port");
        Ok(Port(u32::from_ne_bytes(bytes)))
    }

    /// Unmasks a port.
    pub fn unmask(&self, port: Port) -> anyhow::Result<()> {
        rustix::io::write(&self.0, &port.0.to_ne_bytes()).map(drop).context("write")
    }

    fn port(&self, command: Command, argument: impl CStruct) -> anyhow::Result<Port> {
        let port = self.ioctl(command, argument)?;
        Ok(Port(port.cast_unsigned()))
    }

    fn ioctl<S: CStruct>(&self, command: Command, argument: S) -> anyhow::Result<i32> {
        let call = Call { command, argument: argument.to_bytes() };
        // SAFETY: the argument has the size that the command word carries, and the driver only reads it.
        unsafe { rustix::ioctl::ioctl(&self.0, call) }
            .map_err(io::Error::from)
            .with_context(|| format!("{}{command}", Command::C_PREFIX))
    }
}

/// A command with its argument, whose result is what the call returns.
struct Call<B> {
    command: Command,
    argument: B,
}

// SAFETY: the pointer is to the argument, and the output is the call's result.
unsafe impl<B> Ioctl for Call<B> {
    type Output = i32;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        self.command.0
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.argument).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(output)
    }
}
