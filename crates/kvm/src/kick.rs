// SPDX-License-Identifier: MIT OR Apache-2.0
//! Getting a vCPU out of `KVM_RUN`, from another thread, without losing a kick.
//!
//! `kvm_run` begins with a byte, `immediate_exit`, that makes the next `KVM_RUN` return at once; a signal makes one
//! return that is under way. Whoever kicks sets the byte first and then sends the signal, so there is no moment in which
//! a kick is lost. For this the first page of `kvm_run` is mapped a second time: the VMM's own view of it is a Rust
//! reference, through which nobody else may write.

// UNSAFETY: a mapping of kvm_run, and a system call that libc has no wrapper for.
#![allow(unsafe_code)]

use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8};

use evtchn_sync::PAGE_SIZE;
use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::errno;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

/// The signal that interrupts `KVM_RUN`: the first that applications may use.
fn signal() -> i32 {
    SIGRTMIN()
}

/// Lets vCPUs be kicked: installs a handler for `SIGRTMIN` that does nothing. Once for the process, before vCPUs run.
/// Their threads must not block the signal.
///
/// # Errors
/// The signal cannot be handled.
pub fn install_kick_handler() -> errno::Result<()> {
    extern "C" fn nothing(_: i32, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    register_signal_handler(signal(), nothing)
}

/// A vCPU that other threads may kick.
#[derive(Debug)]
pub(crate) struct Kick {
    /// The second view of `kvm_run`'s first page.
    run: NonNull<u8>,
    /// The kernel's id of the vCPU's thread, 0 before there is one.
    thread: AtomicI32,
    /// Is that thread in `KVM_RUN`, or on its way there?
    running: AtomicBool,
}

// SAFETY: the mapping belongs to the value alone, and is only accessed as an atomic.
unsafe impl Send for Kick {}
// SAFETY: as above.
unsafe impl Sync for Kick {}

impl Kick {
    /// For a vCPU, which this does not keep open: the mapping does.
    pub fn new(vcpu: &VcpuFd) -> errno::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses, of what every vCPU's descriptor can map.
        let base =
            unsafe { libc::mmap(null_mut(), PAGE_SIZE, access, libc::MAP_SHARED, vcpu.as_raw_fd(), 0) };
        let run = NonNull::new(base.cast()).filter(|_| base != libc::MAP_FAILED);
        let run = run.ok_or_else(errno::Error::last)?;
        Ok(Self { run, thread: AtomicI32::new(0), running: AtomicBool::new(false) })
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        let byte = self.run.as_ptr().wrapping_add(offset_of!(kvm_run, immediate_exit));
        // SAFETY: the byte is inside the page, which is mapped as long as `self` lives. The kernel only reads it; through
        // this mapping it is only seen as an atomic.
        unsafe { &*byte.cast::<AtomicU8>() }
    }

    /// The calling thread is the vCPU's from now on.
    pub fn adopt(&self) {
        // SAFETY: has no arguments and cannot fail.
        let thread = unsafe { libc::gettid() };
        self.thread.store(thread, SeqCst);
    }

    /// What was asked for is about to be done.
    pub fn begin(&self) {
        self.immediate_exit().store(0, SeqCst);
    }

    /// `KVM_RUN` comes next, or is over.
    pub fn set_running(&self, running: bool) {
        self.running.store(running, SeqCst);
    }

    /// Makes the vCPU look at what KVM looks at when it enters the guest, such as `evtchn_upcall_pending`.
    ///
    /// If it is not in `KVM_RUN` nothing is to be done: it looks there when it is.
    pub fn interrupt(&self) {
        if self.running.load(SeqCst) {
            self.signal();
        }
    }

    /// Makes the vCPU's thread return to the VMM, now or when it next calls `KVM_RUN`.
    pub fn call_back(&self) {
        self.immediate_exit().store(1, SeqCst);
        self.interrupt();
    }

    fn signal(&self) {
        let (process, thread) = (std::process::id(), self.thread.load(SeqCst));
        if thread != 0 {
            // SAFETY: only numbers. If the thread is gone and its id another thread's of this process, that thread's
            // system call may be interrupted, by a handler that does nothing.
            unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal()) };
        }
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` has made, which nothing refers to any more.
        unsafe { libc::munmap(self.run.as_ptr().cast(), PAGE_SIZE) };
    }
}
