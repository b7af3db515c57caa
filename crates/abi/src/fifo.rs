// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIFO ABI: an array with an event word for each port, and for each vCPU a control block with the heads of
//! sixteen queues, one for each priority.
//!
//! ```text
//!   event word    31      30     29     28   27 ... 17   16 ......... 0
//!               PENDING MASKED LINKED  BUSY   unused      LINK: next port of the queue, 0 for none
//!
//!   control block   0 ready   4 unused   8 head[0]   12 head[1]   ...   68 head[15]        72 bytes
//! ```

use crate::Port;
use core::fmt;

/// Bit number: an event is pending.
#[doc(alias = "EVTCHN_FIFO_PENDING")]
pub const PENDING_BIT: u32 = 31;
/// Bit number: the port is masked.
#[doc(alias = "EVTCHN_FIFO_MASKED")]
pub const MASKED_BIT: u32 = 30;
/// Bit number: the port is in a queue.
#[doc(alias = "EVTCHN_FIFO_LINKED")]
pub const LINKED_BIT: u32 = 29;
/// Bit number: somebody is changing the word; others must wait or give way.
#[doc(alias = "EVTCHN_FIFO_BUSY")]
pub const BUSY_BIT: u32 = 28;
/// How many bits, from 0, hold the next port.
#[doc(alias = "EVTCHN_FIFO_LINK_BITS")]
pub const LINK_BITS: u32 = 17;

/// The pending bit.
pub const PENDING: u32 = 1 << PENDING_BIT;
/// The masked bit.
pub const MASKED: u32 = 1 << MASKED_BIT;
/// The linked bit.
pub const LINKED: u32 = 1 << LINKED_BIT;
/// The busy bit.
pub const BUSY: u32 = 1 << BUSY_BIT;
/// The bits of the next port.
#[doc(alias = "EVTCHN_FIFO_LINK_MASK")]
pub const LINK_MASK: u32 = (1 << LINK_BITS) - 1;

/// How many ports there are, the unusable port 0 included.
#[doc(alias = "EVTCHN_FIFO_NR_CHANNELS")]
pub const NR_CHANNELS: u32 = 1 << LINK_BITS;

/// How many queues a vCPU has.
#[doc(alias = "EVTCHN_FIFO_MAX_QUEUES")]
pub const MAX_QUEUES: usize = 16;

/// The size of a page of the event array, in bytes.
pub const PAGE_SIZE: usize = 4096;
/// The size of an event word, in bytes.
pub const WORD_SIZE: usize = 4;
/// How many event words a page holds.
pub const WORDS_PER_PAGE: u32 = 1024;
/// How many pages the event array can have.
pub const MAX_ARRAY_PAGES: u32 = 128;

const _: () = assert!(WORDS_PER_PAGE as usize * WORD_SIZE == PAGE_SIZE);
const _: () = assert!(MAX_ARRAY_PAGES * WORDS_PER_PAGE == NR_CHANNELS);

/// Which page of the event array holds a port's word, and where in the page it is, in bytes.
/// `None` for a port that the array has no room for.
///
/// ```
/// use evtchn_abi::{Port, fifo};
///
/// assert_eq!(fifo::word_place(Port(1025)), Some((1, 4)));
/// assert_eq!(fifo::word_place(Port(fifo::NR_CHANNELS)), None);
/// ```
#[inline]
#[must_use]
pub const fn word_place(port: Port) -> Option<(usize, usize)> {
    if port.0 >= NR_CHANNELS {
        return None;
    }
    let page = port.0 / WORDS_PER_PAGE;
    let offset = (port.0 % WORDS_PER_PAGE).wrapping_mul(WORD_SIZE as u32);
    Some((page as usize, offset as usize))
}

/// A priority: 0 is the highest, 15 the lowest. The same number names the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Priority(pub u8);

impl Priority {
    /// The most urgent.
    #[doc(alias = "EVTCHN_FIFO_PRIORITY_MAX")]
    pub const HIGHEST: Self = Self(0);
    /// What a port has when it is bound.
    #[doc(alias = "EVTCHN_FIFO_PRIORITY_DEFAULT")]
    pub const DEFAULT: Self = Self(7);
    /// The least urgent.
    #[doc(alias = "EVTCHN_FIFO_PRIORITY_MIN")]
    pub const LOWEST: Self = Self(15);

