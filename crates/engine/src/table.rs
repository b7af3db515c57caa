// SPDX-License-Identifier: MIT OR Apache-2.0
//! A domain's channel records, readable without a lock.
//!
//! Records are made in buckets of 64 and live as long as their domain. The end of the last bucket is
//! visible to guests: a port is *valid* if its record exists, and listing tools stop at the first
//! port that is not.

use alloc::boxed::Box;
use alloc::vec::Vec;

use evtchn_abi::Port;
use spin::Once;

use crate::channel::Channel;
use crate::error::OpError;

/// Records in a bucket.
pub(crate) const BUCKET: u32 = 64;
const BUCKETS_PER_GROUP: usize = 64;
const GROUPS: usize = 32;

/// One more than the highest port any domain can have, whatever its ABI.
#[cfg(test)]
pub(crate) const MAX_PORTS: u32 = BUCKET * 64 * 32;

type Bucket = Box<[Channel]>;
type Group = Box<[Once<Bucket>]>;

/// The records.
#[derive(Debug)]
pub(crate) struct Channels {
    groups: [Once<Group>; GROUPS],
}

impl Channels {
    pub const fn new() -> Self {
        Self { groups: [const { Once::new() }; GROUPS] }
    }

    /// The port's record, if it exists.
    #[inline]
    pub fn get(&self, port: Port) -> Option<&Channel> {
        let bucket = (port.0 / BUCKET) as usize;
        let group = self.groups.get(bucket / BUCKETS_PER_GROUP)?.get()?;
        group.get(bucket % BUCKETS_PER_GROUP)?.get()?.get((port.0 % BUCKET) as usize)
    }

    /// Makes the bucket with this number, unless it exists.
    pub fn add_bucket(&self, bucket: u32) -> Result<(), OpError> {
        let bucket = bucket as usize;
        let group = self.groups.get(bucket / BUCKETS_PER_GROUP).ok_or(OpError::NoSpace)?;
        let group = init(group, BUCKETS_PER_GROUP, Once::new)?;
        let slot = group.get(bucket % BUCKETS_PER_GROUP).ok_or(OpError::NoSpace)?;
        init(slot, BUCKET as usize, Channel::default)?;
        Ok(())
    }
}

/// Fills `once` with `len` fresh elements, allocated fallibly.
fn init<T>(once: &Once<Box<[T]>>, len: usize, make: impl Fn() -> T) -> Result<&[T], OpError> {
    if let Some(slice) = once.get() {
        return Ok(slice);
    }
    let fresh = filled(len, make).ok_or(OpError::OutOfMemory)?;
    Ok(once.call_once(|| fresh))
}

/// `len` fresh elements, allocated fallibly.
pub(crate) fn filled<T>(len: usize, make: impl Fn() -> T) -> Option<Box<[T]>> {
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
        channels.add_bucket(0).unwrap();
        assert!(channels.get(Port(63)).is_some() && channels.get(Port(64)).is_none());
        channels.add_bucket(64).unwrap();
        assert!(channels.get(Port(64 * 64)).is_some() && channels.get(Port(64)).is_none());
    }

    #[test]
    fn no_number_is_out_of_bounds() {
        let channels = Channels::new();
        assert!(channels.get(Port(u32::MAX)).is_none());
        assert_eq!(channels.add_bucket(MAX_PORTS / BUCKET), Err(OpError::NoSpace));
        assert!(channels.add_bucket(MAX_PORTS / BUCKET - 1).is_ok());
        assert!(channels.get(Port(MAX_PORTS - 1)).is_some());
    }
}
