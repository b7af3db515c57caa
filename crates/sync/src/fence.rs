// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences.

/// A full fence for a thread whose last access to memory was an atomic read-modify-write.
///
/// On x86 a locked instruction is a full fence already, so only the compiler must be held back.
/// Elsewhere, and in a model checker, this is a sequentially consistent fence.
#[inline(always)]
pub fn fence_after_rmw() {
    use crate::atomic::Ordering::SeqCst;

    #[cfg(all(any(target_arch = "x86", target_arch = "x86_64"), not(any(loom, shuttle, miri))))]
    core::sync::atomic::compiler_fence(SeqCst);
    #[cfg(not(all(any(target_arch = "x86", target_arch = "x86_64"), not(any(loom, shuttle, miri)))))]
    crate::atomic::fence(SeqCst);
}
