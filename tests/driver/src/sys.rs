// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls that have no safe wrapper elsewhere, or that are made here with arguments that a wrapper would not allow.

// UNSAFETY: raw system calls.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use evtchn_abi::Errno;

/// An address at which a program has no memory.
pub const NOWHERE: usize = 8;

/// The answer of a system call.
pub type Answer<T> = Result<T, Errno>;

fn answer(result: i64) -> Answer<u32> {
    if result >= 0 {
        return Ok(result as u32);
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or_default();
    Err(Errno(errno as u16))
}

/// `ioctl` with any argument. The drivers that it is used on read what the argument points to, and write nothing.
pub fn ioctl(fd: BorrowedFd<'_>, command: u32, argument: usize) -> Answer<u32> {
    // SAFETY: at most memory of this process is read, or the call fails.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), command.into(), argument) }.into())
}

/// `ioctl` of a driver that writes its answer to the argument.
pub fn ioctl_mut(fd: BorrowedFd<'_>, command: u32, argument: &mut [u32]) -> Answer<u32> {
    // SAFETY: the commands used here have arguments as long as what the callers give.
    answer(unsafe { libc::ioctl(fd.as_raw_fd(), command.into(), argument.as_mut_ptr()) }.into())
}

/// `ioctl` of the hypercall device, with the bytes of its argument. The hypercall writes to what the pointers in these lead to.
pub fn hypercall(fd: BorrowedFd<'_>, command: u32, call: &[u8]) -> Answer<i64> {
    // SAFETY: the command reads `call`; what the pointers in it lead to is the caller's own buffer, which it keeps.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), command.into(), call.as_ptr()) };
    answer(result.into()).map(i64::from)
}

/// `ioctl` through the entry of 32-bit programs; nothing where there are none.
#[cfg(target_arch = "x86_64")]
pub fn ioctl_32bit(fd: BorrowedFd<'_>, command: u32, argument: u32) -> Option<i32> {
    let result: u64;
    // SAFETY: call 54 of the 32-bit table is ioctl; the entry changes r8 to r11 at most besides the result.
    unsafe {
        std::arch::asm!(
            "push rbx", "mov ebx, edi", "int 0x80", "pop rbx",
            inlateout("rax") 54_u64 => result,
            in("edi") fd.as_raw_fd(), in("ecx") command, in("edx") argument,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    Some(result as i32)
}

/// `ioctl` through the entry of 32-bit programs; nothing where there are none.
#[cfg(not(target_arch = "x86_64"))]
pub fn ioctl_32bit(_: BorrowedFd<'_>, _: u32, _: u32) -> Option<i32> {
    None
}

/// `read` to any address. What is there must be the caller's buffer, or nothing.
pub fn read(fd: BorrowedFd<'_>, to: usize, length: usize) -> Answer<u32> {
    // SAFETY: the callers name a buffer of their own that is as long, or an address without memory.
    answer(unsafe { libc::read(fd.as_raw_fd(), to as *mut libc::c_void, length) } as i64)
}

/// `write` from any address.
pub fn write(fd: BorrowedFd<'_>, from: usize, length: usize) -> Answer<u32> {
    // SAFETY: memory is only read.
    answer(unsafe { libc::write(fd.as_raw_fd(), from as *const libc::c_void, length) } as i64)
}

/// How often the signal handler of [`catch`] ran.
static CAUGHT: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: libc::c_int) {
    CAUGHT.fetch_add(1, Ordering::SeqCst);
}

/// Counts a signal from now on, in [`caught`], which begins at 0. Calls that it interrupts are `restart`ed or fail.
pub fn catch(signal: i32, restart: bool) {
    CAUGHT.store(0, Ordering::SeqCst);
    // SAFETY: all zeros is a valid action, completed below.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
    action.sa_flags = if restart { libc::SA_RESTART } else { 0 };
    // SAFETY: the handler does nothing but count.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

/// How often the signal of [`catch`] came.
pub fn caught() -> u32 {
    CAUGHT.load(Ordering::SeqCst)
}

/// Sends a signal to a thread.
pub fn signal<T>(thread: &JoinHandle<T>, signal: i32) {
    // SAFETY: the thread can still be joined, so it has its name, even if it has ended.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), signal) };
}

/// Has the file send SIGIO to this process.
pub fn want_sigio(fd: BorrowedFd<'_>) {
    let me = std::process::id() as libc::pid_t;
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETOWN, me) };
    // SAFETY: as above.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: as above.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_ASYNC) };
}

/// The processor's time stamp counter.
#[cfg(target_arch = "x86_64")]
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Nanoseconds, for want of a counter.
#[cfg(not(target_arch = "x86_64"))]
pub fn ticks() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
