// SPDX-License-Identifier: MIT OR Apache-2.0
//! One stopped call: who made it, its arguments, the memory they point at, and how it is answered.
//!
//! Memory is read and written with `process_vm_readv` and `process_vm_writev`: they look at the
//! memory that the thread has now (a kept `/proc/PID/mem` does not survive `execve`), and they respect the pages' protection, so that a
//! result that the program may not write to is EFAULT here as it is for the kernel.
//!
//! A thread that waits for an answer can only be killed. What is done for one that is killed meanwhile is as if it had been killed a moment later; its
//! id is not another's until all ids have been used once more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use evtchn_abi::Errno;
use rustix::io::Errno as OsErrno;

use crate::sys::{self, Notification};

/// How a stopped call goes on.
#[derive(Debug)]
pub enum Answer {
    /// The kernel runs it as if nobody had looked.
    Continue,
    /// It returns this value.
    Value(i64),
    /// It fails.
    Error(Errno),
    /// It returns a new descriptor.
    Descriptor(NewDescriptor),
}

/// A descriptor to put into the program.
#[derive(Debug)]
pub struct NewDescriptor {
    /// What it refers to.
    pub file: OwnedFd,
    /// Where it goes; `None` for the lowest free number.
    pub number: Option<u32>,
    /// Whether `execve` closes it.
    pub close_on_exec: bool,
}

impl From<Errno> for Answer {
    fn from(error: Errno) -> Self {
        Self::Error(error)
    }
}

/// Why a program's memory or descriptors could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The address is not mapped so: the program's own mistake.
    Fault,
    /// The program is not dumpable, or belongs to somebody else by now.
    Hidden,
    /// The thread has ended.
    Gone,
}

impl From<OsErrno> for Unreachable {
    fn from(error: OsErrno) -> Self {
        match error {
            OsErrno::PERM | OsErrno::ACCESS => Self::Hidden,
            OsErrno::SRCH => Self::Gone,
            _ => Self::Fault,
        }
    }
}

/// What a program sees of memory that could not be reached.
impl From<Unreachable> for Errno {
    fn from(why: Unreachable) -> Self {
        match why {
            Unreachable::Fault | Unreachable::Gone => Self::EFAULT,
            Unreachable::Hidden => Self::EACCES,
        }
    }
}

/// Translates an error of a call of ours into one for the program.
pub fn program_errno(error: OsErrno) -> Errno {
    Errno(u16::try_from(error.raw_os_error()).unwrap_or(Errno::EIO.0))
}

/// The process handles of the threads that made calls lately.
#[derive(Default)]
pub struct Handles {
    by_thread: HashMap<i32, OwnedFd>,
}

/// More threads than this are unusual; then the handles are opened again.
pub const MAX_HANDLES: usize = 64;

impl Handles {
    /// The handle of a thread. A new one is kept if `is_waiting` says that the call it is opened for still waits: then it is that thread's.
    fn get(&mut self, thread: i32, is_waiting: impl FnOnce() -> bool) -> Result<BorrowedFd<'_>, OsErrno> {
        if self.by_thread.len() >= MAX_HANDLES && !self.by_thread.contains_key(&thread) {
            self.by_thread.clear();
        }
        let handle = match self.by_thread.entry(thread) {
            Entry::Occupied(handle) => handle.into_mut(),
            Entry::Vacant(place) => {
                let handle = open_handle(thread)?;
                if !is_waiting() {
                    return Err(OsErrno::SRCH);
                }
                place.insert(handle)
            }
        };
        Ok(OwnedFd::as_fd(handle))
    }
}

/// A handle of the thread or, before Linux 6.9, of its process.
fn open_handle(thread: i32) -> Result<OwnedFd, OsErrno> {
    match sys::pidfd_of_thread(thread) {
        Err(OsErrno::INVAL) => sys::pidfd_of_process(process_of(thread).ok_or(OsErrno::SRCH)?),
        handle => handle,
    }
}

/// The process that a thread belongs to.
fn process_of(thread: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok()
}

/// A call that waits for its answer.
pub struct Trapped<'a> {
    listener: BorrowedFd<'a>,
    notification: Notification,
    handles: &'a mut Handles,
}

