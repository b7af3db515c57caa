// SPDX-License-Identifier: MIT OR Apache-2.0
//! The page that a domain shares with Xen, `shared_info`, and the part of it that each vCPU has, `vcpu_info` (`xen.h`).
//!
//! Its layout depends on the machine and, on x86, on whether the guest uses 64-bit or 32-bit words. A [`Layout`]
//! holds the offsets of one of them.

use crate::{Port, two_level};

/// Where everything is in `shared_info` and `vcpu_info`. Offsets are bytes.
///
/// ```
/// use evtchn_abi::{Layout, Port};
///
/// let layout = Layout::X86_64;
/// assert_eq!(layout.word_and_bit(Port(70)), Some((1, 6)));
/// assert_eq!(layout.pending_word(1), Some(2048 + 8));
/// assert_eq!(layout.vcpu_info(31), Some(31 * 64));
/// assert_eq!(layout.vcpu_info(32), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// The bits of a word (`xen_ulong_t`), 64 or 32. Also the number of pending words, and of mask words.
    pub word_bits: u32,
    /// The bytes of a word, 8 or 4.
    pub word_size: usize,
    /// How many vCPUs have their `vcpu_info` in the page; the others must register one elsewhere.
    #[doc(alias = "XEN_LEGACY_MAX_VCPUS")]
    pub vcpu_slots: u32,
    /// The size of a `vcpu_info`.
    pub vcpu_info_size: usize,
    /// In `vcpu_info`: a byte that Xen sets to announce events, and the guest clears.
    pub upcall_pending: usize,
    /// In `vcpu_info`: a byte by which a PV guest holds upcalls back. Arm has padding there.
    pub upcall_mask: Option<usize>,
    /// In `vcpu_info`: the selector, one word.
    pub pending_sel: usize,
    /// In `vcpu_info`: what belongs to the machine; on x86 the faulting address (`cr2`) first.
    pub vcpu_arch: usize,
    /// In `vcpu_info`: the clock, a [`vcpu_time`] structure.
    pub time: usize,
    /// In `shared_info`: the pending words.
    pub pending: usize,
    /// In `shared_info`: the mask words.
    pub mask: usize,
    /// In `shared_info`: the version of the wall clock, a `u32` that is odd while Xen writes.
    pub wc_version: usize,
    /// In `shared_info`: the wall clock's seconds at system time 0, a `u32`.
    pub wc_sec: usize,
    /// In `shared_info`: the wall clock's nanoseconds at system time 0, a `u32`.
    pub wc_nsec: usize,
    /// In `shared_info`: the upper 32 bits of the wall clock's seconds.
    pub wc_sec_hi: usize,
    /// In `shared_info`: what belongs to the machine.
    pub arch: usize,
    /// The size of `shared_info`.
    pub size: usize,
}

impl Layout {
    /// A 64-bit guest on x86.
    pub const X86_64: Self = Self {
        word_bits: 64,
        word_size: 8,
        vcpu_slots: 32,
        vcpu_info_size: 64,
        upcall_pending: 0,
        upcall_mask: Some(1),
        pending_sel: 8,
        vcpu_arch: 16,
        time: 32,
        pending: 2048,
        mask: 2560,
        wc_version: 3072,
        wc_sec: 3076,
        wc_nsec: 3080,
        wc_sec_hi: 3084,
        arch: 3088,
        size: 3136,
    };

    /// A 32-bit guest on x86, also on a 64-bit Xen, which calls it *compat*.
    pub const X86_32: Self = Self {
        word_bits: 32,
        word_size: 4,
        vcpu_slots: 32,
        vcpu_info_size: 64,
        upcall_pending: 0,
        upcall_mask: Some(1),
        pending_sel: 4,
        vcpu_arch: 8,
        time: 32,
        pending: 2048,
        mask: 2176,
        wc_version: 2304,
        wc_sec: 2308,
        wc_nsec: 2312,
        wc_sec_hi: 2340,
        arch: 2316,
        size: 2344,
    };

    /// Any guest on Arm, 64-bit or 32-bit: `xen_ulong_t` has 64 bits on both.
    pub const ARM64: Self = Self {
        word_bits: 64,
        word_size: 8,
        vcpu_slots: 1,
        vcpu_info_size: 48,
        upcall_pending: 0,
        upcall_mask: None,
        pending_sel: 8,
        vcpu_arch: 16,
        time: 16,
        pending: 48,
        mask: 560,
        wc_version: 1072,
        wc_sec: 1076,
        wc_nsec: 1080,
        wc_sec_hi: 1084,
        arch: 1088,
        size: 1088,
    };

    /// How many ports the two-level ABI has in this layout, the unusable port 0 included.
    #[inline]
    #[must_use]
    pub const fn nr_channels(&self) -> u32 {
        two_level::nr_channels(self.word_bits)
    }

