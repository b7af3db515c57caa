// SPDX-License-Identifier: GPL-2.0
//! The table of channels behind its lock, and the work that calls handlers in interrupt context.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::lock::Guard;

use super::channels::Channels;
use crate::irq_lock::{IrqLock, IrqSave, new_irq_lock};

/// What the module has one of.
struct Machine {
    channels: MaybeUninit<IrqLock<Channels>>,
    work: MaybeUninit<bindings::irq_work>,
}

/// Memory for the machine, initialised when the module is loaded.
struct Global(UnsafeCell<Machine>);

// SAFETY: After `init` the lock protects the channels, and the kernel the work.
unsafe impl Sync for Global {}

static MACHINE: Global =
    Global(UnsafeCell::new(Machine { channels: MaybeUninit::uninit(), work: MaybeUninit::uninit() }));

/// Makes lock and work usable. The module does it once, when it is loaded.
pub(super) fn init() {
    // SAFETY: Nobody else runs yet.
    let machine = unsafe { &mut *MACHINE.0.get() };
    let mut work: bindings::irq_work = pin_init::zeroed();
    work.func = Some(run);
    machine.work.write(work);
    let lock = new_irq_lock!(Channels::new(), "evtchn_sim");
    // SAFETY: The memory is static, so it is pinned; it is written once.
    let Ok(()) = unsafe { lock.__pinned_init(machine.channels.as_mut_ptr()) };
}

/// Locks the channels.
pub(super) fn lock() -> Guard<'static, Channels, IrqSave> {
    // SAFETY: `init` was called before anything else here.
    let machine = unsafe { &*MACHINE.0.get() };
    // SAFETY: As above.
    unsafe { machine.channels.assume_init_ref() }.lock()
}

/// Has the handlers of ports that are due called soon, on this CPU, in interrupt context.
pub(super) fn kick() {
    // SAFETY: `init` was called before.
    unsafe { bindings::irq_work_queue(work()) };
}

/// Waits until no handler runs and none will.
pub(super) fn wait() {
    // SAFETY: `init` was called before.
    unsafe { bindings::irq_work_sync(work()) };
}

fn work() -> *mut bindings::irq_work {
    // SAFETY: Only the address is taken.
    unsafe { (&raw mut (*MACHINE.0.get()).work).cast() }
}

/// # Safety
///
/// The kernel calls it, in interrupt context.
unsafe extern "C" fn run(_: *mut bindings::irq_work) {
    loop {
        let Some((port, handlers)) = lock().next_due() else { return };
        for handler in handlers.into_iter().flatten() {
            // SAFETY: A handler is not detached while its port counts as running.
            unsafe { handler.as_ref() }.fired();
        }
        lock().done(port);
    }
}
