// SPDX-License-Identifier: MIT OR Apache-2.0
//! The floor of a trapped call: a child under a filter that stops one ioctl command, and a supervisor that does as little as possible about it.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use evtchn_abi::ioctl::Ioctl;
use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF,
};
use rustix::event::epoll;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::spread::Bursts;
use crate::sys::{self, Instruction};

/// What the supervisor does about a stopped call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Receives and answers.
    Bare,
    /// Also reads the word that the argument points at, and checks that the call still waits. The floor that figures are held against.
    Argument,
    /// As [`Work::Argument`], and waits in an event loop first, as who serves more than one listener has to.
    EventLoop,
    /// As [`Work::EventLoop`], and finds out which file the call's descriptor refers to: all that a supervisor of several programs cannot do without.
    Identity,
}

/// Times the stopped call as the child sees it: nanoseconds of a call, one for each burst.
///
/// # Errors
/// The kernel has no seccomp notifications, or lets no parent look at its child.
pub fn time(work: Work, bursts: Bursts) -> io::Result<Vec<f64>> {
    let (mut results, to_parent) = io::pipe()?;
    let (from_parent, mut go) = io::pipe()?;
    let Some(child) = sys::fork()? else {
        drop((results, go));
        let status = run_child(bursts, to_parent, from_parent).is_err().into();
        sys::exit(status);
    };
    drop((to_parent, from_parent));
    let handle = handle_of(child)?;
    let listener = take(&handle, read_number(&mut results)? as i32)?;
    go.write_all(&[1])?;
    let supervisor = Supervisor { work, listener, handle };
    supervisor.serve(bursts.all_calls())?;
    let times = (0..bursts.count).map(|_| read_number(&mut results));
    let times = times.map(|bits| bits.map(f64::from_bits)).collect();
    rustix::process::waitpid(Pid::from_raw(child), rustix::process::WaitOptions::empty())?;
    times
}

/// The child: installs the filter, tells the listener's number, waits for the supervisor, makes the calls, tells their times.
fn run_child(
    bursts: Bursts,
    mut to_parent: io::PipeWriter,
    mut from_parent: io::PipeReader,
) -> io::Result<()> {
    let listener = sys::install_filter(&filter())?;
    to_parent.write_all(&(listener as u64).to_ne_bytes())?;
    from_parent.read_exact(&mut [0])?;
    let fd = from_parent.as_fd();
    let times = bursts.time(|| sys::ioctl(fd, Ioctl::NOTIFY.0, &[7]));
    for time in times {
        to_parent.write_all(&time.to_bits().to_ne_bytes())?;
    }
    Ok(())
}

/// Stops an `ioctl` with one command word, and nothing else.
fn filter() -> [Instruction; 6] {
    const NUMBER: u32 = 0;
    const COMMAND: u32 = 24;
    let step = |code: u32, k, jf| Instruction { code: code as u16, jt: 0, jf, k };
    [
        step(BPF_LD | BPF_W | BPF_ABS, NUMBER, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, libc::SYS_ioctl as u32, 3),
        step(BPF_LD | BPF_W | BPF_ABS, COMMAND, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, Ioctl::NOTIFY.0, 1),
        step(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0),
        step(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0),
    ]
}

fn handle_of(child: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(child).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// A copy of one of the child's descriptors.
fn take(handle: &OwnedFd, number: i32) -> io::Result<OwnedFd> {
    Ok(pidfd_getfd(handle, number, PidfdGetfdFlags::empty())?)
}

fn read_number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

struct Supervisor {
    work: Work,
    listener: OwnedFd,
    /// The child's.
    handle: OwnedFd,
}

impl Supervisor {
    /// Answers this many calls.
    fn serve(&self, calls: usize) -> io::Result<()> {
        let events = self.event_loop()?;
        for _ in 0..calls {
            if let Some(events) = &events {
                let mut ready = Vec::with_capacity(1);
                epoll::wait(events, rustix::buffer::spare_capacity(&mut ready), None)?;
            }
            self.answer(self.listener.as_fd())?;
        }
        Ok(())
    }

    fn event_loop(&self) -> io::Result<Option<OwnedFd>> {
        if matches!(self.work, Work::Bare | Work::Argument) {
            return Ok(None);
        }
        let events = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(self.listener.as_raw_fd() as u64);
        epoll::add(&events, &self.listener, data, epoll::EventFlags::IN)?;
        Ok(Some(events))
    }

    fn answer(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        let call = sys::receive(listener)?;
        if self.work == Work::Identity {
            rustix::fs::fstat(take(&self.handle, call.data.args[0] as i32)?)?;
        }
        if self.work != Work::Bare {
            let port = sys::read_word(call.pid as i32, call.data.args[2])?;
            if port != 7 || !sys::is_valid(listener, call.id) {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        sys::respond(listener, call.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_burst_is_timed_whatever_the_supervisor_does() {
        for work in [Work::Bare, Work::Argument, Work::EventLoop, Work::Identity] {
            let bursts = Bursts { count: 2, calls: 8 };
            match time(work, bursts) {
                Ok(times) => assert!(times.len() == 2 && times.iter().all(|&time| time > 0.0)),
                Err(error) => eprintln!("skipped: no seccomp notifications here: {error}"),
            }
        }
    }
}
