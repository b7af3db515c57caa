// SPDX-License-Identifier: MIT OR Apache-2.0
//! The system calls that have no safe wrapper elsewhere, each wrapped once.
//!
//! Everything here is a thin, typed door: no policy, no state.

// UNSAFETY: raw system calls, and memory that another process writes.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::node::Facts;

/// What the kernel reports of a trapped call.
pub use libc::seccomp_notif as Notification;
/// One instruction of a classic BPF program.
pub use libc::sock_filter as Instruction;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn errno() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Installs a seccomp filter on the calling thread and returns its listener's number.
pub fn install_filter(program: &[Instruction], flags: libc::c_ulong) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points at `len` instructions that live over the call; the kernel copies them.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })?;
    // SAFETY: with NEW_LISTENER the call returns a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Forks the process, which must have a single thread. `Ok(None)` in the child.
pub fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the launcher has a single thread whenever it forks, so the child may run any code.
    let pid = unsafe { libc::fork() };
    match check(pid.into())? {
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// Ends the process at once, without running what would run at exit.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

/// `prctl(option, value)` for the options that take one integer.
pub fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options used take integers only.
    check(unsafe { libc::prctl(option, value, 0, 0, 0) }.into()).map(drop)
}

/// Asks that whoever waits for a notification runs on the processor of the caller (Linux 6.6), which then waits for the answer.
pub fn prefer_same_processor(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    /// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: takes integers only.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    if result < 0 { Err(errno()) } else { Ok(()) }
}

/// Takes the next notification off a listener that is readable. ENOENT if its call is gone by now.
pub fn receive(listener: BorrowedFd<'_>) -> Result<Notification, Errno> {
    // SAFETY: an all-zero notification is valid, and the kernel asks for zeroes.
    let mut notification: Notification = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `seccomp_notif` at the pointer.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification) };
    if result < 0 { Err(errno()) } else { Ok(notification) }
}

/// Repeats a call on a listener that was interrupted, as by a stop of this process.
fn uninterrupted(mut call: impl FnMut() -> libc::c_int) -> Result<u32, Errno> {
    loop {
        match u32::try_from(call()) {
            Ok(result) => return Ok(result),
            Err(_) => match errno() {
                Errno::INTR => {}
                error => return Err(error),
            },
        }
    }
}

/// Answers a notification.
pub fn respond(listener: BorrowedFd<'_>, response: &libc::seccomp_notif_resp) -> Result<(), Errno> {
    let (listener, response) = (listener.as_raw_fd(), std::ptr::from_ref(response));
    // SAFETY: the kernel reads one `seccomp_notif_resp` at the pointer.
    uninterrupted(|| unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, response) }).map(drop)
}

/// Whether the trapped call still waits.
pub fn is_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    let (listener, id) = (listener.as_raw_fd(), &raw const id);
    // SAFETY: the kernel reads one `u64` at the pointer.
    uninterrupted(|| unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ID_VALID, id) }).is_ok()
}

/// Puts a copy of `fd` into the trapped process and returns its number there.
///
/// `number` is the number it must get (what stands there is replaced), or `None` for the lowest free one.
///
/// The call is not answered with it in one step (`SECCOMP_ADDFD_FLAG_SEND`): if this process is interrupted by a signal then, the
/// program's call returns 0 and no descriptor is there.
pub fn add_fd(
    listener: BorrowedFd<'_>,
    id: u64,
    fd: BorrowedFd<'_>,
    number: Option<u32>,
    close_on_exec: bool,
) -> Result<u32, Errno> {
    let request = libc::seccomp_notif_addfd {
        id,
        flags: if number.is_some() { libc::SECCOMP_ADDFD_FLAG_SETFD as u32 } else { 0 },
        srcfd: fd.as_raw_fd() as u32,
        newfd: number.unwrap_or(0),
        newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
    };
    let (listener, request) = (listener.as_raw_fd(), &raw const request);
    // SAFETY: the kernel reads one `seccomp_notif_addfd` at the pointer.
    uninterrupted(|| unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ADDFD, request) })
}

/// Reads another process's memory: the bytes up to the first one that cannot be read.
pub fn read_memory(thread: i32, address: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: the local vector is the exclusive buffer; the remote one is checked by the kernel.
    let count = unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| errno())
}

/// Writes another process's memory, as far as it is writable there.
pub fn write_memory(thread: i32, address: u64, bytes: &[u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the kernel only reads the local vector; the remote one is checked by the kernel.
    let count = unsafe { libc::process_vm_writev(thread, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(count).map_err(|_| errno())
}

/// Opens a pidfd for a thread; before Linux 6.9 only thread group leaders have one (EINVAL).
pub fn pidfd_of_thread(thread: i32) -> Result<OwnedFd, Errno> {
    pidfd_open(thread, libc::O_EXCL as u32)
}

/// Opens a pidfd for a process.
pub fn pidfd_of_process(process: i32) -> Result<OwnedFd, Errno> {
    pidfd_open(process, 0)
}

fn pidfd_open(id: i32, flags: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, id, flags) };
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Takes a copy of a descriptor of another process.
pub fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: takes integers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    if fd < 0 {
        return Err(errno());
    }
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The bytes that a read of this pipe would find.
pub fn bytes_available(pipe: impl AsFd) -> Result<u64, Errno> {
    rustix::io::ioctl_fionread(pipe)
}

/// Signals of the launcher, as a descriptor; they must be blocked.
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = signal_set(signals);
    // SAFETY: `set` is initialised.
    let fd =
        check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) }.into())?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub signal: i32,
    /// Whether the kernel itself sent it, as it does for a key on the terminal, and not a process.
    pub by_kernel: bool,
}

