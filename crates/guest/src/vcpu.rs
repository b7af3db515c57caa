// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the guest keeps for each of its vCPUs.

use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};
use evtchn_sync::atomic::{AtomicU32, AtomicU64};

/// Words of ports in the widest layout.
const WORDS: usize = 64;

/// A vCPU's own state: which ports it handles, and where its next scan begins.
///
/// Several vCPUs share each word of pending bits, so each must know which of them are its business.
#[derive(Debug)]
pub struct Vcpu {
    /// Word by word, the ports that this vCPU handles.
    mine: [AtomicU64; WORDS],
    /// The port after the last that was handled. Only this vCPU writes it.
    start: AtomicU32,
}

impl Vcpu {
    /// A vCPU that handles no port.
    #[cfg(not(loom))]
    #[must_use]
    pub const fn new() -> Self {
        Self { mine: [const { AtomicU64::new(0) }; WORDS], start: AtomicU32::new(0) }
    }

    /// A vCPU that handles no port. Not a constant, as loom's atomics are not.
    #[cfg(loom)]
    #[must_use]
    pub fn new() -> Self {
        Self { mine: core::array::from_fn(|_| AtomicU64::new(0)), start: AtomicU32::new(0) }
    }

    pub(crate) fn mine(&self, word: u32) -> u64 {
        self.mine.get(word as usize).map_or(0, |mine| mine.load(SeqCst))
    }

    pub(crate) fn set_mine(&self, word: u32, bit: u32, handles: bool) {
        let Some(mine) = self.mine.get(word as usize) else { return };
        let bit = 1u64.checked_shl(bit).unwrap_or(0);
        if handles {
            mine.fetch_or(bit, SeqCst);
        } else {
            mine.fetch_and(!bit, SeqCst);
        }
    }

    pub(crate) fn forget_all(&self) {
        for mine in &self.mine {
            mine.store(0, SeqCst);
        }
    }

    pub(crate) fn start(&self) -> u32 {
        self.start.load(Relaxed)
    }

    pub(crate) fn set_start(&self, port: u32) {
        self.start.store(port, Relaxed);
    }
}

impl Default for Vcpu {
    fn default() -> Self {
        Self::new()
    }
}
