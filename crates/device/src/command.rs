// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which ioctl a command word is.

use evtchn_abi::ioctl::Ioctl;

/// Which Linux release the driver answers like.
///
/// They differ in one thing that a program sees: whether BIND_STATIC exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Linux 6.1: no BIND_STATIC.
    Linux6_1,
    /// Linux 7.2: with BIND_STATIC (which came in 2023).
    Linux7_2,
}

/// A known ioctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Bind a virtual interrupt of vCPU 0.
    BindVirq,
    /// Bind to a port that another domain offers.
    BindInterdomain,
    /// Make a port that a domain may bind to.
    BindUnboundPort,
    /// Give a port up.
    Unbind,
    /// Send an event to the other end of a port.
    Notify,
    /// Empty the ring and clear the overflow.
    Reset,
    /// Restrict the file to one remote domain.
    RestrictDomid,
    /// Take a port that exists already.
    BindStatic,
}

impl Command {
    /// Reads a command word. `None` for one that this level does not know; the driver answers `ENOSYS` to it.
    ///
    /// The word is matched as a whole: a known number with another size or direction is not known.
    #[must_use]
    pub const fn decode(level: Level, word: Ioctl) -> Option<Self> {
        match word {
            Ioctl::BIND_VIRQ => Some(Self::BindVirq),
            Ioctl::BIND_INTERDOMAIN => Some(Self::BindInterdomain),
            Ioctl::BIND_UNBOUND_PORT => Some(Self::BindUnboundPort),
            Ioctl::UNBIND => Some(Self::Unbind),
            Ioctl::NOTIFY => Some(Self::Notify),
            Ioctl::RESET => Some(Self::Reset),
            Ioctl::RESTRICT_DOMID => Some(Self::RestrictDomid),
            Ioctl::BIND_STATIC => match level {
                Level::Linux6_1 => None,
                Level::Linux7_2 => Some(Self::BindStatic),
            },
            _ => None,
        }
    }
}