    /// The priority that a guest asks for; `None` if there is no such.
    #[inline]
    #[must_use]
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::LOWEST.0 as u32 { Some(Self(value as u8)) } else { None }
    }

    /// All sixteen, the highest first.
    pub fn all() -> impl ExactSizeIterator<Item = Self> + DoubleEndedIterator {
        (0..MAX_QUEUES as u8).map(Self)
    }

    /// The number of the queue, as an index.
    #[inline]
    #[must_use]
    pub const fn queue(self) -> usize {
        self.0 as usize
    }

    /// The bit in the control block's ready word.
    #[inline]
    #[must_use]
    pub const fn ready_bit(self) -> u32 {
        1u32.wrapping_shl(self.0 as u32)
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The value of an event word at one moment. The word itself is shared memory and belongs into an atomic.
///
/// ```
/// use evtchn_abi::{EventWord, Port};
///
/// let word = EventWord(0xa000_0005);
/// assert!(word.is_pending() && word.is_linked() && !word.is_masked());
/// assert_eq!(word.link(), Port(5));
/// ```
#[doc(alias = "event_word_t")]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct EventWord(pub u32);

impl EventWord {
    /// Whether an event is pending.
    #[inline]
    #[must_use]
    pub const fn is_pending(self) -> bool {
        self.0 & PENDING != 0
    }

    /// Whether the port is masked.
    #[inline]
    #[must_use]
    pub const fn is_masked(self) -> bool {
        self.0 & MASKED != 0
    }

    /// Whether the port is in a queue.
    #[inline]
    #[must_use]
    pub const fn is_linked(self) -> bool {
        self.0 & LINKED != 0
    }

    /// Whether somebody is changing the word.
    #[inline]
    #[must_use]
    pub const fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// The next port of the queue; port 0 at the end.
    #[inline]
    #[must_use]
    pub const fn link(self) -> Port {
        Port(self.0 & LINK_MASK)
    }

    /// The same word with another next port. Bits of `port` beyond the link field are dropped.
    #[inline]
    #[must_use]
    pub const fn with_link(self, port: Port) -> Self {
        Self(self.0 & !LINK_MASK | port.0 & LINK_MASK)
    }

    /// The same word with these bits set.
    #[inline]
    #[must_use]
    pub const fn with(self, bits: u32) -> Self {
        Self(self.0 | bits)
    }

    /// The same word with these bits cleared.
    #[inline]
    #[must_use]
    pub const fn without(self, bits: u32) -> Self {
        Self(self.0 & !bits)
    }
}

impl fmt::Debug for EventWord {
    /// For example `EventWord(PENDING|LINKED, link 5)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventWord(")?;
        let names = [(PENDING, "PENDING"), (MASKED, "MASKED"), (LINKED, "LINKED"), (BUSY, "BUSY")];
        let mut separator = "";
        for (_, name) in names.into_iter().filter(|(bit, _)| self.0 & bit != 0) {
            write!(f, "{separator}{name}")?;
            separator = "|";
        }
        if !separator.is_empty() {
            f.write_str(", ")?;
        }
        write!(f, "link {})", self.link())
    }
}

/// Where the fields of a vCPU's control block are, in bytes from its start. The block is shared memory, so there is
/// no value of this type.
#[doc(alias = "evtchn_fifo_control_block")]
#[derive(Clone, Copy, Debug)]
pub enum ControlBlock {}

impl ControlBlock {
    /// The size of the block.
    pub const SIZE: usize = 72;
    /// What the block's offset in its page must be a multiple of.
    pub const ALIGN: usize = 8;
    /// A `u32` with a bit for each queue that has something in it.
    pub const READY: usize = 0;
    /// The first of sixteen `u32`, the first port of each queue.
    pub const HEAD: usize = 8;

    /// Where the head of a queue is; `None` if there is no such queue.
    #[inline]
    #[must_use]
    pub const fn head(queue: Priority) -> Option<usize> {
        if queue.0 > Priority::LOWEST.0 {
            return None;
        }
        Some(Self::HEAD.wrapping_add(queue.queue().wrapping_mul(4)))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{format, vec::Vec};

    #[test]
    fn the_fields_of_an_event_word_fill_it_but_for_eleven_bits() {
        let used = PENDING | MASKED | LINKED | BUSY | LINK_MASK;
        assert_eq!(used.count_ones(), 21);
        assert_eq!(!used, 0x0ffe_0000);
    }

    #[test]
    fn setting_the_link_keeps_every_other_bit() {
        for bits in [0, u32::MAX, 0x0ffe_0000, PENDING | BUSY] {
            let word = EventWord(bits).with_link(Port(0x1_0001));
            assert_eq!(word.link(), Port(0x1_0001));
            assert_eq!(word.without(LINK_MASK), EventWord(bits).without(LINK_MASK));
        }
    }

    #[test]
    fn a_link_beyond_the_field_does_not_touch_the_flags() {
        assert_eq!(EventWord(0).with_link(Port(u32::MAX)), EventWord(LINK_MASK));
    }

    #[test]
    fn each_flag_is_seen_by_its_accessor_alone() {
        let flags = |bits| {
            let word = EventWord(0).with(bits);
            [word.is_pending(), word.is_masked(), word.is_linked(), word.is_busy()]
        };
        assert_eq!(flags(PENDING), [true, false, false, false]);
        assert_eq!(flags(MASKED), [false, true, false, false]);
        assert_eq!(flags(LINKED), [false, false, true, false]);
        assert_eq!(flags(BUSY), [false, false, false, true]);
    }

    #[test]
    fn words_are_printed_with_their_flags() {
        assert_eq!(format!("{:?}", EventWord(PENDING | LINKED | 5)), "EventWord(PENDING|LINKED, link 5)");
        assert_eq!(format!("{:?}", EventWord(0)), "EventWord(link 0)");
    }

    #[test]
    fn the_last_port_has_the_last_word_of_the_last_page() {
        assert_eq!(word_place(Port(NR_CHANNELS - 1)), Some((127, 4092)));
        assert_eq!(word_place(Port(u32::MAX)), None);
    }

    #[test]
    fn there_are_sixteen_priorities() {
        let all: Vec<_> = Priority::all().collect();
        assert_eq!(all.first(), Some(&Priority::HIGHEST));
        assert_eq!(all.last(), Some(&Priority::LOWEST));
        assert_eq!(all.len(), MAX_QUEUES);
        assert_eq!(Priority::new(15), Some(Priority::LOWEST));
        assert_eq!(Priority::new(16), None);
        assert_eq!(Priority::new(256), None);
    }

    #[test]
    fn the_heads_end_where_the_block_ends() {
        assert_eq!(ControlBlock::head(Priority::HIGHEST), Some(ControlBlock::HEAD));
        assert_eq!(ControlBlock::head(Priority::LOWEST), Some(ControlBlock::SIZE - 4));
        assert_eq!(ControlBlock::head(Priority(16)), None);
        assert_eq!(Priority::LOWEST.ready_bit(), 0x8000);
    }
}
