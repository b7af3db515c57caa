// SPDX-License-Identifier: MIT OR Apache-2.0
//! The memory that the two programs and the command share.
//!
//! A memory file, inherited by both programs and named to them by its descriptor's number.

// UNSAFETY: maps a memory file and looks at it as atomics.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::direction::Direction;
use super::histogram::Histogram;

/// Everything shared; atomics only, and all zero bytes are its first state.
#[repr(C)]
pub struct Page {
    /// How long the traffic lasts; written by the command.
    pub milliseconds: AtomicU64,
    /// The receiver's port, 0 until there is one.
    pub port: AtomicU32,
    /// What the sender does, a [`Stage`].
    pub stage: AtomicU32,
    /// How the receiver ended: [`RUNNING`], [`DONE`] or [`FAILED`].
    pub receiver: AtomicU32,
    /// Notified by the sender, one at a time.
    pub ping: Direction,
    /// The receiver's answers.
    pub pong: Direction,
    /// From before a ping to after its pong.
    pub round_trip: Histogram,
    /// How long pings were sent, in nanoseconds.
    pub ping_pong_took: AtomicU64,
    /// Notified by the sender as fast as it can.
    pub flood: Direction,
    /// How long that lasted, in nanoseconds.
    pub flood_took: AtomicU64,
    /// When the last notification had been made.
    pub last_sent: AtomicU64,
}

/// What the sender does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stage {
    PingPong = 0,
    Flood = 1,
    Over = 2,
}

impl From<u32> for Stage {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::PingPong,
            1 => Self::Flood,
            _ => Self::Over,
        }
    }
}

/// The receiver has not ended, or was killed.
pub const RUNNING: u32 = 0;
/// The receiver has waited for everything.
pub const DONE: u32 = 1;
/// The receiver gave up.
pub const FAILED: u32 = 2;

const SIZE: usize = size_of::<Page>();
/// Nobody can make it shorter, so no access faults.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// Makes a page. The descriptor is inherited by programs.
pub fn create() -> io::Result<(OwnedFd, &'static Page)> {
    let memory = rustix::fs::memfd_create("evtchn-demo", MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&memory, SIZE as u64)?;
    rustix::fs::fcntl_add_seals(&memory, SEALS)?;
    let page = map(&memory)?;
    Ok((memory, page))
}

/// The page whose descriptor was inherited.
pub fn open(descriptor: u32) -> io::Result<&'static Page> {
    map(File::options().read(true).write(true).open(format!("/proc/self/fd/{descriptor}"))?)
}

/// The argument that names the page to a program.
pub fn name(memory: &OwnedFd) -> String {
    memory.as_raw_fd().to_string()
}

/// Maps the page, for the rest of the process's life.
fn map(memory: impl AsFd) -> io::Result<&'static Page> {
    let sealed = rustix::fs::fcntl_get_seals(&memory)?.contains(SEALS);
    if !sealed || rustix::fs::fstat(&memory)?.st_size != SIZE as i64 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the demo's page"));
    }
    // SAFETY: the kernel chooses the address, so no mapping of this process is replaced.
    let address = unsafe {
        rustix::mm::mmap(
            ptr::null_mut(),
            SIZE,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            memory,
            0,
        )
    }?;
    // SAFETY: the mapping has the size of a `Page` and is aligned to a memory page, more than `Page`
    // needs; it is never unmapped, and the seals keep the file long enough. `Page` consists of atomics,
    // for which any bytes are valid and which others may write.
    Ok(unsafe { &*address.cast::<Page>() })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn two_mappings_are_the_same_memory() {
        let (memory, here) = create().unwrap();
        let there = open(name(&memory).parse().unwrap()).unwrap();
        here.port.store(7, Relaxed);
        there.flood.raise(1);
        assert!(!ptr::eq(here, there));
        assert_eq!((there.port.load(Relaxed), here.flood.sent()), (7, 1));
    }

    #[test]
    fn another_file_is_not_taken_for_a_page() {
        let other = rustix::fs::memfd_create("other", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(open(name(&other).parse().unwrap()).is_err());
        assert!(open(u32::MAX).is_err());
    }
}