/// Takes the next signal off a signal descriptor.
pub fn next_signal(fd: BorrowedFd<'_>) -> Option<Arrived> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    let count = rustix::io::read(fd, &mut info[..]).ok()?;
    // The number, an error and the code are the first fields.
    let (fields, _) = info.as_chunks().0.split_first_chunk::<3>()?;
    let [signal, _, code] = fields.map(i32::from_ne_bytes);
    (count == info.len()).then_some(Arrived { signal, by_kernel: code == libc::SI_KERNEL })
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: an all-zero set is a valid value to initialise.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a valid set.
    unsafe { libc::sigemptyset(&raw mut set) };
    for &signal in signals {
        // SAFETY: `set` is initialised; a bad number is refused with an error.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

/// Blocks signals and returns the mask that was in force.
pub fn block_signals(signals: &[i32]) -> libc::sigset_t {
    let set = signal_set(signals);
    let mut old = signal_set(&[]);
    // SAFETY: both sets are initialised.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut old) };
    old
}

/// Puts a signal mask in force.
pub fn set_signal_mask(mask: &libc::sigset_t) {
    // SAFETY: `mask` is an initialised set; no old mask is asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, std::ptr::from_ref(mask), std::ptr::null_mut()) };
}

/// Sets a signal's disposition to "ignore" or back to its default, and returns whether it was ignored.
pub fn ignore_signal(signal: i32, ignore: bool) -> bool {
    let action = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: no handler function is installed.
    unsafe { libc::signal(signal, action) == libc::SIG_IGN }
}

/// Sends a signal.
pub fn kill(process: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes integers only.
    check(unsafe { libc::kill(process, signal) }.into()).map(drop)
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It ended with this status.
    Exited(i32),
    /// It was killed by this signal.
    Killed(i32),
    /// It was stopped by this signal.
    Stopped(i32),
    /// It goes on.
    Continued,
}

/// The next change of any child, without waiting. `Err` when there is no child.
pub fn child_change() -> io::Result<Option<(i32, Change)>> {
    let mut status = 0;
    let flags = libc::WUNTRACED | libc::WCONTINUED | libc::WNOHANG;
    // SAFETY: the kernel writes one `int` at the pointer.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, flags) }.into())? as i32;
    Ok((pid != 0).then(|| (pid, decode_status(status))))
}

fn decode_status(status: i32) -> Change {
    if libc::WIFSTOPPED(status) {
        Change::Stopped(libc::WSTOPSIG(status))
    } else if libc::WIFCONTINUED(status) {
        Change::Continued
    } else if libc::WIFSIGNALED(status) {
        Change::Killed(libc::WTERMSIG(status))
    } else {
        Change::Exited(libc::WEXITSTATUS(status))
    }
}

/// Promises the kernel that neither this thread nor what it executes gains privileges.
pub fn prctl_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Makes this process the one that orphaned descendants go to.
pub fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Executes a program, looked for in `PATH`; returns only the reason why it could not.
pub fn execvp(arguments: &[std::ffi::CString]) -> io::Error {
    let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    let Some(&program) = pointers.first() else { return io::ErrorKind::InvalidInput.into() };
    pointers.push(std::ptr::null());
    // SAFETY: the strings are terminated, the list ends with a null pointer, both live over the call.
    unsafe { libc::execvp(program, pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Dies as a child died: by the same signal, with its default action and without a core of our own.
pub fn die_of(signal: i32) -> ! {
    let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `no_core` is initialised.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core) };
    ignore_signal(signal, false);
    set_signal_mask(&signal_set(&[]));
    // SAFETY: takes an integer only.
    unsafe { libc::raise(signal) };
    exit_now(128 + signal)
}

/// The bytes that a `stat` call writes.
pub fn stat_bytes(facts: &Facts, user: u32, group: u32) -> [u8; size_of::<libc::stat>()] {
    // SAFETY: an all-zero `stat` is a valid value to fill in.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let (major, minor) = facts.device;
    stat.st_mode = facts.mode;
    stat.st_nlink = 1;
    stat.st_ino = facts.inode;
    stat.st_uid = user;
    stat.st_gid = group;
    stat.st_rdev = libc::makedev(major, minor);
    stat.st_size = facts.size as libc::off_t;
    stat.st_blksize = 4096;
    // SAFETY: the structure was zeroed, padding included, and any bytes are a valid array.
    unsafe { std::mem::transmute(stat) }
}

/// The bytes that `statx` writes.
pub fn statx_bytes(facts: &Facts, user: u32, group: u32) -> [u8; size_of::<libc::statx>()] {
    // SAFETY: an all-zero `statx` is a valid value to fill in.
    let mut stat: libc::statx = unsafe { std::mem::zeroed() };
    let (major, minor) = facts.device;
    stat.stx_mask = libc::STATX_BASIC_STATS;
    stat.stx_mode = facts.mode as u16;
    stat.stx_nlink = 1;
    stat.stx_ino = facts.inode;
    stat.stx_uid = user;
    stat.stx_gid = group;
    stat.stx_rdev_major = major;
    stat.stx_rdev_minor = minor;
    stat.stx_size = facts.size;
    stat.stx_blksize = 4096;
    // SAFETY: the structure was zeroed, padding included, and any bytes are a valid array.
    unsafe { std::mem::transmute(stat) }
}

/// Closes a descriptor by its number, if it is open.
///
/// Only for numbers that this program has inherited and given to nothing of its own.
pub fn close_number(number: u32) {
    // SAFETY: takes an integer only; the caller names a descriptor that no object of this program owns.
    unsafe { libc::close(number as RawFd) };
}
