// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the launcher does with signals, and what its programs find.
//!
//! Signals of the terminal reach the whole foreground group, the programs included: the launcher leaves them to the programs. Only when what
//! is left are daemons, which no terminal reaches, SIGINT and SIGQUIT end them. Signals that another process sends to the launcher are
//! passed on. A program starts with the mask and the dispositions that the launcher itself was started with.

use std::os::fd::OwnedFd;

use crate::sys::{self, Arrived};

/// What a terminal sends to stop a program.
const STOPPING: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
/// What a terminal sends to end a program.
pub const ENDING: [i32; 2] = [libc::SIGINT, libc::SIGQUIT];
/// What is passed on to the programs, whoever sent it.
const FORWARDED: [i32; 4] = [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
/// What kills a program that has gone wrong.
const CRASHES: [i32; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGSYS];
/// The names of those that may kill a program.
const NAMES: [(i32, &str); 20] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGTRAP, "SIGTRAP"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGKILL, "SIGKILL"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGIO, "SIGIO"),
    (libc::SIGXCPU, "SIGXCPU"),
    (libc::SIGXFSZ, "SIGXFSZ"),
    (libc::SIGVTALRM, "SIGVTALRM"),
    (libc::SIGSYS, "SIGSYS"),
];

/// Whether the programs are to be given a signal that has arrived here. What a key sends they have got already.
pub fn is_passed_on(arrived: Arrived) -> bool {
    FORWARDED.contains(&arrived.signal) || ENDING.contains(&arrived.signal) && !arrived.by_kernel
}

/// Whether a program that this signal has killed had gone wrong.
pub fn is_crash(signal: i32) -> bool {
    CRASHES.contains(&signal)
}

/// The signal's name; "signal N" for one that has none.
pub fn name(signal: i32) -> String {
    let named = NAMES.iter().find(|(number, _)| *number == signal);
    named.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).into())
}

/// The signal state that the launcher was started with.
pub struct Inherited {
    mask: libc::sigset_t,
    ignored: [bool; STOPPING.len()],
    children_ignored: bool,
}

impl Inherited {
    /// Puts the launcher's own state in force: stopping ignored, the other signals it looks at blocked.
    pub fn replace() -> Self {
        let ignored = STOPPING.map(|signal| sys::ignore_signal(signal, true));
        // A process that ignores it is not told how its children end.
        let children_ignored = sys::ignore_signal(libc::SIGCHLD, false);
        Self { mask: sys::block_signals(&handled()), ignored, children_ignored }
    }

    /// Puts back what was found.
    pub fn restore(&self) {
        for (signal, ignored) in STOPPING.into_iter().zip(self.ignored) {
            sys::ignore_signal(signal, ignored);
        }
        sys::ignore_signal(libc::SIGCHLD, self.children_ignored);
        // The runtime of this program ignores it.
        sys::ignore_signal(libc::SIGPIPE, false);
        sys::set_signal_mask(&self.mask);
    }
}

fn handled() -> Vec<i32> {
    [&FORWARDED[..], &ENDING, &[libc::SIGCHLD, libc::SIGCONT]].concat()
}

/// A descriptor on which the blocked signals arrive.
pub fn descriptor() -> std::io::Result<OwnedFd> {
    sys::signal_fd(&handled())
}
