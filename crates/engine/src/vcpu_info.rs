// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU's vcpu_info: its upcall bytes and, in the two-level ABI, its selector.

use evtchn_abi::{Layout, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{Guard, Page};

use crate::config::Width;
use crate::domain::Domain;

/// Where a vCPU's vcpu_info is.
pub(crate) struct VcpuInfo<'g, P> {
    page: &'g P,
    start: usize,
    width: Width,
}

impl<P: Page> Domain<P> {
    /// The vcpu_info of a vCPU. Those beyond the slots of shared_info have none.
    #[inline]
    pub fn vcpu_info<'g>(&'g self, vcpu: VcpuId, guard: &'g Guard<'_>) -> Option<VcpuInfo<'g, P>> {
        let width = self.width();
        let start = width.layout().vcpu_info(vcpu.0)?;
        Some(VcpuInfo { page: self.shared_info.load(guard)?, start, width })
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

impl<P: Page> VcpuInfo<'_, P> {
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

    /// Sets the selector bit of a word of ports; whether it was set. `None`: no such bit.
    pub fn select(&self, word: u32) -> Option<bool> {
        let offset = self.start + self.layout().pending_sel;
        let was = match self.width {
            Width::Bits64 => self.page.u64(offset)?.fetch_or(1 << word, SeqCst) >> word & 1 == 1,
            Width::Bits32 => self.page.u32(offset)?.fetch_or(1 << word, SeqCst) >> word & 1 == 1,
        };
        if !was {
            self.page.wrote(offset);
        }
        Some(was)
    }

    /// The selector bit of a word of ports.
    pub fn is_selected(&self, word: u32) -> bool {
        let offset = self.start + self.layout().pending_sel;
        let selector = match self.width {
            Width::Bits64 => self.page.u64(offset).map(|selector| selector.load(SeqCst)),
            Width::Bits32 => self.page.u32(offset).map(|selector| u64::from(selector.load(SeqCst))),
        };
        selector.is_some_and(|selector| selector >> word & 1 == 1)
    }
}
