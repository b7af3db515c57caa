// SPDX-License-Identifier: MIT OR Apache-2.0
//! Words of the guest's width in a shared page. A word that the page does not have is 0, and stays so.
//!
//! Every access is sequentially consistent: who sets one thing and then looks at another is seen, or sees.

use evtchn_abi::Layout;
use evtchn_sync::Page;
use evtchn_sync::atomic::Ordering::SeqCst;

/// Before a load that must not be older than the program's last store. Loom takes sequentially consistent accesses for such as
/// acquire and release: in a model a fence makes them what they are.
#[inline(always)]
pub(crate) fn in_order() {
    #[cfg(loom)]
    evtchn_sync::atomic::fence(SeqCst);
}

/// A word as it is now.
#[inline]
pub(crate) fn get(page: &impl Page, layout: &Layout, offset: usize) -> u64 {
    in_order();
    match layout.word_size {
        8 => page.u64(offset).map_or(0, |word| word.load(SeqCst)),
        _ => page.u32(offset).map_or(0, |word| word.load(SeqCst).into()),
    }
}

/// Sets bits; the word as it was.
#[inline]
#[allow(clippy::cast_possible_truncation)] // a narrow word takes the lower half
pub(crate) fn set(page: &impl Page, layout: &Layout, offset: usize, bits: u64) -> u64 {
    let was = match layout.word_size {
        8 => page.u64(offset).map_or(0, |word| word.fetch_or(bits, SeqCst)),
        _ => page.u32(offset).map_or(0, |word| word.fetch_or(bits as u32, SeqCst).into()),
    };
    page.wrote(offset);
    was
}

/// Takes a whole word, which is 0 then.
#[inline]
pub(crate) fn take(page: &impl Page, layout: &Layout, offset: usize) -> u64 {
    let was = match layout.word_size {
        8 => page.u64(offset).map_or(0, |word| word.swap(0, SeqCst)),
        _ => page.u32(offset).map_or(0, |word| word.swap(0, SeqCst).into()),
    };
    page.wrote(offset);
    was
}

/// Clears bits; the word as it was.
#[inline]
#[allow(clippy::cast_possible_truncation)] // a narrow word takes the lower half
pub(crate) fn clear(page: &impl Page, layout: &Layout, offset: usize, bits: u64) -> u64 {
    let was = match layout.word_size {
        8 => page.u64(offset).map_or(0, |word| word.fetch_and(!bits, SeqCst)),
        _ => page.u32(offset).map_or(0, |word| word.fetch_and(!bits as u32, SeqCst).into()),
    };
    page.wrote(offset);
    was
}
