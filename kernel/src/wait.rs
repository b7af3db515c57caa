// SPDX-License-Identifier: GPL-2.0
//! A queue of threads that wait for a condition, and of pollers. It can be woken in interrupt context.
//!
//! `kernel::sync::PollCondVar` is not used: its waiters give a lock up while they sleep, which would have to be the producer
//! lock. The ring needs no lock for this: see "Waiting without losing a wake-up" in `evtchn_device::ring`.

use core::ptr;

use evtchn_abi::Errno;
use kernel::bindings;
use kernel::ffi::c_int;
use kernel::prelude::*;
use kernel::types::Opaque;

/// "Start the call again after the signal, or return EINTR": never seen by programs.
const ERESTARTSYS: Errno = Errno(bindings::ERESTARTSYS as u16);

/// A wait queue. Pollers register with a file, so they are gone before the file's queue goes.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    head: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue is made to be used by several threads at once.
unsafe impl Send for WaitQueue {}
// SAFETY: As above.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    /// An empty queue.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            head <- Opaque::ffi_init(|slot| {
                let name = kernel::str::as_char_ptr_in_const_context(kernel::c_str!("evtchn_readers"));
                // SAFETY: The slot is ours to fill; name and key live for ever.
                unsafe { bindings::__init_waitqueue_head(slot, name, kernel::static_lock_class!().as_ptr()) }
            }),
        })
    }

    /// Sleeps until `condition` holds. It is looked at after this thread has registered, so a [`WaitQueue::wake`] that
    /// follows a change of it is not missed. The error is ERESTARTSYS: a signal came first.
    pub(crate) fn wait(&self, condition: impl Fn() -> bool) -> Result<(), Errno> {
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // SAFETY: The entry may be written.
        unsafe { bindings::init_wait_entry(entry.get(), 0) };
        let result = loop {
            let state = bindings::TASK_INTERRUPTIBLE as c_int;
            // SAFETY: Queue and entry are initialised; `finish_wait` takes the entry off before it goes.
            let signalled = unsafe { bindings::prepare_to_wait_event(self.head.get(), entry.get(), state) };
            if condition() {
                break Ok(());
            }
            if signalled != 0 {
                break Err(ERESTARTSYS);
            }
            // SAFETY: No lock is held.
            unsafe { bindings::schedule() };
        };
        // SAFETY: As above.
        unsafe { bindings::finish_wait(self.head.get(), entry.get()) };
        result
    }

    /// Wakes every waiter and poller.
    pub(crate) fn wake(&self) {
        // One of those that want to be alone: there are none of that kind, so all of the others.
        // SAFETY: The queue is initialised.
        unsafe { bindings::__wake_up(self.head.get(), bindings::TASK_INTERRUPTIBLE, 1, ptr::null_mut()) };
    }

    /// Lets a poll of `file` wait here.
    ///
    /// # Safety
    ///
    /// `file` is an open file that this queue belongs to, and `table` what its poll was called with.
    pub(crate) unsafe fn register(&self, file: *mut bindings::file, table: *mut bindings::poll_table_struct) {
        // SAFETY: The caller's promise; the queue is initialised.
        unsafe { bindings::poll_wait(file, self.head.get(), table) };
    }
}
