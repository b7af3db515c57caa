// SPDX-License-Identifier: MIT OR Apache-2.0
//! Starting a program under the filter, and getting the filter's listener out of it.
//!
//! The child installs the filter itself (a filter is inherited, never imposed), tells the listener's number through a pipe, and
//! waits. The supervisor takes the listener with `pidfd_getfd` and lets it go on to `execve`.

use std::ffi::{CString, OsString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::process::{Pid, WaitOptions};

use crate::LaunchError;
use crate::sys::{self, Instruction};

/// A program that runs under the filter.
#[derive(Debug)]
pub struct Launched {
    /// Its process.
    pub process: i32,
    /// Where its stopped calls are reported, and those of all its descendants.
    pub listener: OwnedFd,
}

/// What became of a program that was to be started.
#[derive(Debug)]
pub enum Outcome {
    /// It runs.
    Launched(Launched),
    /// This signal came first: somebody ends the whole group before all programs run.
    Killed(i32),
}

/// What the child tells: a tag and a value.
type Message = [u8; 8];

const LISTENER: u32 = 1;
const NO_FILTER: u32 = 2;
const NO_PROGRAM: u32 = 3;

fn message(tag: u32, value: u32) -> Message {
    (u64::from(tag) << 32 | u64::from(value)).to_ne_bytes()
}

fn parse(message: Message) -> (u32, u32) {
    let word = u64::from_ne_bytes(message);
    ((word >> 32) as u32, word as u32)
}

/// Starts `argv` under `filter`. The child calls `prepare` first, to become what a program should find.
///
/// # Errors
/// The program cannot be executed, or the kernel does not take the filter.
pub fn spawn(argv: &[OsString], filter: &[Instruction], prepare: &dyn Fn()) -> Result<Outcome, LaunchError> {
    let (from_child, to_parent) = io::pipe()?;
    let (from_parent, to_child) = io::pipe()?;
    let Some(process) = sys::fork()? else {
        drop((from_child, to_child));
        run_child(argv, filter, prepare, to_parent, from_parent);
    };
    drop((to_parent, from_parent));
    match follow(process, argv, from_child, to_child) {
        Ok(listener) => Ok(Outcome::Launched(Launched { process, listener })),
        Err(LaunchError::System(error)) => death(process)?.map(Outcome::Killed).ok_or(error.into()),
        Err(error) => Err(error),
    }
}

/// The parent's part, until the program is executed.
fn follow(
    process: i32,
    argv: &[OsString],
    mut from_child: io::PipeReader,
    mut to_child: io::PipeWriter,
) -> Result<OwnedFd, LaunchError> {
    let listener = match receive(&mut from_child)? {
        Some((LISTENER, number)) => take_listener(process, number)?,
        Some((_, error)) => return Err(LaunchError::filter(io::Error::from_raw_os_error(error as i32))),
        None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    };
    to_child.write_all(&[1])?;
    match receive(&mut from_child)? {
        None => Ok(listener),
        Some((_, error)) => {
            let program = argv.first().cloned().unwrap_or_default();
            Err(LaunchError::program(program, io::Error::from_raw_os_error(error as i32)))
        }
    }
}

fn receive(from_child: &mut impl Read) -> io::Result<Option<(u32, u32)>> {
    let mut message = Message::default();
    match from_child.read_exact(&mut message) {
        Ok(()) => Ok(Some(parse(message))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// The signal that killed a child which did not get as far as its program. One that nobody talks to any more ends by itself.
fn death(process: i32) -> io::Result<Option<i32>> {
    let status = rustix::process::waitpid(Some(pid(process)?), WaitOptions::empty())?;
    Ok(status.and_then(|(_, status)| status.terminating_signal()))
}

fn pid(process: i32) -> io::Result<Pid> {
    Pid::from_raw(process).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn take_listener(process: i32, number: u32) -> Result<OwnedFd, LaunchError> {
    let pidfd = rustix::process::pidfd_open(pid(process)?, rustix::process::PidfdFlags::empty())
        .map_err(io::Error::from)?;
    let listener = sys::pidfd_getfd(pidfd.as_fd(), number).map_err(io::Error::from)?;
    // Older kernels do without.
    let _ = sys::prefer_same_processor(listener.as_fd());
    Ok(listener)
}

/// The child's part; it ends in the program or in `exit`.
fn run_child(
    argv: &[OsString],
    filter: &[Instruction],
    prepare: &dyn Fn(),
    mut to_parent: io::PipeWriter,
    mut from_parent: io::PipeReader,
) -> ! {
    prepare();
    // The supervisor's death takes its children with it even when nobody is left to do it.
    let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
    match install(filter) {
        Ok(listener) => {
            let told = to_parent.write_all(&message(LISTENER, listener.as_raw_fd() as u32));
            if told.and_then(|()| from_parent.read_exact(&mut [0])).is_ok() {
                let error = execute(argv);
                let _ = to_parent.write_all(&message(NO_PROGRAM, errno(&error)));
            }
        }
        // Without the filter the program would run on what the machine has: it must not.
        Err(error) => drop(to_parent.write_all(&message(NO_FILTER, errno(&error)))),
    }
    sys::exit_now(127);
}

fn errno(error: &io::Error) -> u32 {
    error.raw_os_error().unwrap_or(libc::EIO) as u32
}

/// Installs the filter. Without CAP_SYS_ADMIN the kernel wants the promise that no privileges will be gained.
fn install(filter: &[Instruction]) -> io::Result<OwnedFd> {
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    match sys::install_filter(filter, flags) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            sys::prctl_no_new_privileges()?;
            sys::install_filter(filter, flags)
        }
        result => result,
    }
}

fn execute(argv: &[OsString]) -> io::Error {
    let arguments: Result<Vec<CString>, _> =
        argv.iter().map(|a| CString::new(a.clone().into_vec())).collect();
    match arguments {
        Ok(arguments) => sys::execvp(&arguments),
        Err(error) => error.into(),
    }
}
