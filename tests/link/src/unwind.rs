// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unwinding, which never happens here: panics abort. But `core` and `alloc` come compiled for a target whose panics
//! unwind, and name these two. On a bare-metal target they do not.

/// Named by the tables for unwinding, which nobody reads.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Called at the end of a clean-up, of which there is none.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    crate::exit(102)
}
