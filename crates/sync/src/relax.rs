// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for another processor.

/// How often to look before the processor is given away, where that is possible.
#[cfg(feature = "std")]
const SPINS: u32 = 64;

/// Waits until `ready` says so.
///
/// With the feature `std` the processor is given away after a while: on a machine with more threads
/// than processors, whom we wait for may not be running.
#[inline]
pub(crate) fn wait_until(ready: impl Fn() -> bool) {
    #[cfg(feature = "std")]
    for _ in 0..SPINS {
        if ready() {
            return;
        }
        core::hint::spin_loop();
    }
    while !ready() {
        #[cfg(feature = "std")]
        std::thread::yield_now();
        #[cfg(not(feature = "std"))]
        core::hint::spin_loop();
    }
}
