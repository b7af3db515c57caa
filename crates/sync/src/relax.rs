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

/// Waits until `ready` says so, but no longer than some microseconds if all threads are running; whether it did.
pub(crate) fn wait_briefly(ready: impl Fn() -> bool) -> bool {
    #[cfg(not(any(loom, shuttle)))]
    const SPINS: u32 = 500;
    #[cfg(any(loom, shuttle))]
    const SPINS: u32 = 0;
    const TURNS: u32 = 20;
    let spin = |_| {
        core::hint::spin_loop();
        ready()
    };
    // Where there are more threads than processors, whom we wait for may not be running.
    let give_way = |_| {
        relax();
        ready()
    };
    ready() || (0..SPINS).any(spin) || (0..TURNS).any(give_way)
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
