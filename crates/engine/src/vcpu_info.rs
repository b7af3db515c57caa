// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU's vcpu_info: its upcall bytes and, in the two-level ABI, its selector. In shared_info, or where the guest has
//! registered one.

use evtchn_abi::{Gfn, Layout, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{Guard, Page};

use crate::config::Width;
use crate::deliver::Told;
use crate::domain::{Domain, Vcpu};

/// Where a vCPU's vcpu_info is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VcpuInfoPlace {
    /// Nowhere: there is no shared_info, or no slot in it for this vCPU. It gets no upcalls.
    Nowhere,
    /// In its slot of shared_info.
    SharedInfo {
        /// Where it begins in the page, in bytes.
        offset: usize,
    },
    /// Where the guest has registered it.
    Registered {
        /// The page.
        gfn: Gfn,
        /// Where it begins in the page, in bytes.
        offset: usize,
    },
}

/// Memory that the guest has registered for a vcpu_info.
#[derive(Debug)]
pub(crate) struct Area<P> {
    pub page: P,
    pub gfn: Gfn,
    pub offset: usize,
}

/// A vCPU's vcpu_info, for use.
pub(crate) struct VcpuInfo<'g, P> {
    page: &'g P,
    start: usize,
    width: Width,
}

impl<P: Page> Domain<P> {
    /// The vcpu_info of a vCPU: the one that is registered, else that in shared_info, if there is a slot for it.
    #[inline]
    pub fn vcpu_info<'g>(&'g self, vcpu: VcpuId, guard: &'g Guard<'_>) -> Option<VcpuInfo<'g, P>> {
        let width = self.width();
        let registered = self.vcpu(vcpu).ok().and_then(|vcpu| vcpu.area.load(guard));
        if let Some(area) = registered {
            return Some(VcpuInfo { page: &area.page, start: area.offset, width });
        }
        let start = width.layout().vcpu_info(vcpu.0)?;
        Some(VcpuInfo { page: self.shared_info.load(guard)?, start, width })
    }

    /// Where `vcpu`, whose record is given, has its vcpu_info.
    pub fn vcpu_info_place(&self, record: &Vcpu<P>, vcpu: VcpuId, guard: &Guard<'_>) -> VcpuInfoPlace {
        if let Some(area) = record.area.load(guard) {
            return VcpuInfoPlace::Registered { gfn: area.gfn, offset: area.offset };
        }
        let slot = self.width().layout().vcpu_info(vcpu.0).filter(|_| self.shared_info.is_some());
        slot.map_or(VcpuInfoPlace::Nowhere, |offset| VcpuInfoPlace::SharedInfo { offset })
    }

    /// Fills an area that is about to become a vCPU's vcpu_info.
    pub fn move_vcpu_info(&self, vcpu: VcpuId, area: &Area<P>, guard: &Guard<'_>) {
        let new = VcpuInfo { page: &area.page, start: area.offset, width: self.width() };
        new.fill(self.vcpu_info(vcpu, guard).as_ref());
    }

    /// Announces all ports to a vCPU, and tells it even if its upcall byte was set: what was announced may have been
    /// announced in another place.
    pub fn announce_all(&self, vcpu: VcpuId, guard: &Guard<'_>) -> Told {
        if let Some(info) = self.vcpu_info(vcpu, guard) {
            info.select_all();
            info.mark_upcall();
        }
        self.tell(vcpu)
    }

    /// Lets upcalls into a vCPU.
    pub fn clear_upcall_mask(&self, vcpu: VcpuId, guard: &Guard<'_>) {
        self.vcpu_info(vcpu, guard).inspect(|info| info.set_upcall_mask(0));
    }

    /// Sets the upcall byte of a vCPU; true if bit 0 of it was 0.
    pub fn mark_upcall(&self, vcpu: VcpuId, guard: &Guard<'_>) -> bool {
        self.vcpu_info(vcpu, guard).is_some_and(|info| info.mark_upcall())
    }

    /// `(evtchn_upcall_pending, evtchn_upcall_mask)` of a vCPU; not pending and masked if it has none.
    pub fn upcall_state(&self, vcpu: VcpuId, guard: &Guard<'_>) -> (bool, bool) {
        self.vcpu_info(vcpu, guard).map_or((false, true), |info| info.upcall_state())
    }
}

impl<'g, P: Page> VcpuInfo<'g, P> {
    fn layout(&self) -> &'static Layout {
        self.width.layout()
    }

    /// Sets bit 0 of `evtchn_upcall_pending`; true if it was 0.
    ///
    /// Xen tests bit 0 alone; a guest that writes other bits only hurts itself.
    pub fn mark_upcall(&self) -> bool {
        let offset = self.start + self.layout().upcall_pending;
        let Some(byte) = self.page.u8(offset) else { return false };
        // SeqCst: what was announced before (selector or READY) is seen by whoever clears the byte.
        let edge = byte.fetch_or(1, SeqCst) & 1 == 0;
        if edge {
            self.page.wrote(offset);
        }
        edge
    }

    /// `(evtchn_upcall_pending, evtchn_upcall_mask)`, as booleans.
    fn upcall_state(&self) -> (bool, bool) {
        let byte = |at: usize| self.page.u8(self.start + at).map(|byte| byte.load(SeqCst) != 0);
        let pending = byte(self.layout().upcall_pending).unwrap_or(false);
        (pending, self.layout().upcall_mask.and_then(byte).unwrap_or(false))
    }

    /// Sets `evtchn_upcall_mask`, where there is one.
    fn set_upcall_mask(&self, value: u8) {
        if let Some(at) = self.layout().upcall_mask {
            self.store_byte(self.start + at, value);
        }
    }

    fn store_byte(&self, offset: usize, value: u8) {
        if let Some(byte) = self.page.u8(offset) {
            byte.store(value, SeqCst);
            self.page.wrote(offset);
        }
    }

    /// Takes over the contents of another one, all but the selector. In the place of none come zeroes, with upcalls
    /// held back.
    ///
    /// What others may write to at the same time, the upcall bytes, is copied in its own width.
    fn fill(&self, old: Option<&Self>) {
        let layout = self.layout();
        for at in 0..layout.pending_sel {
            let byte = old.and_then(|old| old.page.u8(old.start + at));
            self.store_byte(self.start + at, byte.map_or(0, |byte| byte.load(SeqCst)));
        }
        for at in (layout.pending_sel + layout.word_size..layout.vcpu_info_size).step_by(4) {
            let word = old.and_then(|old| old.page.u32(old.start + at)).map_or(0, |word| word.load(SeqCst));
            if let Some(new) = self.page.u32(self.start + at) {
                new.store(word, SeqCst);
                self.page.wrote(self.start + at);
            }
        }
        if old.is_none() {
            self.set_upcall_mask(1);
        }
    }

    /// Sets all bits of the selector.
    fn select_all(&self) {
        let offset = self.start + self.layout().pending_sel;
        let stored = match self.width {
            Width::Bits64 => self.page.u64(offset).map(|selector| selector.store(u64::MAX, SeqCst)),
            Width::Bits32 => self.page.u32(offset).map(|selector| selector.store(u32::MAX, SeqCst)),
        };
        if stored.is_some() {
            self.page.wrote(offset);
        }
    }

    /// The page and the offset of the selector.
    #[inline]
    pub fn selector(&self, layout: &Layout) -> (&'g P, usize) {
        (self.page, self.start + layout.pending_sel)
    }
}
