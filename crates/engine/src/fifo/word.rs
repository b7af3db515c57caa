// SPDX-License-Identifier: MIT OR Apache-2.0
//! One event word of the array. The guest writes it at any moment, so each decision is made from the
//! result of one access, and nothing is repeated more than a fixed number of times.

use evtchn_abi::fifo::{BUSY, LINK_MASK, LINKED, MASKED, PENDING};
use evtchn_abi::{EventWord, Port};
use evtchn_sync::Page;
use evtchn_sync::atomic::AtomicU32;
use evtchn_sync::atomic::Ordering::SeqCst;

/// How often [`Word::set_link`] tries again with BUSY set.
///
/// A guest that keeps to the rules can make no more than four attempts fail: while BUSY is set it may
/// only set MASKED, clear PENDING and clear LINKED, and one more failure can come from an `unmask`.
const BUSY_ATTEMPTS: u32 = 4;

/// An event word.
#[derive(Clone, Copy)]
pub(crate) struct Word<'a, P> {
    page: &'a P,
    offset: usize,
    bits: &'a AtomicU32,
}

impl<'a, P: Page> Word<'a, P> {
    /// The word at this offset, if the page has one there now.
    pub fn new(page: &'a P, offset: usize) -> Option<Self> {
        Some(Self { page, offset, bits: page.u32(offset)? })
    }

    #[inline]
    pub fn load(&self) -> EventWord {
        EventWord(self.bits.load(SeqCst))
    }

    /// Sets a bit; whether it was clear. One instruction where there is one for that.
    #[inline]
    fn set(&self, bit: u32) -> bool {
        let changed = self.bits.fetch_or(bit, SeqCst) & bit == 0;
        self.page.wrote(self.offset);
        changed
    }

    /// Clears bits.
    pub fn clear(&self, bit: u32) {
        self.bits.fetch_and(!bit, SeqCst);
        self.page.wrote(self.offset);
    }

    /// Sets PENDING; whether it was clear.
    pub fn set_pending(&self) -> bool {
        self.set(PENDING)
    }

    pub fn clear_pending(&self) {
        self.clear(PENDING);
    }

    pub fn clear_masked(&self) {
        self.clear(MASKED);
    }

    /// Sets LINKED; whether it was clear.
    pub fn set_linked(&self) -> bool {
        self.set(LINKED)
    }

    /// Sets PENDING and LINKED in one step, if the word is `seen`; whether it was.
    #[inline]
    pub fn set_pending_and_linked(&self, seen: EventWord) -> bool {
        let linked = seen.with(PENDING | LINKED);
        let done = self.bits.compare_exchange(seen.0, linked.0, SeqCst, SeqCst).is_ok();
        if done {
            self.page.wrote(self.offset);
        }
        done
    }

    /// Makes `next` follow this word's port, if that is on its queue still: false if it is not.
    ///
    /// After one plain attempt BUSY asks the guest to leave the word alone, and four more are made. A
    /// guest that changes the word nevertheless is told that `next` is linked, and has lost it: the
    /// queue's head must not be touched while this port may be on the queue.
    pub fn set_link(&self, next: Port) -> bool {
        let seen = self.load();
        if !seen.is_linked() {
            return false;
        }
        if self.try_link(seen, next).is_ok() {
            return true;
        }
        self.set(BUSY);
        let mut seen = self.load();
        for _ in 0..BUSY_ATTEMPTS {
            if !seen.is_linked() {
                self.clear(BUSY);
                return false;
            }
            match self.try_link(seen, next) {
                Ok(()) => return true,
                Err(now) => seen = now,
            }
        }
        self.clear(BUSY);
        true
    }

    /// Replaces LINK and clears BUSY in one step, if the word is `seen`; else the word as it is.
    fn try_link(&self, seen: EventWord, next: Port) -> Result<(), EventWord> {
        let linked = EventWord(seen.without(BUSY | LINK_MASK).0 | next.0 & LINK_MASK);
        // SeqCst on success releases what was written before to the guest that follows the link.
        self.bits.compare_exchange(seen.0, linked.0, SeqCst, SeqCst).map_err(EventWord)?;
        self.page.wrote(self.offset);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use evtchn_sync::HeapPage;

    use super::*;

    fn linked(before: u32, next: u32) -> (bool, u32) {
        let page = HeapPage::new();
        page.u32(8).unwrap().store(before, SeqCst);
        let done = Word::new(&page, 8).unwrap().set_link(Port(next));
        (done, page.u32(8).unwrap().load(SeqCst))
    }

    #[test]
    fn a_word_that_is_not_linked_is_left_alone() {
        for word in [0, PENDING | MASKED | BUSY | 77, 0x0ffe_0000] {
            assert_eq!(linked(word, 5), (false, word));
        }
    }

    #[test]
    fn the_link_is_replaced_and_all_else_but_busy_kept() {
        for kept in [0, PENDING, MASKED | 0x0ffe_0000] {
            assert_eq!(linked(kept | LINKED | 99, 5), (true, kept | LINKED | 5));
            assert_eq!(linked(kept | LINKED | BUSY | 99, 131_071), (true, kept | LINKED | 131_071));
        }
    }

    #[test]
    fn a_guest_that_rewrites_the_tail_without_end_does_not_hold_xen_up() {
        let page = HeapPage::new();
        let word = Word::new(&page, 0).unwrap();
        word.set_linked();
        let rounds = 20_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                (0..rounds).for_each(|n| page.u32(0).unwrap().store(LINKED | n << 17 & !BUSY, SeqCst))
            });
            // However the race goes: the word stays linked, so that is the answer.
            let answers = (0..rounds).map(|_| word.set_link(Port(3))).filter(|&linked| linked).count();
            assert_eq!(answers, rounds as usize);
        });
    }
}
