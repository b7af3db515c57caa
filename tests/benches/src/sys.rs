// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls that have no safe wrapper elsewhere, each wrapped once.

// UNSAFETY: raw system calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

pub use libc::seccomp_notif as Notification;
pub use libc::sock_filter as Instruction;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `ioctl` with a pointer to these words. The answer is the call's result.
///
/// # Errors
/// Whatever the driver answers.
pub fn ioctl(fd: BorrowedFd<'_>, command: u32, argument: &[u32]) -> io::Result<u32> {
    // SAFETY: the commands used here read at most the words that are given, and write nothing.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), command.into(), argument.as_ptr()) };
    check(result.into()).map(|value| value as u32)
}

/// `select` on one descriptor for reading, without waiting: whether it is readable.
///
/// # Errors
/// The descriptor is too high for `select`.
pub fn select(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let number = fd.as_raw_fd();
    if number as usize >= libc::FD_SETSIZE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: an all-zero set is an empty one.
    let mut set: libc::fd_set = unsafe { std::mem::zeroed() };
    // SAFETY: the number is below FD_SETSIZE.
    unsafe { libc::FD_SET(number, &raw mut set) };
    let mut zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let none = std::ptr::null_mut();
    // SAFETY: the set and the time live over the call; the kernel looks at `number + 1` bits.
    let ready = unsafe { libc::select(number + 1, &raw mut set, none, none, &raw mut zero) };
    Ok(check(ready.into())? > 0)
}

/// The parent's process id, asked of the kernel each time.
#[must_use]
pub fn getppid() -> i32 {
    // SAFETY: no preconditions.
    unsafe { libc::getppid() }
}

/// Forks this process. `Ok(None)` in the child, which may use no lock that another thread could have held.
///
/// # Errors
/// The kernel has no room.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the benches have a single thread. In tests, which have more, the children use pipes and the allocator only, which the C library
    // keeps usable.
    let pid = check(unsafe { libc::fork() }.into())? as i32;
    Ok((pid != 0).then_some(pid))
}

/// Ends the process at once.
pub fn exit(status: i32) -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::_exit(status) }
}

/// Promises to gain no privileges, and installs a seccomp filter; the listener's number.
///
/// # Errors
/// The kernel takes no filter with a listener, or there is one already.
pub fn install_filter(program: &[Instruction]) -> io::Result<RawFd> {
    // SAFETY: takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    let operation = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: `program` points at `len` instructions that live over the call; the kernel copies them.
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program) };
    check(fd).map(|fd| fd as RawFd)
}

/// Waits for a stopped call.
///
/// # Errors
/// The stopped call has gone away.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Notification> {
    // SAFETY: an all-zero notification is valid, and the kernel asks for zeroes.
    let mut notification: Notification = unsafe { std::mem::zeroed() };
    let to = &raw mut notification;
    // SAFETY: the kernel writes one `seccomp_notif` at the pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, to) };
    check(result.into()).map(|_| notification)
}

/// Answers a stopped call with 0.
///
/// # Errors
/// The stopped call has gone away.
pub fn respond(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let response = libc::seccomp_notif_resp { id, val: 0, error: 0, flags: 0 };
    let from = &raw const response;
    // SAFETY: the kernel reads one `seccomp_notif_resp` at the pointer.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, from) };
    check(result.into()).map(drop)
}

/// Whether a stopped call still waits.
#[must_use]
pub fn is_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    let (fd, command) = (listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID);
    // SAFETY: the kernel reads one `u64` at the pointer.
    unsafe { libc::ioctl(fd, command, &raw const id) == 0 }
}

/// Reads a word of another process's memory.
///
/// # Errors
/// The process has ended, or has nothing at the address.
pub fn read_word(process: i32, address: u64) -> io::Result<u32> {
    let mut word = 0u32;
    let local = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 4 };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: 4 };
    let (local, remote) = (&raw const local, &raw const remote);
    // SAFETY: the local vector is one exclusive word; the remote one is checked by the kernel.
    let count = unsafe { libc::process_vm_readv(process, local, 1, remote, 1, 0) };
    check(count as libc::c_long).map(|_| word)
}

/// Whether two descriptors of two processes refer to the same open file (`kcmp`).
///
/// # Errors
/// The kernel has no `kcmp`, or the processes may not be looked at.
pub fn same_file(processes: [i32; 2], descriptors: [RawFd; 2]) -> io::Result<bool> {
    const KCMP_FILE: libc::c_int = 0;
    let ([one, other], [fd, other_fd]) = (processes, descriptors);
    // SAFETY: takes integers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, KCMP_FILE, fd, other_fd) };
    check(order).map(|order| order == 0)
}
