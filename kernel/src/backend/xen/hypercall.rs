// SPDX-License-Identifier: GPL-2.0
//! The hypercall of event channels.

use core::arch::asm;

use evtchn_abi::{Errno, Hypercall, Op};

#[cfg(not(CONFIG_X86_64))]
compile_error!("only x86-64 is supported: elsewhere a hypercall is made in another way");

/// Does an operation on event channels, whose argument Xen reads from `bytes` and writes its results to.
#[inline]
pub(super) fn event_channel_op<const N: usize>(op: Op, bytes: &mut [u8; N]) -> Result<(), Errno> {
    let result: i64;
    // SAFETY: Xen reads and writes the argument of the operation and nothing else, and changes the registers that are named
    // here at most. The loader turns the call into the one that fits the machine (PV, AMD, Intel).
    unsafe {
        asm!(
            "call __SCT__xen_hypercall",
            inlateout("rax") Hypercall::EVENT_CHANNEL_OP.0 => result,
            inlateout("rdi") u64::from(op.0) => _,
            inlateout("rsi") bytes.as_mut_ptr() => _,
            lateout("rdx") _,
            lateout("r10") _,
            lateout("r8") _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match Errno::from_result(result) {
        Some(errno) => Err(errno),
        None => Ok(()),
    }
}
