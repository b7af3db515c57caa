// SPDX-License-Identifier: GPL-2.0
//! A spinning lock that keeps interrupts off while it is held, so that an interrupt handler may take it too.
//!
//! The `kernel` crate has no such lock, but lets others bring one: its locks are generic over a [`Backend`].

use kernel::bindings;
use kernel::ffi::{c_char, c_ulong};
use kernel::sync::lock::{Backend, Lock};

// With the real-time patches a spinlock sleeps, and the code below would take it for one that does not.
#[cfg(CONFIG_PREEMPT_RT)]
compile_error!("kernels with PREEMPT_RT are not supported");

/// A value behind the lock.
pub(crate) type IrqLock<T> = Lock<T, IrqSave>;

/// Makes an initialiser of an [`IrqLock`] with the given value and name.
macro_rules! new_irq_lock {
    ($value:expr, $name:literal) => {
        $crate::irq_lock::IrqLock::new($value, kernel::c_str!($name), kernel::static_lock_class!())
    };
}
pub(crate) use new_irq_lock;

/// How an [`IrqLock`] locks.
pub(crate) struct IrqSave;

// SAFETY: The kernel's spinlock excludes others, and is unlocked by the same code path that locked it.
unsafe impl Backend for IrqSave {
    type State = bindings::spinlock_t;
    /// Whether interrupts were on.
    type GuardState = c_ulong;

    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: The caller's promise: the state may be written, name and key live for ever.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: The caller's promise: the lock is initialised. Without PREEMPT_RT a spinlock begins with its raw lock.
        unsafe { bindings::_raw_spin_lock_irqsave(ptr.cast()) }
    }

    unsafe fn try_lock(_: *mut Self::State) -> Option<Self::GuardState> {
        None
    }

    unsafe fn unlock(ptr: *mut Self::State, flags: &Self::GuardState) {
        // SAFETY: The caller's promise: it holds the lock, and these are the flags that locking it gave.
        unsafe { bindings::_raw_spin_unlock_irqrestore(ptr.cast(), *flags) }
    }

    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: The caller's promise: the lock is initialised.
        unsafe { bindings::spin_assert_is_held(ptr) }
    }
}
