// SPDX-License-Identifier: MIT OR Apache-2.0
//! Getting a vCPU out of `KVM_RUN`, from another thread, without losing a kick.
//!
//! `kvm_run` begins with a byte, `immediate_exit`, that makes the next `KVM_RUN` return at once; a signal makes one
//! return that is under way. Whoever kicks sets the byte first and then sends the signal, and the vCPU's thread takes the byte
//! back only when `KVM_RUN` has returned for it, before it looks at what it was kicked for; so there is no moment in which
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
    /// The kernel's id of the thread that runs the vCPU, or ran it last; 0 before there is one.
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
    pub fn new(vcpu: &impl AsRawFd) -> errno::Result<Self> {
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

    /// Runs the vCPU by `enter`, which is `KVM_RUN`, on the calling thread.
    pub fn run<T>(&self, enter: impl FnOnce() -> errno::Result<T>) -> errno::Result<T> {
        self.thread.store(this_thread(), SeqCst);
        self.running.store(true, SeqCst);
        let result = enter();
        self.running.store(false, SeqCst);
        if result.as_ref().is_err_and(|error| error.errno() == libc::EINTR) {
            // Whoever called back before this did so before the caller looks for a reason. An exit of another kind leaves
            // the byte as it is: the next `KVM_RUN` returns for it.
            self.immediate_exit().store(0, SeqCst);
        }
        result
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

/// The kernel's id of the calling thread.
fn this_thread() -> i32 {
    thread_local! {
        // SAFETY: has no arguments and cannot fail.
        static ID: i32 = unsafe { libc::gettid() };
    }
    ID.with(|id| *id)
}

impl Drop for Kick {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` has made, which nothing refers to any more.
        unsafe { libc::munmap(self.run.as_ptr().cast(), PAGE_SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::Duration;

    use vmm_sys_util::signal::{block_signal, create_sigset, unblock_signal};
    use vmm_sys_util::tempfile::TempFile;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A page in the place of a vCPU's.
    fn kick() -> Kick {
        let file = TempFile::new().unwrap().into_file();
        file.set_len(PAGE_SIZE as u64).unwrap();
        Kick::new(&file).unwrap()
    }

    /// `KVM_RUN` of a guest that is idle: with signals held back it looks at `immediate_exit` and at what the guest waits for, which
    /// ends it, too; then it sleeps until a signal comes. `ETIME` if none does.
    fn idle_guest(kick: &Kick, has_come: impl Fn() -> bool, patience: Duration) -> errno::Result<()> {
        block_signal(signal()).unwrap();
        let result = if kick.immediate_exit().load(SeqCst) != 0 {
            Err(errno::Error::new(libc::EINTR))
        } else if has_come() {
            Ok(())
        } else {
            sleep(patience)
        };
        unblock_signal(signal()).unwrap();
        result
    }

    /// Lets signals come until one does.
    fn sleep(patience: Duration) -> errno::Result<()> {
        let seconds = patience.as_secs().cast_signed();
        let patience = libc::timespec { tv_sec: seconds, tv_nsec: patience.subsec_nanos().into() };
        let blocked = create_sigset(&[]).unwrap();
        // SAFETY: there are no descriptors, and the others are this function's own.
        match unsafe { libc::ppoll(null_mut(), 0, &raw const patience, &raw const blocked) } {
            0 => Err(errno::Error::new(libc::ETIME)),
            _ => errno::errno_result(),
        }
    }

    /// Runs such a guest; what `KVM_RUN` answers.
    fn run(kick: &Kick, has_come: impl Fn() -> bool, patience: Duration) -> Result<(), i32> {
        kick.run(|| idle_guest(kick, has_come, patience)).map_err(|error| error.errno())
    }

    #[test]
    fn who_is_called_back_before_it_runs_returns_at_once_and_only_once() {
        let kick = kick();
        kick.call_back();
        assert_eq!(run(&kick, || false, Duration::ZERO), Err(libc::EINTR));
        assert_eq!(run(&kick, || false, Duration::ZERO), Err(libc::ETIME));
    }

    #[test]
    fn a_call_back_during_another_exit_is_not_lost_with_it() {
        let kick = kick();
        let exit = || {
            kick.call_back();
            true
        };
        install_kick_handler().unwrap();
        assert_eq!(run(&kick, exit, Duration::ZERO), Ok(()));
        assert_eq!(run(&kick, || false, Duration::ZERO), Err(libc::EINTR));
    }

    /// Asks something of an idle vCPU, again and again, by `ask`, and waits until it has been seen; with or without the guest's
    /// own eyes.
    fn each_is_seen(ask: fn(&Kick), by_guest: bool) {
        const ROUNDS: u64 = 10_000;
        const LOST: u64 = u64::MAX;
        install_kick_handler().unwrap();
        let (kick, wanted, seen) = (kick(), AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while seen.load(SeqCst) < ROUNDS {
                    let before = wanted.load(SeqCst);
                    seen.store(before, SeqCst);
                    let has_come = || by_guest && wanted.load(SeqCst) != before;
                    if before < ROUNDS && run(&kick, has_come, PATIENCE) == Err(libc::ETIME) {
                        seen.store(LOST, SeqCst);
                    }
                }
            });
            for round in 1..=ROUNDS {
                wanted.store(round, SeqCst);
                ask(&kick);
                while seen.load(SeqCst) < round {
                    thread::yield_now();
                }
            }
        });
        assert_ne!(seen.into_inner(), LOST);
    }

    #[test]
    fn whoever_calls_back_is_heard_wherever_the_vcpu_is() {
        each_is_seen(Kick::call_back, false);
    }

    #[test]
    fn an_upcall_is_seen_wherever_the_vcpu_is() {
        each_is_seen(Kick::interrupt, true);
    }
}
