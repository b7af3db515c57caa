// SPDX-License-Identifier: MIT OR Apache-2.0
//! The local APIC, by which upcalls come if each vCPU has a vector of its own.

use core::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Where its registers are after a reset: the one that switches it on, and the one for the end of an interrupt.
const BASE: usize = 0xfee0_0000;
const SPURIOUS: usize = 0xf0;
const END: usize = 0xb0;
/// Switched on, with a vector for spurious interrupts.
const ON: u32 = 0x1ff;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Switches it on.
pub fn start() {
    write(SPURIOUS, ON);
    IS_ON.store(true, SeqCst);
}

/// An upcall is being handled: the next may come when interrupts are let in.
pub fn acknowledge() {
    if IS_ON.load(SeqCst) {
        write(END, 0);
    }
}

fn write(register: usize, value: u32) {
    // SAFETY: a register of this processor's, which is mapped to itself.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(BASE + register).write_volatile(value) };
}
