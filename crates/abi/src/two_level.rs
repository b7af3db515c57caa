// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two-level ABI: a pending and a mask bit for each port in `shared_info`, and for each vCPU a selector word
//! with a bit for each word of pending bits that has news.
//!
//! ```text
//!   selector (vcpu_info)        pending (shared_info)        mask (shared_info)
//!   bit w  ------------------>  word w, bit b                word w, bit b        port = w * word bits + b
//! ```
//!
//! A word is `xen_ulong_t`, 64 or 32 bits. As there is a word for each bit of the selector, the number of ports is the
//! square of the word's bits. Where the words lie in memory says [`Layout`](crate::Layout).

/// How many ports there are with 64-bit words, the unusable port 0 included.
#[doc(alias = "EVTCHN_2L_NR_CHANNELS")]
pub const NR_CHANNELS_64: u32 = nr_channels(64);

/// How many ports there are with 32-bit words, the unusable port 0 included.
#[doc(alias = "EVTCHN_2L_NR_CHANNELS")]
pub const NR_CHANNELS_32: u32 = nr_channels(32);

/// How many ports there are with words of so many bits.
#[must_use]
pub const fn nr_channels(word_bits: u32) -> u32 {
    word_bits.saturating_mul(word_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_ports_is_the_square_of_the_word() {
        assert_eq!((NR_CHANNELS_64, NR_CHANNELS_32), (4096, 1024));
    }
}
