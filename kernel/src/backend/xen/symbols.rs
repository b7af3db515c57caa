// SPDX-License-Identifier: GPL-2.0
//! What Linux's Xen code exports and the `kernel` crate does not know (`xen/events.h`, `asm/xen/hypervisor.h`).
//!
//! All but `xen_vcpu_id` and `__per_cpu_offset` are for GPL modules only.

use core::ffi::c_void;

use kernel::ffi::{c_int, c_uint, c_ulong};

unsafe extern "C" {
    /// The interrupt of a port, made if it has none: then without a handler, masked, its end told by `xen_irq_lateeoi`. Or a
    /// negative errno.
    pub(super) fn bind_evtchn_to_irq_lateeoi(port: u32) -> c_int;
    /// Removes a handler, waits for it, and takes a reference of the interrupt away.
    pub(super) fn unbind_from_irqhandler(irq: c_uint, data: *mut c_void);
    /// The interrupt of a port, or -1.
    pub(super) fn irq_from_evtchn(port: u32) -> c_int;
    /// Makes an interrupt counted, with a count of one. A static port is not closed when the count is used up.
    pub(super) fn evtchn_make_refcounted(port: u32, is_static: bool) -> c_int;
    /// Takes a reference of a counted interrupt. Or a negative errno.
    pub(super) fn evtchn_get(port: u32) -> c_int;
    /// Gives a reference back.
    pub(super) fn evtchn_put(port: u32);
    /// Lets an interrupt come again.
    pub(super) fn xen_irq_lateeoi(irq: c_uint, flags: c_uint);
    /// How many port numbers can be used now.
    pub(super) fn xen_evtchn_nr_channels() -> c_uint;

    /// Per CPU: Xen's number of that CPU.
    static xen_vcpu_id: c_uint;
    /// How far each CPU's variables are from their symbols' addresses.
    static __per_cpu_offset: [c_ulong; 1];
}

/// Xen's number of Linux's CPU 0.
pub(super) fn vcpu_of_cpu_0() -> u32 {
    // SAFETY: The table has an entry for CPU 0 in every kernel, written while the machine boots.
    let offset = unsafe { (&raw const __per_cpu_offset).cast::<c_ulong>().read() };
    let variable = (&raw const xen_vcpu_id).cast::<u8>().wrapping_add(offset).cast::<c_uint>();
    // SAFETY: That is where CPU 0's copy of the variable lies; it does not change while the CPU is there.
    unsafe { variable.read() }
}
