// SPDX-License-Identifier: MIT OR Apache-2.0
//! One event word in memory.

use core::hint::spin_loop;

use evtchn_abi::{EventWord, fifo};
use evtchn_sync::atomic::{AtomicU32, Ordering::SeqCst};
use evtchn_sync::{PAGE_SIZE, Page};

use super::UNMASK_TRIES;

/// A port's event word.
#[derive(Debug)]
pub(super) struct Word<'a, P> {
    page: &'a P,
    offset: usize,
    word: &'a AtomicU32,
}

impl<'a, P: Page> Word<'a, P> {
    pub fn at(page: &'a P, offset: usize) -> Option<Self> {
        Some(Self { page, offset, word: page.u32(offset)? })
    }

    pub fn get(self) -> EventWord {
        EventWord(self.word.load(SeqCst))
    }

    /// Sets bits; the word as it was.
    pub fn set(self, bits: u32) -> EventWord {
        let was = self.word.fetch_or(bits, SeqCst);
        self.page.wrote(self.offset);
        EventWord(was)
    }

    /// Clears bits; the word as it was.
    pub fn clear(self, bits: u32) -> EventWord {
        let was = self.word.fetch_and(!bits, SeqCst);
        self.page.wrote(self.offset);
        EventWord(was)
    }

    /// Takes the port off its queue: clears LINKED and LINK in one step. The word as it was; `None` if it was on none.
    pub fn unlink(self) -> Option<EventWord> {
        if !EventWord(self.word.load(SeqCst)).is_linked() {
            return None;
        }
        // Nobody but this vCPU clears LINKED.
        Some(self.clear(fifo::LINKED | fifo::LINK_MASK))
    }

    /// Clears MASKED if no event is pending, waiting for Xen to clear BUSY. `false` if that is Xen's to do.
    pub fn unmask_without_event(self) -> bool {
        for _ in 0..UNMASK_TRIES {
            let now = EventWord(self.word.load(SeqCst));
            if !now.is_masked() {
                return true;
            }
            if now.is_pending() {
                return false;
            }
            // Expects BUSY to be clear: Xen, which has it set, would write an old MASKED back.
            let idle = now.without(fifo::BUSY);
            if self.exchange(idle, idle.without(fifo::MASKED)) {
                return true;
            }
            spin_loop();
        }
        false
    }

    fn exchange(&self, expected: EventWord, new: EventWord) -> bool {
        let done = self.word.compare_exchange(expected.0, new.0, SeqCst, SeqCst).is_ok();
        if done {
            self.page.wrote(self.offset);
        }
        done
    }
}

/// Fills a page with words that say MASKED and nothing else. `None` if it has no memory.
pub(super) fn mask_all(page: &impl Page) -> Option<()> {
    for offset in (0..PAGE_SIZE).step_by(fifo::WORD_SIZE) {
        page.u32(offset)?.store(fifo::MASKED, SeqCst);
        page.wrote(offset);
    }
    Some(())
}
