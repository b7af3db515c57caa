// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process that a shell sees: it stands for the program.
//!
//! It forks the supervisor, passes signals on, stops when the program stops, and ends as the program ended. Having two processes means that
//! killing either leaves the other to kill the programs: the supervisor sees its socket to the front close, and the
//! front sees its child die and inherits the supervisor's descendants, being a subreaper.

use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::signals::Inherited;
use crate::sys::{self, Change};
use crate::{Config, LaunchError, limits, processes, signals, supervisor};

/// How the foreground program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
}

impl Ending {
    /// Ends this process in the same way.
    pub fn mirror(self) -> ! {
        match self {
            Self::Exited(status) => sys::exit_now(status),
            Self::Killed(signal) => sys::die_of(signal),
        }
    }
}

/// What the supervisor tells the front.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The foreground program was stopped by this signal.
    Stopped,
    /// All is over.
    Ended(Ending),
    /// It could not be done, why, and what the command should end with.
    Failed(String, u8),
}

impl Report {
    fn to_bytes(&self) -> Vec<u8> {
        let (tag, rest) = match self {
            Self::Stopped => (b's', Vec::new()),
            Self::Ended(Ending::Exited(status)) => (b'e', status.to_ne_bytes().to_vec()),
            Self::Ended(Ending::Killed(signal)) => (b'k', signal.to_ne_bytes().to_vec()),
            Self::Failed(why, status) => (b'f', [&[*status], why.as_bytes()].concat()),
        };
        [vec![tag], rest].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let number = || rest.try_into().ok().map(i32::from_ne_bytes);
        match tag {
            b's' => Some(Self::Stopped),
            b'e' => Some(Self::Ended(Ending::Exited(number()?))),
            b'k' => Some(Self::Ended(Ending::Killed(number()?))),
            b'f' => {
                let (&status, why) = rest.split_first()?;
                Some(Self::Failed(String::from_utf8_lossy(why).into_owned(), status))
            }
            _ => None,
        }
    }

    /// Sends the report; a front that is gone is noticed elsewhere.
    pub fn send(&self, socket: impl AsFd) {
        let _ = rustix::net::send(socket, &self.to_bytes(), SendFlags::NOSIGNAL);
    }
}

/// Runs the programs of `config` and waits for their end. The process must have a single thread.
///
/// # Errors
/// A program could not be started, or the kernel lacks what is needed; nothing runs any more then.
pub fn run(config: &Config) -> Result<Ending, LaunchError> {
    if config.programs.is_empty() || config.programs.iter().any(|program| program.argv.is_empty()) {
        return Err(LaunchError::NoProgram);
    }
    let inherited = Inherited::replace();
    let streams = limits::open_descriptors();
    sys::become_subreaper()?;
    let (front, back) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(std::io::Error::from)?;
    let Some(supervisor) = sys::fork()? else {
        drop(front);
        let report = supervisor::run(config, &inherited, &streams, &back)
            .map_or_else(|error| Report::Failed(error.chain(), error.status()), Report::Ended);
        report.send(&back);
        sys::exit_now(0);
    };
    drop(back);
    if config.give_up_streams {
        limits::give_up(&streams);
    }
    let result = Front { supervisor, socket: front, signals: signals::descriptor()? }.serve();
    inherited.restore();
    result
}

struct Front {
    supervisor: i32,
    socket: OwnedFd,
    signals: OwnedFd,
}

impl Front {
    fn serve(&self) -> Result<Ending, LaunchError> {
        loop {
            let mut sources =
                [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            match poll(&mut sources, None) {
                Err(Errno::INTR) => continue,
                other => other.map_err(std::io::Error::from)?,
            };
            let [from_supervisor, from_signals] = sources.map(|source| source.revents());
            if !from_signals.is_empty() {
                self.pass_on_signals();
            }
            if !from_supervisor.is_empty() {
                match self.receive() {
                    Some(Report::Stopped) => self.stop(),
                    Some(Report::Ended(ending)) => return Ok(ending),
                    Some(Report::Failed(text, status)) => {
                        return Err(LaunchError::Supervisor { text, status });
                    }
                    None => return Err(self.supervisor_died()),
                }
            }
        }
    }

    fn receive(&self) -> Option<Report> {
        let mut bytes = [0; 4096];
        let (count, _) = rustix::net::recv(&self.socket, &mut bytes, RecvFlags::empty()).ok()?;
        Report::from_bytes(bytes.get(..count)?)
    }

    fn pass_on_signals(&self) {
        while let Some(arrived) = sys::next_signal(self.signals.as_fd()) {
            if signals::is_passed_on(arrived) {
                let _ = sys::kill(self.supervisor, arrived.signal);
            }
        }
    }

    /// Stops as the program did, and lets it go on when this process goes on.
    fn stop(&self) {
        let _ = sys::kill(rustix::process::getpid().as_raw_nonzero().get(), libc::SIGSTOP);
        let _ = sys::kill(self.supervisor, libc::SIGCONT);
    }

    fn supervisor_died(&self) -> LaunchError {
        processes::kill_descendants();
        let text = "the supervisor was killed; its programs were killed too".into();
        LaunchError::Supervisor { text, status: 1 }
    }
}

/// Lets the front go on, if it has stopped: the program goes on. Called by the supervisor, its child.
pub(crate) fn go_on() {
    if let Some(front) = rustix::process::getppid() {
        let _ = sys::kill(front.as_raw_nonzero().get(), libc::SIGCONT);
    }
}

/// How a child's last change ends it.
pub(crate) fn ending(change: Change) -> Option<Ending> {
    match change {
        Change::Exited(status) => Some(Ending::Exited(status)),
        Change::Killed(signal) => Some(Ending::Killed(signal)),
        Change::Stopped(_) | Change::Continued => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_survive_the_socket() {
        for report in [
            Report::Stopped,
            Report::Ended(Ending::Exited(7)),
            Report::Ended(Ending::Killed(9)),
            Report::Failed("evtchn: why".into(), 127),
        ] {
            assert_eq!(Report::from_bytes(&report.to_bytes()), Some(report));
        }
        assert_eq!(Report::from_bytes(b""), None);
        assert_eq!(Report::from_bytes(b"e1"), None);
        assert_eq!(Report::from_bytes(b"f"), None);
    }
}