impl<'a> Trapped<'a> {
    /// Wraps what the listener reported.
    pub fn new(listener: BorrowedFd<'a>, notification: Notification, handles: &'a mut Handles) -> Self {
        Self { listener, notification, handles }
    }

    /// The call's number.
    pub fn call(&self) -> i64 {
        self.notification.data.nr.into()
    }

    /// Whether the call was made through another architecture's entry.
    pub fn is_foreign(&self) -> bool {
        self.notification.data.arch != crate::filter::NATIVE_ARCHITECTURE
    }

    /// An argument as it stands in its register.
    pub fn argument(&self, n: usize) -> u64 {
        self.notification.data.args.get(n).copied().unwrap_or(0)
    }

    /// An argument that C calls an `int`.
    pub fn int(&self, n: usize) -> i32 {
        self.argument(n) as i32
    }

    /// The calling thread's id.
    pub fn thread(&self) -> i32 {
        self.notification.pid as i32
    }

    /// Fills `buffer` from the program's memory.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> Result<(), Unreachable> {
        let count = sys::read_memory(self.thread(), address, buffer)?;
        if count == buffer.len() { Ok(()) } else { Err(Unreachable::Fault) }
    }

    /// Writes all of `bytes` to the program's memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Unreachable> {
        let count = sys::write_memory(self.thread(), address, bytes)?;
        if count == bytes.len() { Ok(()) } else { Err(Unreachable::Fault) }
    }

    /// Reads a path; the kernel's own errors for a bad one come when the call continues.
    pub fn read_path(&self, address: u64) -> Result<PathBuf, Unreachable> {
        const PAGE: u64 = 4096;
        let mut path = Vec::new();
        let mut at = address;
        while path.len() < libc::PATH_MAX as usize {
            let mut chunk = [0; 256];
            let length = (PAGE - at % PAGE).min(chunk.len() as u64) as usize;
            let chunk = &mut chunk[..length];
            self.read(at, chunk)?;
            if let Some(end) = chunk.iter().position(|&byte| byte == 0) {
                path.extend_from_slice(&chunk[..end]);
                return Ok(OsString::from_vec(path).into());
            }
            path.extend_from_slice(chunk);
            at = at.wrapping_add(length as u64);
        }
        Err(Unreachable::Fault)
    }

    /// A copy of one of the program's descriptors. It must be dropped before the call is answered.
    pub fn descriptor(&mut self, number: u32) -> Result<OwnedFd, OsErrno> {
        let thread = self.thread();
        let (listener, id) = (self.listener, self.notification.id);
        let is_waiting = || sys::is_valid(listener, id);
        match sys::pidfd_getfd(self.handles.get(thread, is_waiting)?, number) {
            // The handle was of an earlier thread with this id.
            Err(OsErrno::SRCH) => {
                self.handles.by_thread.remove(&thread);
                sys::pidfd_getfd(self.handles.get(thread, is_waiting)?, number)
            }
            result => result,
        }
    }

    /// Answers the call. A program that was killed meanwhile needs no answer.
    pub fn answer(&self, answer: Answer) {
        // The only failure left is a call that has gone away.
        match answer {
            Answer::Continue => drop(self.respond(0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)),
            Answer::Value(value) => drop(self.respond(value, 0, 0)),
            Answer::Error(error) => drop(self.respond(0, -i32::from(error.0), 0)),
            Answer::Descriptor(new) => self.give(&new),
        }
    }

    fn respond(&self, val: i64, error: i32, flags: u32) -> Result<(), OsErrno> {
        let id = self.notification.id;
        sys::respond(self.listener, &libc::seccomp_notif_resp { id, val, error, flags })
    }

    fn give(&self, new: &NewDescriptor) {
        let add = |number| {
            sys::add_fd(self.listener, self.notification.id, new.file.as_fd(), number, new.close_on_exec)
        };
        let result = match add(new.number) {
            // The program lowered its own limit below the range.
            Err(OsErrno::BADF) if new.number.is_some() => add(None),
            result => result,
        };
        self.answer(match result {
            Ok(number) => Answer::Value(number.into()),
            Err(error) => Answer::Error(program_errno(error)),
        });
    }
}
