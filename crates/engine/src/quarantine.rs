// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where closed ports wait for senders that began before the close.
//!
//! A send is a reader: it may have read a binding that has changed since, and set the bit of a port that is
//! closed by now. So a closed port is not handed out again, and its bit is cleared once more, when the readers
//! of before are gone. Closing does not wait for that. If nobody reads at the moment, the port is free at
//! once; else it goes here, as a port that is still linked does in the FIFO ABI.
//!
//! The ports are a list through their own records, so closing needs no memory. They come out in two batches: those for
//! which a grace period runs, and those that were closed since it began.

use evtchn_abi::Port;
use evtchn_sync::Grace;

use crate::channel::Channel;
use crate::table::Channels;

/// How many ports one operation lets out, so that it stays short.
const AT_ONCE: u32 = 64;

/// Closed ports that are not free yet. Guarded by the event lock.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    waiting: Option<(Grace, Port)>,
    fresh: Option<Port>,
}

impl Quarantine {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_none() && self.fresh.is_none()
    }

    /// Takes in a port that was closed just now.
    pub fn admit(&mut self, port: Port, channels: &Channels) {
        if let Some(channel) = channels.get(port) {
            channel.set_next_in_quarantine(self.fresh.replace(port));
        }
        self.start_waiting();
    }

    /// Lets out some ports that no reader can reach any more.
    pub fn release(&mut self, channels: &Channels, free: impl FnMut(Port)) {
        self.release_if(Grace::is_over, channels, free);
    }

    /// As `release`, but waits a little for readers, so that the lowest port is free again as soon as a guest closes it.
    pub fn release_soon(&mut self, channels: &Channels, mut free: impl FnMut(Port)) {
        // Both batches.
        self.release_if(Grace::is_soon_over, channels, &mut free);
        self.release_if(Grace::is_soon_over, channels, free);
    }

    fn release_if(&mut self, over: fn(Grace) -> bool, channels: &Channels, mut free: impl FnMut(Port)) {
        let Some((grace, mut port)) = self.waiting.filter(|&(grace, _)| over(grace)) else { return };
        for _ in 0..AT_ONCE {
            let next = channels.get(port).and_then(Channel::next_in_quarantine);
            free(port);
            self.waiting = next.map(|next| (grace, next));
            let Some(next) = next else { break };
            port = next;
        }
        self.start_waiting();
    }

    /// The ports in it, for checking the books.
    pub fn ports<'a>(&self, channels: &'a Channels) -> impl Iterator<Item = Port> + use<'a> {
        let next = |&port: &Port| channels.get(port).and_then(Channel::next_in_quarantine);
        let lists = [self.waiting.map(|(_, first)| first), self.fresh];
        lists.into_iter().flat_map(move |first| core::iter::successors(first, next))
    }

    fn start_waiting(&mut self) {
        if self.waiting.is_none() {
            self.waiting = self.fresh.take().map(|first| (Grace::start(), first));
        }
    }
}
