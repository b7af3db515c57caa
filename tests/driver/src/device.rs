// SPDX-License-Identifier: MIT OR Apache-2.0
//! One open of the device, with its calls.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use evtchn_abi::ioctl::{DEVICE_PATH, Ioctl};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys::{self, Answer};

/// How long an event may take that must come. Emulated machines are slow, and busy hosts make them slower.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait for an event that must not come.
pub const SETTLE: Duration = Duration::from_millis(30);
/// The domain itself, as a remote domain.
pub const SELF: u32 = 0x7ff0;

/// An open file.
pub struct Device(File);

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device {
    /// Opens the device for reading and writing; reads wait.
    pub fn blocking() -> Result<Self> {
        Self::with(true, true, 0)
    }

    /// Opens the device for reading and writing; reads do not wait.
    pub fn open() -> Result<Self> {
        Self::with(true, true, libc::O_NONBLOCK)
    }

    /// Opens the device with these modes and flags.
    pub fn with(read: bool, write: bool, flags: i32) -> Result<Self> {
        let file = OpenOptions::new().read(read).write(write).custom_flags(flags).open(DEVICE_PATH);
        file.map(Self).context(DEVICE_PATH)
    }

    /// Another descriptor of the same open file.
    pub fn duplicate(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// An ioctl with these words as its argument.
    pub fn ioctl(&self, command: Ioctl, argument: &[u32]) -> Answer<u32> {
        sys::ioctl(self.as_fd(), command.0, argument.as_ptr() as usize)
    }

    /// An ioctl whose argument cannot be read.
    pub fn ioctl_nowhere(&self, command: Ioctl) -> Answer<u32> {
        sys::ioctl(self.as_fd(), command.0, sys::NOWHERE)
    }

    /// A new port that this domain may connect to.
    pub fn unbound(&self) -> Answer<u32> {
        self.ioctl(Ioctl::BIND_UNBOUND_PORT, &[SELF])
    }

    /// A new port connected to one of this domain.
    pub fn connect(&self, remote: u32) -> Answer<u32> {
        self.ioctl(Ioctl::BIND_INTERDOMAIN, &[SELF, remote])
    }

    /// Gives a port up.
    pub fn unbind(&self, port: u32) -> Answer<u32> {
        self.ioctl(Ioctl::UNBIND, &[port])
    }

    /// Signals the other end of a port.
    pub fn notify(&self, port: u32) -> Answer<u32> {
        self.ioctl(Ioctl::NOTIFY, &[port])
    }

    /// Empties the ring.
    pub fn reset(&self) -> Answer<u32> {
        self.ioctl(Ioctl::RESET, &[])
    }

    /// Reads with a buffer of so many bytes. The ports, and bytes that are no whole port count as none.
    pub fn read(&self, length: usize) -> Answer<Vec<u32>> {
        let mut buffer = vec![0_u32; length.div_ceil(4).max(1)];
        let bytes = sys::read(self.as_fd(), buffer.as_mut_ptr() as usize, length)?;
        buffer.truncate(bytes as usize / 4);
        Ok(buffer)
    }

    /// Enables ports.
    pub fn write(&self, ports: &[u32]) -> Answer<u32> {
        sys::write(self.as_fd(), ports.as_ptr() as usize, size_of_val(ports))
    }

    /// What poll answers at this moment.
    pub fn mask(&self) -> Result<u16> {
        self.wait(Duration::ZERO)
    }

    fn wait(&self, time: Duration) -> Result<u16> {
        let every = PollFlags::IN | PollFlags::RDNORM;
        let writable = PollFlags::OUT | PollFlags::WRNORM;
        let interest = if time.is_zero() { every | writable } else { every };
        let mut fds = [PollFd::new(self, interest)];
        poll(&mut fds, Some(&Timespec::try_from(time)?))?;
        Ok(fds[0].revents().bits())
    }

    /// Waits until there is something to read.
    pub fn ready(&self) -> Result<()> {
        let mask = self.wait(PATIENCE)?;
        anyhow::ensure!(mask != 0, "no event came");
        Ok(())
    }

    /// Waits until there is something to read, then reads so many ports at most.
    pub fn next(&self, count: usize) -> Result<Vec<u32>> {
        self.wait(PATIENCE)?;
        self.read(count * 4).map_err(|errno| anyhow!("read: {errno}"))
    }

    /// Waits until so many ports came, and answers with them.
    pub fn expect(&self, count: usize) -> Result<Vec<u32>> {
        let mut ports = Vec::new();
        while ports.len() < count {
            ports.extend(
                self.next(count - ports.len()).with_context(|| format!("{ports:?} came, and no more"))?,
            );
        }
        Ok(ports)
    }

    /// Waits a moment and reads what there is: nothing, if no event came.
    pub fn settled(&self) -> Answer<Vec<u32>> {
        std::thread::sleep(SETTLE);
        self.read(4096)
    }

    /// A port of this file connected to one of `other`, which has no event left: (ours, theirs).
    pub fn pair(&self, other: &Self) -> Result<(u32, u32)> {
        let fail = |errno| anyhow!("a pair of ports: {errno}");
        let theirs = other.unbound().map_err(fail)?;
        let ours = self.connect(theirs).map_err(fail)?;
        self.take(ours)?;
        Ok((ours, theirs))
    }

    /// Waits for exactly this port, and enables it.
    pub fn take(&self, port: u32) -> Result<()> {
        let got = self.expect(1)?;
        anyhow::ensure!(got == [port], "port {port} was expected, {got:?} came");
        self.write(&[port]).map_err(|errno| anyhow!("write: {errno}")).map(drop)
    }
}
