// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU's `evtchn_upcall_pending`: Xen says "look", with either ABI.

use evtchn_abi::{Layout, VcpuId};
use evtchn_sync::Page;
use evtchn_sync::atomic::{AtomicU8, Ordering::SeqCst};

/// Where the flag is in shared_info; `None` for a vCPU that has no vcpu_info there.
fn offset(layout: &Layout, vcpu: VcpuId) -> Option<usize> {
    layout.vcpu_info(vcpu.0)?.checked_add(layout.upcall_pending)
}

fn flag<'a>(page: &'a impl Page, layout: &Layout, vcpu: VcpuId) -> Option<(usize, &'a AtomicU8)> {
    let offset = offset(layout, vcpu)?;
    Some((offset, page.u8(offset)?))
}

/// Is an upcall waiting?
pub(crate) fn is_pending(page: &impl Page, layout: &Layout, vcpu: VcpuId) -> bool {
    flag(page, layout, vcpu).is_some_and(|(_, flag)| flag.load(SeqCst) != 0)
}

/// Clears the flag; whether it was set.
pub(crate) fn take(page: &impl Page, layout: &Layout, vcpu: VcpuId) -> bool {
    if !is_pending(page, layout, vcpu) {
        return false;
    }
    let Some((offset, flag)) = flag(page, layout, vcpu) else { return false };
    let taken = flag.swap(0, SeqCst) != 0;
    page.wrote(offset);
    taken
}

/// Sets the flag, for what this vCPU leaves to itself.
pub(crate) fn set(page: &impl Page, layout: &Layout, vcpu: VcpuId) {
    if let Some((offset, flag)) = flag(page, layout, vcpu) {
        flag.store(1, SeqCst);
        page.wrote(offset);
    }
}
