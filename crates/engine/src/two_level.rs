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
//!
//! A raise looks at P before it sets it, so that senders to a port that is pending do not take its line from each
//! other. What the sender wrote comes before that look, by the fence of the reader's entry; the guest that clears P looks
//! for it afterwards.

use evtchn_abi::{Layout, Port, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{Guard, Page};

use crate::config::Width;
use crate::domain::Domain;

/// The bits of a domain's ports in its shared_info, as its width lays them out.
pub(crate) struct Bits<'g, P> {
    page: &'g P,
    width: Width,
}

/// Where a bit of one of the arrays is.
#[derive(Clone, Copy)]
struct BitAt {
    offset: usize,
    bit: u32,
}

#[inline]
fn pending_at(layout: &Layout, port: Port) -> Option<BitAt> {
    let (word, bit) = layout.word_and_bit(port)?;
    Some(BitAt { offset: layout.pending_word(word)?, bit })
}

impl<P: Page> Domain<P> {
    /// The bits of the ports; `None` if there is no shared_info.
    #[inline]
    pub fn bits<'g>(&'g self, guard: &'g Guard<'_>) -> Option<Bits<'g, P>> {
        Some(Bits { page: self.shared_info.load(guard)?, width: self.width() })
    }

    /// Sets the selector bit of a port's word on a vCPU; on its edge the upcall byte. Whether that was an edge, too.
    ///
    /// A port outside the arrays is dropped: an HVM guest may have narrowed its layout since it
    /// opened the port.
    pub fn announce(&self, port: Port, vcpu: VcpuId, guard: &Guard<'_>) -> bool {
        let announced = || {
            let (word, _) = self.width().layout().word_and_bit(port)?;
            let info = self.vcpu_info(vcpu, guard)?;
            Some(info.select(word) == Some(false) && info.mark_upcall())
        };
        announced().unwrap_or(false)
    }

    /// The selector bit of a port's word on a vCPU.
    pub fn is_selected(&self, port: Port, vcpu: VcpuId, guard: &Guard<'_>) -> bool {
        let word = self.width().layout().word_and_bit(port);
        let info = self.vcpu_info(vcpu, guard);
        word.zip(info).is_some_and(|((word, _), info)| info.is_selected(word))
    }
}

impl<P: Page> Bits<'_, P> {
    /// Sets the port pending; whether it was not. A port outside the array never becomes pending.
    #[inline]
    pub fn set_pending(&self, port: Port) -> bool {
        let at = pending_at(self.layout(), port);
        self.test(at) == Some(false) && self.set(at) == Some(false)
    }

    /// Clears the mask bit; whether it was set.
    pub fn clear_mask(&self, port: Port) -> bool {
        self.clear(self.mask_at(port)) == Some(true)
    }

    pub fn clear_pending(&self, port: Port) {
        self.clear(pending_at(self.layout(), port));
    }

    #[inline]
    pub fn is_pending(&self, port: Port) -> bool {
        // As `test`, with the layout known when this is compiled: every send comes here.
        let is_set = match self.width {
            Width::Bits64 => pending_at(&Layout::X86_64, port)
                .and_then(|BitAt { offset, bit }| Some(self.page.u64(offset)?.load(SeqCst) >> bit & 1 == 1)),
            Width::Bits32 => pending_at(&Layout::X86_32, port)
                .and_then(|BitAt { offset, bit }| Some(self.page.u32(offset)?.load(SeqCst) >> bit & 1 == 1)),
        };
        is_set.unwrap_or(false)
    }

    /// A port outside the array counts as masked.
    pub fn is_masked(&self, port: Port) -> bool {
        self.test(self.mask_at(port)) != Some(false)
    }

    #[inline]
    fn layout(&self) -> &'static Layout {
        self.width.layout()
    }

    #[inline]
    fn mask_at(&self, port: Port) -> Option<BitAt> {
        let (word, bit) = self.layout().word_and_bit(port)?;
        Some(BitAt { offset: self.layout().mask_word(word)?, bit })
    }

    /// Sets the bit; whether it was set. `None`: no such bit.
    #[inline]
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

    #[inline]
    fn test(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        Some(match self.width {
            Width::Bits64 => self.page.u64(offset)?.load(SeqCst) >> bit & 1 == 1,
            Width::Bits32 => self.page.u32(offset)?.load(SeqCst) >> bit & 1 == 1,
        })
    }
}
