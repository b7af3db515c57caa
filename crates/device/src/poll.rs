// SPDX-License-Identifier: MIT OR Apache-2.0
//! What poll, select and epoll see.
//!
//! The file is always writable. After an overflow it is neither, only in error. It never reports a hang-up.
//! Wake-ups and SIGIO (band [`IN`]) come when the ring turns from empty to not empty, and only then, so a user of
//! edges has to read until `EAGAIN`.

/// `POLLIN`.
pub const IN: u32 = 0x1;
/// `POLLOUT`.
pub const OUT: u32 = 0x4;
/// `POLLERR`.
pub const ERR: u32 = 0x8;
/// `POLLRDNORM`.
pub const RDNORM: u32 = 0x40;
/// `POLLWRNORM`.
pub const WRNORM: u32 = 0x100;

/// Nothing to read (0x104).
pub const WRITABLE: u32 = OUT | WRNORM;
/// Something to read (0x145).
pub const READABLE: u32 = WRITABLE | IN | RDNORM;
/// A port was lost (0x8).
pub const OVERFLOWED: u32 = ERR;

/// The mask for a ring in this state. Overflow hides the rest.
#[must_use]
pub const fn mask(empty: bool, overflowed: bool) -> u32 {
    match (overflowed, empty) {
        (true, _) => OVERFLOWED,
        (false, true) => WRITABLE,
        (false, false) => READABLE,
    }
}
