// SPDX-License-Identifier: GPL-2.0
//! What `/proc/interrupts` calls the interrupts of a file: `evtchn:` and the name of the program that opened it.

use evtchn_device::node::INTERRUPT_NAME_PREFIX as PREFIX;
use kernel::bindings;
use kernel::ffi::c_char;
use kernel::task::Task;

/// The length of a program's name, its zero byte included.
const COMM: usize = bindings::TASK_COMM_LEN as usize;

/// A name, which ends in a zero byte.
// Simulated interrupts have no names.
#[cfg_attr(evtchn_sim, allow(dead_code))]
pub(crate) struct InterruptName([u8; PREFIX.len() + COMM]);

#[cfg_attr(evtchn_sim, allow(dead_code))]
impl InterruptName {
    /// The name for files of the program that is running.
    pub(crate) fn of_current_program() -> Self {
        // SAFETY: The running task exists. Others may rename it at any moment, but its last byte is always zero.
        let comm: [c_char; COMM] = unsafe { (&raw const (*Task::current_raw()).comm).read_volatile() };
        let mut name = [0; PREFIX.len() + COMM];
        let mut to = name.iter_mut();
        // The prefix is shorter than the name, so this runs to its end; the zip asks it first and takes nothing of `to` then.
        for (from, to) in PREFIX.bytes().zip(&mut to) {
            *to = from;
        }
        for (to, from) in to.zip(comm) {
            *to = from;
        }
        if let Some(last) = name.last_mut() {
            *last = 0;
        }
        Self(name)
    }

    /// The name as C wants it, for as long as this stays where it is.
    pub(crate) fn as_char_ptr(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}
