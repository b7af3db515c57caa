// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upcall bytes of a vCPU, in the page that is its domain's shared_info. Both ABIs use them.

use core::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{Layout, VcpuId};
use evtchn_sync::Page;

/// Sets bit 0 of `evtchn_upcall_pending`; true if it was 0. vCPUs beyond the slots have no such byte.
///
/// Xen tests bit 0 alone; a guest that writes other bits only hurts itself.
pub(crate) fn mark_upcall<P: Page>(page: &P, layout: &Layout, vcpu: VcpuId) -> bool {
    let Some(info) = layout.vcpu_info(vcpu.0) else { return false };
    let offset = info + layout.upcall_pending;
    let Some(byte) = page.u8(offset) else { return false };
    // SeqCst: what was announced before (selector or READY) is seen by whoever clears the byte.
    let edge = byte.fetch_or(1, SeqCst) & 1 == 0;
    if edge {
        page.wrote(offset);
    }
    edge
}

/// `(evtchn_upcall_pending, evtchn_upcall_mask)` of the vCPU, as booleans.
pub(crate) fn upcall_state<P: Page>(page: &P, layout: &Layout, vcpu: VcpuId) -> (bool, bool) {
    let byte = |at: usize| {
        let offset = layout.vcpu_info(vcpu.0)? + at;
        Some(page.u8(offset)?.load(SeqCst) != 0)
    };
    let pending = byte(layout.upcall_pending).unwrap_or(false);
    (pending, layout.upcall_mask.and_then(byte).unwrap_or(false))
}
