// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two-level ABI: a bit per port, a selector bit per word of ports, a byte per vCPU.
//!
//! Both sides run lock-free on the shared page, so each step below is a sequentially consistent
//! read-modify-write or load, and the steps come in this order (`P` pending, `M` mask, `S` selector,
//! `U` upcall_pending):
//!
//! ```text
//! raise:   set P | read M | set S | set U          guest: clear U | take S | read P, M | clear P
//! unmask:  clear M | read P | set S | set U        guest: set M; clear M, then read P again
//! ```
//!
//! "Set P, read M" against "clear M, read P" is the store-buffer pattern: were any of the four weaker,
//! both sides could miss each other and the event would be lost.

use core::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{Layout, Port, VcpuId};
use evtchn_sync::Page;

use crate::config::Width;
use crate::vcpu_info;

/// What a raise or an unmask changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The pending bit went from 0 to 1.
    pub fresh: bool,
    /// The upcall byte went from 0 to 1.
    pub upcall: bool,
}

/// A domain's shared_info, as its width lays it out.
pub(crate) struct TwoLevel<'a, P> {
    page: &'a P,
    width: Width,
    layout: &'static Layout,
}

/// Where a bit of one of the arrays is.
#[derive(Clone, Copy)]
struct BitAt {
    offset: usize,
    bit: u32,
}

impl<'a, P: Page> TwoLevel<'a, P> {
    pub fn new(page: &'a P, width: Width) -> Self {
        Self { page, width, layout: width.layout() }
    }

    /// Sets the port pending, and tells the vCPU if that is news and the port is not masked.
    ///
    /// A port outside the arrays is dropped: an HVM guest may have narrowed its layout since it
    /// opened the port.
    #[inline]
    pub fn raise(&self, port: Port, vcpu: VcpuId) -> Edge {
        let Some(was_pending) = self.set(self.pending_at(port)) else {
            return Edge::default();
        };
        if was_pending {
            return Edge::default();
        }
        let upcall = !self.is_masked(port) && self.announce(port, vcpu);
        Edge { fresh: true, upcall }
    }

    /// Clears the mask bit, and tells the vCPU if that uncovered a pending event.
    pub fn unmask(&self, port: Port, vcpu: VcpuId) -> Edge {
        let was_masked = self.clear(self.mask_at(port)) == Some(true);
        let upcall = was_masked && self.is_pending(port) && self.announce(port, vcpu);
        Edge { fresh: false, upcall }
    }

    pub fn clear_pending(&self, port: Port) {
        self.clear(self.pending_at(port));
    }

    pub fn is_pending(&self, port: Port) -> bool {
        self.test(self.pending_at(port)) == Some(true)
    }

    /// A port outside the array counts as masked.
    pub fn is_masked(&self, port: Port) -> bool {
        self.test(self.mask_at(port)) != Some(false)
    }

    /// The selector bit of the port's word on this vCPU.
    pub fn is_selected(&self, port: Port, vcpu: VcpuId) -> bool {
        self.test(self.selector_at(port, vcpu)) == Some(true)
    }

    /// Sets the selector bit; on its edge the upcall byte. Returns whether that was an edge too.
    #[inline]
    fn announce(&self, port: Port, vcpu: VcpuId) -> bool {
        self.set(self.selector_at(port, vcpu)) == Some(false)
            && vcpu_info::mark_upcall(self.page, self.layout, vcpu)
    }
}

impl<P: Page> TwoLevel<'_, P> {
    fn pending_at(&self, port: Port) -> Option<BitAt> {
        let (word, bit) = self.layout.word_and_bit(port)?;
        Some(BitAt { offset: self.layout.pending_word(word)?, bit })
    }

    fn mask_at(&self, port: Port) -> Option<BitAt> {
        let (word, bit) = self.layout.word_and_bit(port)?;
        Some(BitAt { offset: self.layout.mask_word(word)?, bit })
    }

    /// vCPUs beyond the slots of shared_info have no selector.
    fn selector_at(&self, port: Port, vcpu: VcpuId) -> Option<BitAt> {
        let (word, _) = self.layout.word_and_bit(port)?;
        let offset = self.layout.vcpu_info(vcpu.0)? + self.layout.pending_sel;
        Some(BitAt { offset, bit: word })
    }

    /// Sets the bit; whether it was set. `None`: no such bit.
    fn set(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        let was = match self.width {
            Width::Bits64 => self.page.u64(offset)?.fetch_or(1 << bit, SeqCst) >> bit & 1 == 1,
            Width::Bits32 => self.page.u32(offset)?.fetch_or(1 << bit, SeqCst) >> bit & 1 == 1,
        };
        if !was {
            self.page.wrote(offset);
        }
        Some(was)
    }

    /// Clears the bit; whether it was set. `None`: no such bit.
    fn clear(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        let was = match self.width {
            Width::Bits64 => self.page.u64(offset)?.fetch_and(!(1 << bit), SeqCst) >> bit & 1 == 1,
            Width::Bits32 => self.page.u32(offset)?.fetch_and(!(1 << bit), SeqCst) >> bit & 1 == 1,
        };
        if was {
            self.page.wrote(offset);
        }
        Some(was)
    }

    fn test(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        Some(match self.width {
            Width::Bits64 => self.page.u64(offset)?.load(SeqCst) >> bit & 1 == 1,
            Width::Bits32 => self.page.u32(offset)?.load(SeqCst) >> bit & 1 == 1,
        })
    }
}
