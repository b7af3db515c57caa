// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program needs that has neither std nor libc: a beginning, an end, memory functions, and a heap if it asks for
//! one. A kernel has its own of each.
#![no_std]

mod exit;
mod heap;
mod memory;
mod unwind;

use core::panic::PanicInfo;

pub use exit::exit;
pub use heap::Heap;

/// One thing to try: `None` if it went wrong.
pub type Step = fn() -> Option<()>;

/// Where the program begins; `steps` is a constant slice of [`Step`]s.
///
/// The exit status is 0 if all went well, or the number of the first step that did not, counted from 1.
#[macro_export]
macro_rules! program {
    ($steps:expr) => {
        #[cfg(target_arch = "x86_64")]
        core::arch::global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call begin");
        #[cfg(target_arch = "aarch64")]
        core::arch::global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x30, xzr", "b begin");

        #[unsafe(no_mangle)]
        extern "C" fn begin() -> ! {
            $crate::exit($crate::first_failure($steps))
        }
    };
}

/// Runs the steps in turn; the exit status.
#[must_use]
pub fn first_failure(steps: &[Step]) -> u8 {
    let failed = steps.iter().position(|step| step().is_none());
    failed.map_or(0, |step| u8::try_from(step + 1).unwrap_or(u8::MAX))
}

/// `Some` if it is true, for use with `?`.
#[must_use]
pub fn check(holds: bool) -> Option<()> {
    holds.then_some(())
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}
