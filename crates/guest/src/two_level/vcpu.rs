// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the guest keeps for each of its vCPUs.

use evtchn_sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use evtchn_sync::atomic::{AtomicU32, AtomicU64};
use evtchn_sync::{array_of, const_fn};

use crate::info::Registration;

/// Words of ports in the widest layout. A model has a few ports only.
const WORDS: usize = if cfg!(loom) { 2 } else { 64 };

/// One vCPU of a guest with the two-level ABI: which ports it handles, and where its next scan begins.
///
/// Several vCPUs share each word of pending bits, so each must know which of them are its business.
#[derive(Debug)]
pub struct TwoLevelVcpu {
    /// Word by word, the ports that this vCPU handles.
    mine: [AtomicU64; WORDS],
    /// Those that it has handled and another has got.
    once_mine: [AtomicU64; WORDS],
    /// The port after the last that was handled. Only this vCPU writes it.
    start: AtomicU32,
    /// Events that were taken and are to be handled: of the word that is being handled, or where the handler said stop.
    /// This vCPU sets them; whoever unbinds a port takes it out.
    left: [AtomicU64; WORDS],
    pub(super) registration: Registration,
}

impl TwoLevelVcpu {
    const_fn! {
        /// A vCPU that handles no port.
        #[must_use]
        pub const fn new() -> Self {
            Self {
                mine: array_of!(AtomicU64::new(0)),
                once_mine: array_of!(AtomicU64::new(0)),
                start: AtomicU32::new(0),
                left: array_of!(AtomicU64::new(0)),
                registration: Registration::new(),
            }
        }
    }

    /// The ports of a word that this vCPU handles.
    #[inline]
    pub(super) fn mine(&self, word: u32) -> u64 {
        self.mine.get(word as usize).map_or(0, |mine| mine.load(SeqCst))
    }

    /// The ports of a word that it has handled before another got them.
    #[inline]
    pub(super) fn once_mine(&self, word: u32) -> u64 {
        self.once_mine.get(word as usize).map_or(0, |once| once.load(SeqCst))
    }

    pub(super) fn handle(&self, word: u32, bits: u64) {
        change(&self.mine, word, |mine| mine.fetch_or(bits, SeqCst));
        change(&self.once_mine, word, |once| once.fetch_and(!bits, SeqCst));
    }

    /// Leaves those of the ports that it handles to another vCPU.
    pub(super) fn hand_over(&self, word: u32, bits: u64) {
        let handled = self.mine(word) & bits;
        if handled != 0 {
            change(&self.once_mine, word, |once| once.fetch_or(handled, SeqCst));
            change(&self.mine, word, |mine| mine.fetch_and(!handled, SeqCst));
        }
    }

    pub(super) fn ignore(&self, word: u32, bits: u64) {
        change(&self.mine, word, |mine| mine.fetch_and(!bits, SeqCst));
        change(&self.once_mine, word, |once| once.fetch_and(!bits, SeqCst));
        // The port may be another's soon, who has not been sent this event.
        change(&self.left, word, |left| left.fetch_and(!bits, SeqCst));
    }

    /// It handles no port any more.
    pub(super) fn forget_ports(&self) {
        let all = self.mine.iter().chain(&self.once_mine).chain(&self.left);
        all.for_each(|word| word.store(0, SeqCst));
    }

    /// Where the next scan begins.
    #[inline]
    pub(super) fn start(&self) -> u32 {
        self.start.load(Relaxed)
    }

    #[inline]
    pub(super) fn set_start(&self, port: u32) {
        self.start.store(port, Relaxed);
    }

    /// Keeps events of a word that were taken, until they are handled.
    #[inline]
    pub(super) fn keep(&self, word: u32, bits: u64) {
        if let Some(left) = self.left.get(word as usize) {
            left.store(bits, Release);
        }
    }

    /// Those of them that are left, and whose ports have not been unbound since.
    #[inline]
    pub(super) fn kept(&self, word: u32) -> u64 {
        self.left.get(word as usize).map_or(0, |left| left.load(Acquire))
    }

    /// Of those, leaves these.
    #[inline]
    pub(super) fn leave(&self, word: u32, bits: u64) {
        match bits {
            0 => self.keep(word, 0),
            _ => change(&self.left, word, |left| left.fetch_and(bits, SeqCst)),
        }
    }
}

fn change(words: &[AtomicU64; WORDS], word: u32, change: impl FnOnce(&AtomicU64) -> u64) {
    if let Some(word) = words.get(word as usize) {
        change(word);
    }
}

impl Default for TwoLevelVcpu {
    fn default() -> Self {
        Self::new()
    }
}
