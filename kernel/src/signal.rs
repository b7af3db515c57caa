// SPDX-License-Identifier: GPL-2.0
//! SIGIO for those who asked for it (`O_ASYNC`).

use core::cell::UnsafeCell;
use core::ptr;

use kernel::bindings;
use kernel::ffi::c_int;

/// The list of those who want a signal. The kernel protects it by itself.
pub(crate) struct Signals(UnsafeCell<*mut bindings::fasync_struct>);

// SAFETY: `fasync_helper` and `kill_fasync` lock what the pointer leads to.
unsafe impl Send for Signals {}
// SAFETY: As above.
unsafe impl Sync for Signals {}

impl Signals {
    /// Nobody wants a signal.
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(ptr::null_mut()))
    }

    /// Sends SIGIO, band POLL_IN. May be called in interrupt context.
    pub(crate) fn send(&self) {
        // SAFETY: The list is one that `change` keeps.
        unsafe { bindings::kill_fasync(self.0.get(), bindings::SIGIO as c_int, bindings::POLL_IN as c_int) };
    }

    /// Adds a descriptor to the list or takes it off.
    ///
    /// # Safety
    ///
    /// The arguments are those that the file's `fasync` was called with.
    pub(crate) unsafe fn change(&self, descriptor: c_int, file: *mut bindings::file, on: c_int) -> c_int {
        // SAFETY: The caller's promise. The VFS takes every entry off before the file goes.
        unsafe { bindings::fasync_helper(descriptor, file, on, self.0.get()) }
    }
}
