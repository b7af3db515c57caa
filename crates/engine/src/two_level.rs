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
//! Where a locked instruction is a fence, P and S are looked at before they are set: if they are set already there is nothing to do, and senders do not
//! take the lines from each other. What comes before the look at P is what the sender wrote, by the fence of the reader's
//! entry; the guest that clears P looks for it afterwards. What comes before the look at S is P, by the fence of its
//! setting; the guest that takes S looks for it afterwards.
//!
//! Bits are set one at a time with their old value tested, which is one instruction where there is one for that: a guest that
//! rewrites the word without end cannot make it loop.

use evtchn_abi::{Layout, Port, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::atomic::{AtomicU32, AtomicU64};
use evtchn_sync::{Guard, Page, RMW_IS_FENCE, fence_after_rmw};

use crate::channel::Channel;
use crate::config::Width;
use crate::deliver::Edge;
use crate::domain::Domain;
use crate::vcpu_info::VcpuInfo;

/// The words of one width, and where a guest of that width has them.
pub(crate) trait Word {
    const LAYOUT: &'static Layout;

    fn of<P: Page>(page: &P, offset: usize) -> Option<&Self>;
    fn has(&self, bit: u32) -> bool;
    /// Sets a bit; whether it was set.
    fn set(&self, bit: u32) -> bool;
    /// Clears a bit; whether it was set.
    fn clear(&self, bit: u32) -> bool;
}

macro_rules! words {
    ($($atomic:ident, $one:expr, $access:ident, $layout:expr;)*) => {$(
        impl Word for $atomic {
            const LAYOUT: &'static Layout = &$layout;

            #[inline]
            fn of<P: Page>(page: &P, offset: usize) -> Option<&Self> {
                page.$access(offset)
            }

            #[inline]
            fn has(&self, bit: u32) -> bool {
                self.load(SeqCst) & ($one << bit) != 0
            }

            #[inline]
            fn set(&self, bit: u32) -> bool {
                self.fetch_or($one << bit, SeqCst) & ($one << bit) != 0
            }

            #[inline]
            fn clear(&self, bit: u32) -> bool {
                self.fetch_and(!($one << bit), SeqCst) & ($one << bit) != 0
            }
        }
    )*};
}

words! {
    AtomicU64, 1u64, u64, Layout::X86_64;
    AtomicU32, 1u32, u32, Layout::X86_32;
}

/// Runs a method with the word of the domain's width.
macro_rules! by_width {
    ($domain:ident.$method:ident($($arg:expr),*)) => {
        match $domain.width() {
            Width::Bits64 => $domain.$method::<AtomicU64>($($arg),*),
            Width::Bits32 => $domain.$method::<AtomicU32>($($arg),*),
        }
    };
}

/// A bit in a page.
struct Bit<'g, P, W> {
    page: &'g P,
    offset: usize,
    word: &'g W,
    bit: u32,
}

impl<'g, P: Page, W: Word> Bit<'g, P, W> {
    #[inline]
    fn new(page: &'g P, offset: usize, bit: u32) -> Option<Self> {
        Some(Self { page, offset, word: W::of(page, offset)?, bit })
    }

    #[inline]
    fn is_set(&self) -> bool {
        self.word.has(self.bit)
    }

    /// Sets the bit, unless a look finds it set; whether that changed it.
    #[inline]
    fn set(&self) -> bool {
        let is_set = RMW_IS_FENCE && self.is_set();
        let changed = !is_set && !self.word.set(self.bit);
        if changed {
            self.page.wrote(self.offset);
        }
        changed
    }

    /// Clears the bit; whether that changed it.
    fn clear(&self) -> bool {
        let changed = self.word.clear(self.bit);
        if changed {
            self.page.wrote(self.offset);
        }
        changed
    }
}

/// The pending bit of a port. `None` for a port outside the array, whose events are dropped: an HVM guest may have
/// narrowed its layout since it opened the port.
#[inline]
fn pending<P: Page, W: Word>(page: &P, port: Port) -> Option<Bit<'_, P, W>> {
    let (word, bit) = W::LAYOUT.word_and_bit(port)?;
    Bit::new(page, W::LAYOUT.pending_word(word)?, bit)
}

/// The mask bit of a port.
#[inline]
fn mask<P: Page, W: Word>(page: &P, port: Port) -> Option<Bit<'_, P, W>> {
    let (word, bit) = W::LAYOUT.word_and_bit(port)?;
    Bit::new(page, W::LAYOUT.mask_word(word)?, bit)
}

