// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fences.

/// Is an atomic read-modify-write of any program a full fence on this processor?
///
/// If so, a sender may look at a bit and leave it alone if it is set: whoever clears it with a read-modify-write, and looks
/// for news afterwards, does that in this order. Elsewhere guests clear bits without a fence (so does Linux on Arm), and only a
/// read-modify-write of the sender's meets theirs.
pub const RMW_IS_FENCE: bool = cfg!(any(target_arch = "x86", target_arch = "x86_64"));

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
