// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for another processor.

/// How often to look before the processor is given away, where that is possible.
#[cfg(all(feature = "std", not(any(loom, shuttle))))]
const SPINS: u32 = 64;

/// Waits until `ready` says so.
///
/// With the feature `std` the processor is given away after a while: on a machine with more threads
/// than processors, whom we wait for may not be running.
#[inline]
pub(crate) fn wait_until(ready: impl Fn() -> bool) {
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    for _ in 0..SPINS {
        if ready() {
            return;
        }
        core::hint::spin_loop();
    }
    while !ready() {
        relax();
    }
}

/// Lets others run: for loops that wait for what another thread does.
pub fn relax() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(shuttle)]
    shuttle::thread::yield_now();
    #[cfg(all(feature = "std", not(any(loom, shuttle))))]
    std::thread::yield_now();
    #[cfg(not(any(feature = "std", loom, shuttle)))]
    core::hint::spin_loop();
}
