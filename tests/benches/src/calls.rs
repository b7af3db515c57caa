// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls that are timed in a program: those on the device, which only `evtchn run` has, and those that should cost what they cost
//! without it. The binary `probe` makes them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use evtchn_abi::DomId;
use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::device::Device;
use crate::spread::Bursts;
use crate::sys;

/// The times of each call by its name.
pub type Times = BTreeMap<String, Vec<f64>>;

/// The calls on the device, as [`all`] names them.
pub const ON_DEVICE: [&str; 4] =
    ["notify, peer pending", "notify, ENOTCONN", "write of one port", "read, EAGAIN"];

/// The calls that exist without the device too, as [`all`] names them.
pub const ANYWHERE: [&str; 7] = [
    "poll of the device",
    "select of the device",
    "epoll_wait of the device",
    "read of /dev/zero",
    "FIONREAD of a pipe",
    "getppid",
    "open and close of /dev/null",
];

/// Natively there is no device: then its stand-in gets a descriptor as high as one would have.
const STAND_IN: i32 = 768;
/// How many calls of the quick kind are made for one of the others.
const QUICK: usize = 20;
const NO_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Times every call that can be made here.
///
/// # Errors
/// A call did not do what it is timed for.
pub fn all(bursts: Bursts) -> io::Result<Times> {
    let mut timer = Timer { bursts, times: Times::new() };
    match Device::open(OFlags::NONBLOCK) {
        Ok(device) => {
            timer.on_device(&device)?;
            timer.waiting(device.as_fd())?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            timer.waiting(stand_in()?.as_fd())?;
        }
        Err(error) => return Err(error),
    }
    timer.elsewhere()?;
    Ok(timer.times)
}

/// A descriptor that is never readable and always writable: a pipe that is open for both.
fn stand_in() -> io::Result<OwnedFd> {
    let (reader, _writer) = rustix::pipe::pipe()?;
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let both = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::io::fcntl_dupfd_cloexec(&both, STAND_IN)?)
}

struct Timer {
    bursts: Bursts,
    times: Times,
}

impl Timer {
    fn time<R>(&mut self, name: &str, call: impl FnMut() -> R) {
        self.times.insert(name.into(), self.bursts.time(call));
    }

    fn time_quick<R>(&mut self, name: &str, call: impl FnMut() -> R) {
        let bursts = self.bursts.longer(QUICK);
        self.times.insert(name.into(), bursts.time(call));
    }

    /// The calls of [`ON_DEVICE`]; each is made once to see that it does what it is timed for.
    fn on_device(&mut self, device: &Device) -> io::Result<()> {
        let [pending, not_connected, write, read] = ON_DEVICE;
        let peers = Device::open(OFlags::empty())?;
        let far = peers.bind_unbound(DomId::SELF)?;
        let near = peers.bind_interdomain(DomId::SELF, far)?;
        // The first is taken and leaves the port disabled, the second stays pending.
        peers.notify(near)?;
        peers.notify(near)?;
        self.time(pending, || peers.notify(near));
        expect(device.notify(near).is_err_and(|e| e.kind() == ErrorKind::NotConnected), not_connected)?;
        self.time(not_connected, || device.notify(near));
        let enabled = device.bind_unbound(DomId::SELF)?;
        device.write(enabled)?;
        self.time(write, || device.write(enabled));
        expect(device.read() == Err(Errno::AGAIN), read)?;
        self.time(read, || device.read());
        Ok(())
    }

    /// The calls that ask a descriptor whether it is readable, which it is not.
    fn waiting(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let [poll, select, epoll_wait, ..] = ANYWHERE;
        let ask = || {
            let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&NO_WAIT))
        };
        expect(ask() == Ok(0), poll)?;
        self.time_quick(poll, ask);
        expect(!sys::select(fd)?, select)?;
        self.time_quick(select, || sys::select(fd));
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&set, fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        let mut events = Vec::with_capacity(1);
        let mut wait = || {
            let room = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&set, room, Some(&NO_WAIT))
        };
        expect(wait() == Ok(0), epoll_wait)?;
        self.time_quick(epoll_wait, wait);
        Ok(())
    }

    /// Calls that have nothing to do with the device.
    fn elsewhere(&mut self) -> io::Result<()> {
        let [_, _, _, read, ioctl, getppid, open] = ANYWHERE;
        let zero = rustix::fs::open("/dev/zero", OFlags::RDONLY, Mode::empty())?;
        self.time_quick(read, || rustix::io::read(&zero, &mut [0; 4]));
        let (pipe, _writer) = rustix::pipe::pipe()?;
        self.time_quick(ioctl, || rustix::io::ioctl_fionread(&pipe));
        self.time_quick(getppid, sys::getppid);
        let null = || rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty());
        self.time(open, null);
        Ok(())
    }
}

fn expect(holds: bool, what: &str) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(format!("{what}: not the expected answer"))) }
}
