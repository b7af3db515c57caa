// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page trait.

use crate::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Bytes in a page.
pub const PAGE_SIZE: usize = 4096;

/// One page shared with another party.
///
/// Offsets count bytes from the start of the page. An access that is not naturally aligned or does
/// not lie wholly inside the page answers `None`; an implementation may also answer `None` for a page
/// that is gone. Whoever uses a page must cope with that, so an embedder can withdraw one.
///
/// The methods are called by readers (see [`enter`](crate::enter)), and by the engine under its locks: they must not block, nor call
/// what called them.
///
/// Fields of a shared page have one width each (`evtchn_pending` is an array of 64-bit words for a
/// 64-bit guest), and both sides use that width. A field must not be raced on with two widths.
pub trait Page: Send + Sync {
    /// The byte at `offset`.
    fn u8(&self, offset: usize) -> Option<&AtomicU8>;

    /// The 32-bit word at `offset`.
    fn u32(&self, offset: usize) -> Option<&AtomicU32>;

    /// The 64-bit word at `offset`.
    fn u64(&self, offset: usize) -> Option<&AtomicU64>;

    /// Called after each store into the field at `offset`, for the sake of dirty logs. Does nothing
    /// unless overridden.
    #[inline]
    fn wrote(&self, offset: usize) {
        let _ = offset;
    }
}

macro_rules! forward {
    ($($(#[$attr:meta])* [$($generics:tt)*] $type:ty;)*) => {
        $($(#[$attr])*
        impl<$($generics)*> Page for $type {
            #[inline]
            fn u8(&self, offset: usize) -> Option<&AtomicU8> {
                (**self).u8(offset)
            }

            #[inline]
            fn u32(&self, offset: usize) -> Option<&AtomicU32> {
                (**self).u32(offset)
            }

            #[inline]
            fn u64(&self, offset: usize) -> Option<&AtomicU64> {
                (**self).u64(offset)
            }

            #[inline]
            fn wrote(&self, offset: usize) {
                (**self).wrote(offset);
            }
        })*
    };
}

forward! {
    [P: Page + ?Sized] &P;
    #[cfg(feature = "alloc")]
    [P: Page + ?Sized] alloc::sync::Arc<P>;
    #[cfg(feature = "alloc")]
    [P: Page + ?Sized] alloc::boxed::Box<P>;
}
