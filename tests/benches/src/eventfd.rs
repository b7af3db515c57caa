// SPDX-License-Identifier: MIT OR Apache-2.0
//! What two processes without event channels would use: an eventfd each way.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::spread::Bursts;
use crate::sys;

/// Ends the echoing child: its eventfd counts up to this only once.
const END: u64 = 1 << 32;

/// Times a round trip, in which both processes sleep and are woken once: nanoseconds, one for each burst.
///
/// # Errors
/// The kernel has no room for two eventfds and a process.
pub fn time(bursts: Bursts) -> io::Result<Vec<f64>> {
    let (there, back) = (new()?, new()?);
    let Some(child) = sys::fork()? else {
        let status = echo(&there, &back).is_err().into();
        sys::exit(status);
    };
    let times = bursts.time(|| add(&there, 1).and_then(|()| take(&back)));
    add(&there, END)?;
    waitpid(Pid::from_raw(child), WaitOptions::empty())?;
    Ok(times)
}

fn new() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}

fn echo(there: &OwnedFd, back: &OwnedFd) -> io::Result<()> {
    while take(there)? < END {
        add(back, 1)?;
    }
    Ok(())
}

fn add(fd: &OwnedFd, value: u64) -> io::Result<()> {
    rustix::io::write(fd, &value.to_ne_bytes())?;
    Ok(())
}

fn take(fd: &OwnedFd) -> io::Result<u64> {
    let mut value = [0; 8];
    rustix::io::read(fd, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}
