// SPDX-License-Identifier: MIT OR Apache-2.0
//! What has been counted.

use evtchn_abi::VcpuId;
use evtchn_sync::atomic::Ordering::Relaxed;

use super::{ChannelId, Events, Kernel, Storage};
use crate::Abi;

/// What a channel has seen since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stats {
    /// How many events its handler got.
    pub events: u64,
    /// Of how many of them there was nothing to do.
    pub spurious: u64,
    /// How many ends of events were delayed.
    pub delays: u64,
}

impl<A: Abi, K: Kernel, S: Storage> Events<A, K, S> {
    /// What a channel has seen; `None` if there is no such channel.
    pub fn stats(&self, channel: ChannelId) -> Option<Stats> {
        let record = self.record(channel)?;
        let [events, spurious, delays] =
            [&record.events, &record.spurious, &record.delays].map(|count| count.load(Relaxed));
        Some(Stats { events, spurious, delays })
    }

    /// How many events a vCPU has got for ports that no channel had: of channels that were being closed, or of nobody's.
    pub fn unclaimed(&self, vcpu: VcpuId) -> u64 {
        self.storage.vcpus().get(vcpu.0 as usize).map_or(0, |slot| slot.unclaimed.load(Relaxed))
    }
}
