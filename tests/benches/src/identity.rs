// SPDX-License-Identifier: MIT OR Apache-2.0
//! What it costs to find out which file a descriptor of another process refers to.
//!
//! A descriptor's number says little: the program may have closed it and opened something else. A supervisor that has to be sure pays one
//! of these with every call, on top of the floor.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::spread::Bursts;
use crate::sys;

/// Nanoseconds of a check, one for each burst.
#[derive(Debug, Default)]
pub struct Times {
    /// Takes a copy of the descriptor, asks for its inode, and closes it.
    pub copy: Vec<f64>,
    /// Compares it with a descriptor of our own. Empty where the kernel has no `kcmp`.
    pub compare: Vec<f64>,
}

/// Times both ways on a descriptor of a child.
///
/// # Errors
/// The kernel lets no parent look at its child's descriptors.
pub fn time(bursts: Bursts) -> io::Result<Times> {
    let (mut end, keep) = io::pipe()?;
    let Some(child) = sys::fork()? else {
        drop(keep);
        // Until the parent has closed its end.
        let status = end.read(&mut [0]).is_err().into();
        sys::exit(status);
    };
    let pid = Pid::from_raw(child).ok_or(io::ErrorKind::InvalidInput)?;
    let times = measure(child, pid, end.as_fd(), bursts);
    drop(keep);
    rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
    times
}

fn measure(child: i32, pid: Pid, fd: BorrowedFd<'_>, bursts: Bursts) -> io::Result<Times> {
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let number = fd.as_raw_fd();
    let inode = rustix::fs::fstat(fd)?.st_ino;
    if inode_of(&handle, number)? != inode {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let copy = bursts.time(|| inode_of(&handle, number));
    let ids = [std::process::id() as i32, child];
    let compare = match sys::same_file(ids, [number; 2]) {
        Ok(true) => bursts.time(|| sys::same_file(ids, [number; 2])),
        _ => Vec::new(),
    };
    Ok(Times { copy, compare })
}

fn inode_of(handle: &OwnedFd, number: i32) -> io::Result<u64> {
    let copy = pidfd_getfd(handle, number, PidfdGetfdFlags::empty())?;
    Ok(rustix::fs::fstat(&copy)?.st_ino)
}
