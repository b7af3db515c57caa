// SPDX-License-Identifier: GPL-2.0
//! What `/proc/interrupts` calls the interrupts of a file: `evtchn:` and the name of the program that opened it.

use evtchn_abi::Errno;
use evtchn_device::node::INTERRUPT_NAME_PREFIX;
use kernel::ffi::c_char;
use kernel::prelude::*;
use kernel::task::Task;

/// A name, which ends in a zero byte.
pub(crate) struct InterruptName(KVec<u8>);

impl InterruptName {
    /// The name for files of the program that is running. The error is ENOMEM.
    pub(crate) fn of_current_program() -> Result<Self, Errno> {
        let mut name = KVec::new();
        name.extend_from_slice(INTERRUPT_NAME_PREFIX.as_bytes(), GFP_KERNEL).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: The running task exists. Others may rename it at any moment, but its last byte is always zero.
        let comm = unsafe { (&raw const (*Task::current_raw()).comm).read_volatile() };
        for byte in comm.into_iter().take_while(|byte| *byte != 0) {
            name.push(byte as u8, GFP_KERNEL).map_err(|_| Errno::ENOMEM)?;
        }
        name.push(0, GFP_KERNEL).map_err(|_| Errno::ENOMEM)?;
        Ok(Self(name))
    }

    /// The name as C wants it, for as long as this is there.
    pub(crate) fn as_char_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}
