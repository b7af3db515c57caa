// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rules that `read` and `write` share: whole ports, at most a page of them, in the machine's byte order.
//!
//! # write
//!
//! 1. [`whole_ports`] of the length; 0 returns 0 and the buffer is not looked at.
//! 2. Copy that many in; a fault is `EFAULT` and nothing is done.
//! 3. Under the bind lock, for each port of [`ports_in`], in order: if it is bound to *this* file and
//!    [`Binding::enable`](crate::Binding::enable) says so, unmask it. All others are passed over silently.
//! 4. Return the bytes of step 2, whatever the ports were.

use evtchn_abi::Port;

/// The bytes of one port.
pub const PORT_BYTES: usize = 4;

/// The most bytes that one `read` or `write` moves.
pub const MAX_BYTES: usize = 4096;

/// The most ports that one `read` or `write` moves.
pub const MAX_PORTS: usize = MAX_BYTES / PORT_BYTES;

/// How many ports a `read` or `write` of `length` bytes moves at most: whole ones, at most [`MAX_PORTS`].
///
/// ```
/// use evtchn_device::whole_ports;
///
/// assert_eq!([3, 7, 4096, 16384].map(whole_ports), [0, 1, 1024, 1024]);
/// ```
#[must_use]
pub const fn whole_ports(length: usize) -> usize {
    let ports = length / PORT_BYTES;
    if ports > MAX_PORTS { MAX_PORTS } else { ports }
}

/// [`whole_ports`] in bytes: what a `write` copies in and returns.
#[must_use]
pub const fn whole_bytes(length: usize) -> usize {
    whole_ports(length).wrapping_mul(PORT_BYTES)
}

/// The ports that a `write` was given, in order. Bytes after the last whole port are left out.
pub fn ports_in(bytes: &[u8]) -> impl Iterator<Item = Port> {
    bytes
        .chunks_exact(PORT_BYTES)
        .filter_map(|chunk| chunk.try_into().ok())
        .map(|chunk| Port(u32::from_ne_bytes(chunk)))
}
