// SPDX-License-Identifier: GPL-2.0
//! The device node: a miscellaneous device with a dynamic minor number, which devtmpfs shows as `/dev/xen/evtchn`, 0600.
//!
//! `kernel::miscdevice` is not used: its table has neither poll nor fasync, and no owner, so the module could be unloaded under
//! an open file.

use kernel::prelude::*;
use kernel::{bindings, c_str, error::to_result, types::Opaque};

use crate::operations;

/// The registered node. Dropping it takes the node away; that happens only once no file is open, as files hold the module.
#[pin_data(PinnedDrop)]
pub(crate) struct Node {
    /// What the registered device points to.
    #[pin]
    operations: Opaque<bindings::file_operations>,
    #[pin]
    device: Opaque<bindings::miscdevice>,
}

// SAFETY: misc_register and misc_deregister may be called from any thread; nothing else is done with the fields.
unsafe impl Send for Node {}
// SAFETY: There is nothing to do with a shared reference.
unsafe impl Sync for Node {}

impl Node {
    /// Registers the node: open files hold `module`.
    pub(crate) fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            operations <- Opaque::ffi_init(|slot: *mut bindings::file_operations| {
                // SAFETY: The slot is ours to fill, and valid for writes.
                unsafe { slot.write(operations::table(module.as_ptr())) }
            }),
            device <- Opaque::try_ffi_init(|slot: *mut bindings::miscdevice| {
                let device = bindings::miscdevice {
                    minor: bindings::MISC_DYNAMIC_MINOR as kernel::ffi::c_int,
                    name: kernel::str::as_char_ptr_in_const_context(c_str!("xen/evtchn")),
                    fops: operations.get(),
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot is ours to fill, and valid for writes.
                unsafe { slot.write(device) };
                // SAFETY: The device is initialised, and stays at its address until it is deregistered in `drop`.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        }? Error)
    }
}

#[pinned_drop]
impl PinnedDrop for Node {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: It was registered by `new`, or there would be no value to drop.
        unsafe { bindings::misc_deregister(self.device.get()) };
    }
}