/// The selector bit of a port's word on a vCPU.
#[inline]
fn selector<'g, P: Page, W: Word>(info: &VcpuInfo<'g, P>, port: Port) -> Option<Bit<'g, P, W>> {
    let (word, _) = W::LAYOUT.word_and_bit(port)?;
    let (page, offset) = info.selector(W::LAYOUT);
    Bit::new(page, offset, word)
}

impl<P: Page> Domain<P> {
    /// Sets the port pending in the domain's page, and tells its vCPU if that is news and the port is not masked.
    #[inline]
    pub fn raise_bit(&self, page: &P, port: Port, guard: &Guard<'_>) -> Edge {
        by_width!(self.raise_in(page, port, guard)).unwrap_or_default()
    }

    #[inline]
    fn raise_in<W: Word>(&self, page: &P, port: Port, guard: &Guard<'_>) -> Option<Edge> {
        if !pending::<P, W>(page, port)?.set() {
            return None;
        }
        fence_after_rmw(); // set P, look at M: pairs with `unmask_in`
        let masked = mask::<P, W>(page, port)?.is_set();
        let upcall = if masked { None } else { self.announce::<W>(port, guard) };
        Some(Edge::upcall(upcall).and_fresh(true))
    }

    /// Clears the mask bit, and tells the vCPU if that uncovered a pending event. Returns it if its upcall byte changed.
    pub fn unmask_bit(&self, port: Port, guard: &Guard<'_>) -> Option<VcpuId> {
        by_width!(self.unmask_in(port, guard))
    }

    fn unmask_in<W: Word>(&self, port: Port, guard: &Guard<'_>) -> Option<VcpuId> {
        let page = self.shared_info.load(guard)?;
        if !mask::<P, W>(page, port)?.clear() {
            return None;
        }
        fence_after_rmw(); // clear M, look at P: pairs with `raise_in`
        let uncovered = pending::<P, W>(page, port)?.is_set();
        if uncovered { self.announce::<W>(port, guard) } else { None }
    }

    /// Sets the selector bit of the port's word on its vCPU, and on its edge the upcall byte. Returns the vCPU on
    /// the edge of that.
    #[inline]
    fn announce<W: Word>(&self, port: Port, guard: &Guard<'_>) -> Option<VcpuId> {
        let vcpu = self.channels.get(port)?.vcpu();
        let info = self.vcpu_info(vcpu, guard)?;
        (selector::<P, W>(&info, port)?.set() && info.mark_upcall()).then_some(vcpu)
    }

    /// Sets the selector bit of a port that is pending and not masked, as if nobody had done it. Returns its vCPU.
    pub fn announce_bit_again(&self, port: Port, guard: &Guard<'_>) -> Option<VcpuId> {
        let waits = self.is_bit_pending(port, guard) && !self.is_bit_masked(port, guard);
        waits.then(|| by_width!(self.announce(port, guard)))?;
        self.channels.get(port).map(Channel::vcpu)
    }

    /// Takes back an event that was not consumed.
    pub fn clear_pending_bit(&self, port: Port, guard: &Guard<'_>) {
        by_width!(self.clear_pending_in(port, guard));
    }

    fn clear_pending_in<W: Word>(&self, port: Port, guard: &Guard<'_>) -> Option<bool> {
        Some(pending::<P, W>(self.shared_info.load(guard)?, port)?.clear())
    }

    /// Is the pending bit set, whichever ABI is in use?
    #[inline]
    pub fn is_bit_pending(&self, port: Port, guard: &Guard<'_>) -> bool {
        by_width!(self.is_pending_in(port, guard)).unwrap_or(false)
    }

    #[inline]
    fn is_pending_in<W: Word>(&self, port: Port, guard: &Guard<'_>) -> Option<bool> {
        Some(pending::<P, W>(self.shared_info.load(guard)?, port)?.is_set())
    }

    /// A port outside the array counts as masked.
    pub fn is_bit_masked(&self, port: Port, guard: &Guard<'_>) -> bool {
        by_width!(self.is_masked_in(port, guard)).unwrap_or(true)
    }

    fn is_masked_in<W: Word>(&self, port: Port, guard: &Guard<'_>) -> Option<bool> {
        Some(mask::<P, W>(self.shared_info.load(guard)?, port)?.is_set())
    }

    /// The selector bit of a port's word on a vCPU.
    pub fn is_selected(&self, port: Port, vcpu: VcpuId, guard: &Guard<'_>) -> bool {
        by_width!(self.is_selected_in(port, vcpu, guard)).unwrap_or(false)
    }

    fn is_selected_in<W: Word>(&self, port: Port, vcpu: VcpuId, guard: &Guard<'_>) -> Option<bool> {
        Some(selector::<P, W>(&self.vcpu_info(vcpu, guard)?, port)?.is_set())
    }
}