    /// Where a vCPU's `vcpu_info` is in `shared_info`; `None` if it has none there.
    #[inline]
    #[must_use]
    pub const fn vcpu_info(&self, vcpu: u32) -> Option<usize> {
        if vcpu >= self.vcpu_slots {
            return None;
        }
        (vcpu as usize).checked_mul(self.vcpu_info_size)
    }

    /// Where a word of pending bits is in `shared_info`; `None` if there is no such word.
    #[inline]
    #[must_use]
    pub const fn pending_word(&self, word: u32) -> Option<usize> {
        self.word_at(self.pending, word)
    }

    /// Where a word of mask bits is in `shared_info`; `None` if there is no such word.
    #[inline]
    #[must_use]
    pub const fn mask_word(&self, word: u32) -> Option<usize> {
        self.word_at(self.mask, word)
    }

    /// The word that a port's bits are in, which is also its bit in the selector, and the bit in that word;
    /// `None` for a port that this layout has no bits for.
    #[inline]
    #[must_use]
    pub const fn word_and_bit(&self, port: Port) -> Option<(u32, u32)> {
        if port.0 >= self.nr_channels() {
            return None;
        }
        match (port.0.checked_div(self.word_bits), port.0.checked_rem(self.word_bits)) {
            (Some(word), Some(bit)) => Some((word, bit)),
            _ => None,
        }
    }

    #[inline]
    const fn word_at(&self, array: usize, word: u32) -> Option<usize> {
        if word >= self.word_bits {
            return None;
        }
        match (word as usize).checked_mul(self.word_size) {
            Some(offset) => array.checked_add(offset),
            None => None,
        }
    }
}

/// Where the fields of `vcpu_time_info` are, in bytes from its start. The same in every layout.
pub mod vcpu_time {
    /// The size of the structure.
    pub const SIZE: usize = 32;
    /// `u32`, odd while Xen writes.
    pub const VERSION: usize = 0;
    /// `u64`, the processor's counter when `SYSTEM_TIME` was taken.
    pub const TSC_TIMESTAMP: usize = 8;
    /// `u64`, nanoseconds since the domain's time began.
    pub const SYSTEM_TIME: usize = 16;
    /// `u32`, the multiplier from the counter to nanoseconds, a fraction of 2^32.
    pub const TSC_TO_SYSTEM_MUL: usize = 24;
    /// `i8`, how far to shift the counter left first.
    pub const TSC_SHIFT: usize = 28;
    /// `u8`, bit 0: the counters of all processors agree.
    pub const FLAGS: usize = 29;
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Layout; 3] = [Layout::X86_64, Layout::X86_32, Layout::ARM64];

    #[test]
    fn the_arrays_follow_each_other_without_gaps() {
        for layout in ALL {
            let array = layout.word_bits as usize * layout.word_size;
            assert_eq!(layout.vcpu_slots as usize * layout.vcpu_info_size, layout.pending);
            assert_eq!(layout.pending + array, layout.mask);
            assert_eq!(layout.mask + array, layout.wc_version);
            assert_eq!(layout.time + vcpu_time::SIZE, layout.vcpu_info_size);
            assert!(layout.size <= 4096);
        }
    }

    #[test]
    fn words_exist_up_to_the_last_bit_of_the_selector() {
        for layout in ALL {
            let last = layout.word_bits - 1;
            assert_eq!(layout.pending_word(last), Some(layout.mask - layout.word_size));
            assert_eq!(layout.mask_word(last), Some(layout.wc_version - layout.word_size));
            assert_eq!(layout.pending_word(layout.word_bits), None);
            assert_eq!(layout.mask_word(u32::MAX), None);
        }
    }

    #[test]
    fn the_last_port_is_the_last_bit_of_the_last_word() {
        for layout in ALL {
            let last = layout.word_bits - 1;
            assert_eq!(layout.word_and_bit(Port(layout.nr_channels() - 1)), Some((last, last)));
            assert_eq!(layout.word_and_bit(Port(layout.nr_channels())), None);
        }
    }

    #[test]
    fn a_pending_bit_is_at_the_same_byte_in_both_x86_layouts() {
        let place = |layout: Layout, port| {
            let (word, bit) = layout.word_and_bit(Port(port)).unwrap();
            (layout.pending_word(word).unwrap() + bit as usize / 8, bit % 8)
        };
        for port in 0..two_level::NR_CHANNELS_32 {
            assert_eq!(place(Layout::X86_64, port), place(Layout::X86_32, port));
        }
    }

    #[test]
    fn only_the_legacy_vcpus_have_a_slot() {
        assert_eq!(Layout::ARM64.vcpu_info(0), Some(0));
        assert_eq!(Layout::ARM64.vcpu_info(1), None);
        assert_eq!(Layout::X86_32.vcpu_info(31), Some(1984));
        assert_eq!(Layout::X86_32.vcpu_info(u32::MAX), None);
    }
}
