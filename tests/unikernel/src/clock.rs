// SPDX-License-Identifier: MIT OR Apache-2.0
//! System time, in nanoseconds: what Xen says in vCPU 0's `vcpu_info`, carried on by the processor's counter (`xen.h`).

use core::sync::atomic::Ordering::SeqCst;

use evtchn_sync::{HeapPage, Page};

/// Where the time is in the `vcpu_info` of a 64-bit guest.
const TIME: usize = 32;

/// The time now; 0 before Xen has written it.
pub fn now(shared_info: &HeapPage) -> u64 {
    loop {
        if let Some(time) = read(shared_info) {
            return time;
        }
    }
}

/// `None` if Xen has written meanwhile: an odd version, or another one.
fn read(page: &HeapPage) -> Option<u64> {
    let version = page.u32(TIME)?.load(SeqCst);
    let (counter, base) = (page.u64(TIME + 8)?.load(SeqCst), page.u64(TIME + 16)?.load(SeqCst));
    let (factor, shift) = (page.u32(TIME + 24)?.load(SeqCst), page.u8(TIME + 28)?.load(SeqCst) as i8);
    // SAFETY: reads a counter.
    let ticks = unsafe { core::arch::x86_64::_rdtsc() }.wrapping_sub(counter);
    if version & 1 != 0 || page.u32(TIME)?.load(SeqCst) != version {
        return None;
    }
    let shifted = if shift < 0 { ticks >> shift.unsigned_abs() } else { ticks << shift };
    let passed = (u128::from(shifted) * u128::from(factor)) >> 32;
    Some(base.wrapping_add(passed as u64))
}
