// SPDX-License-Identifier: MIT OR Apache-2.0
//! A domain's channel records, readable without a lock.
//!
//! Records are allocated in chunks, and *exist* in buckets of 64: the end of the last bucket is visible to
//! guests. A port is *valid* if its record exists, and listing tools stop at the first port that is not. Records
//! live as long as their domain.

use alloc::boxed::Box;
use alloc::vec::Vec;

use evtchn_abi::{DomId, Port};
use evtchn_sync::OnceBox;
use evtchn_sync::atomic::AtomicU32;
use evtchn_sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::channel::Channel;
use crate::error::OpError;

/// Ports become valid in multiples of this.
#[cfg(not(any(loom, shuttle)))]
pub(crate) const BUCKET: u32 = 64;
/// Records in an allocation: few enough for a domain without work, enough for few allocations.
#[cfg(not(any(loom, shuttle)))]
const CHUNK: usize = 512;
#[cfg(not(any(loom, shuttle)))]
const CHUNKS: usize = 256;

// A model checker makes every atomic anew for each order that it tries, so its domains have few ports.
#[cfg(any(loom, shuttle))]
pub(crate) const BUCKET: u32 = 8;
#[cfg(any(loom, shuttle))]
const CHUNK: usize = 8;
#[cfg(any(loom, shuttle))]
const CHUNKS: usize = 2;

/// One more than the highest port any domain can have, whatever its ABI.
pub(crate) const MAX_PORTS: u32 = if cfg!(any(loom, shuttle)) { 16 } else { 1 << 17 };
const _: () = assert!(CHUNK * CHUNKS == MAX_PORTS as usize);

/// The records.
#[derive(Debug)]
pub(crate) struct Channels {
    valid: AtomicU32,
    chunks: [OnceBox<[Channel; CHUNK]>; CHUNKS],
}

impl Channels {
    pub fn new() -> Self {
        Self { valid: AtomicU32::new(0), chunks: core::array::from_fn(|_| OnceBox::new()) }
    }

    /// Ports below this are valid.
    #[inline]
    pub fn valid(&self) -> u32 {
        // Acquire pairs with `add_bucket`: whoever sees a port as valid sees its record.
        self.valid.load(Acquire)
    }

    /// The port's record, if it exists.
    #[inline]
    pub fn get(&self, port: Port) -> Option<&Channel> {
        if port.0 < self.valid() { self.record(port) } else { None }
    }

    /// The other end of a port, if it has one that a guest consumes. Quick, and for sends only.
    #[inline]
    pub fn peer(&self, port: Port) -> Option<(DomId, Port)> {
        // A port that is not valid has a free record, or none.
        self.record(port)?.peer()
    }

    #[inline]
    fn record(&self, port: Port) -> Option<&Channel> {
        let port = port.0 as usize;
        let chunk = self.chunks.get(port / CHUNK)?.get()?;
        Some(&chunk[port % CHUNK])
    }

    /// Makes 64 more ports valid. Under the event lock.
    ///
    /// # Errors
    /// ENOSPC if there are 131,072, ENOMEM.
    pub fn add_bucket(&self) -> Result<(), OpError> {
        let valid = self.valid.load(Relaxed);
        let chunk = self.chunks.get(valid as usize / CHUNK).ok_or(OpError::NoSpace)?;
        if chunk.get().is_none() {
            let fresh = filled(CHUNK, Channel::default).and_then(|fresh| fresh.try_into().ok());
            let _ = chunk.set(fresh.ok_or(OpError::OutOfMemory)?);
        }
        // Release pairs with `valid`.
        self.valid.store(valid + BUCKET, Release);
        Ok(())
    }
}

/// `len` fresh elements, allocated fallibly.
pub(crate) fn filled<T>(len: usize, make: impl FnMut() -> T) -> Option<Box<[T]>> {
    let mut fresh = Vec::new();
    fresh.try_reserve_exact(len).ok()?;
    fresh.resize_with(len, make);
    Some(fresh.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_exist_in_whole_buckets() {
        let channels = Channels::new();
        assert!(channels.get(Port(0)).is_none());
        channels.add_bucket().unwrap();
        assert!(channels.get(Port(63)).is_some() && channels.get(Port(64)).is_none());
        channels.add_bucket().unwrap();
        assert!(channels.get(Port(127)).is_some() && channels.get(Port(128)).is_none());
    }

    #[test]
    fn no_number_is_out_of_bounds() {
        let channels = Channels::new();
        (0..MAX_PORTS / BUCKET).for_each(|_| channels.add_bucket().unwrap());
        assert_eq!(channels.add_bucket(), Err(OpError::NoSpace));
        assert!(channels.get(Port(MAX_PORTS - 1)).is_some());
        assert!(channels.get(Port(MAX_PORTS)).is_none() && channels.get(Port(u32::MAX)).is_none());
    }
}
