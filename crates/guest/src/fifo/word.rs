// SPDX-License-Identifier: MIT OR Apache-2.0
//! One event word in memory.

use evtchn_abi::{EventWord, Port, fifo};
use evtchn_sync::atomic::{AtomicU32, Ordering::SeqCst};
use evtchn_sync::{PAGE_SIZE, Page, relax};

/// How often a change tries to do everything in one step. Others change a word a few times only before they are done with it.
const TRIES: u32 = 128;

/// A port's event word.
#[derive(Debug)]
pub(super) struct Word<'a, P> {
    page: &'a P,
    offset: usize,
    word: &'a AtomicU32,
}

/// What was at the front of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The port behind it; port 0 if there is none.
    pub next: Port,
    /// Whether it had an event, unmasked, which is taken now.
    pub is_event: bool,
}

impl Taken {
    /// A port without a word.
    pub const NOTHING: Self = Self { next: Port(0), is_event: false };
}

impl<'a, P: Page> Word<'a, P> {
    pub fn at(page: &'a P, offset: usize) -> Option<Self> {
        Some(Self { page, offset, word: page.u32(offset)? })
    }

    pub fn get(&self) -> EventWord {
        EventWord(self.word.load(SeqCst))
    }

    /// Sets bits; the word as it was.
    pub fn set(&self, bits: u32) -> EventWord {
        let was = self.word.fetch_or(bits, SeqCst);
        self.page.wrote(self.offset);
        EventWord(was)
    }

    /// Clears bits; the word as it was.
    pub fn clear(&self, bits: u32) -> EventWord {
        clear(self.page, self.offset, self.word, bits)
    }

    /// Clears MASKED if no event is pending, waiting for Xen to clear BUSY. `false` if that is Xen's to do.
    pub fn unmask_without_event(&self) -> bool {
        for _ in 0..TRIES {
            let now = self.get();
            if !now.is_masked() {
                return true;
            }
            if now.is_pending() {
                return false;
            }
            // Expects BUSY to be clear: Xen, which has it set, would write an old MASKED back.
            let idle = now.without(fifo::BUSY);
            let done = self.word.compare_exchange(idle.0, idle.without(fifo::MASKED).0, SeqCst, SeqCst);
            if done.is_ok() {
                self.page.wrote(self.offset);
                return true;
            }
            relax();
        }
        false
    }
}

/// Takes a port off its queue, and its event unless it is masked: LINKED, LINK and PENDING go in one step.
///
/// An event of a port that is on no queue is taken, too: Xen may send here late, after the port was taken off elsewhere.
#[inline]
pub(super) fn take(page: &impl Page, offset: usize, word: &AtomicU32) -> Taken {
    let now = EventWord(word.load(SeqCst));
    // Nearly always. No more than this is between two exchanges, which take most of the time.
    if now.0 & (fifo::PENDING | fifo::MASKED | fifo::LINKED) == fifo::PENDING | fifo::LINKED {
        let left = now.without(fifo::PENDING | fifo::LINKED | fifo::LINK_MASK);
        if word.compare_exchange(now.0, left.0, SeqCst, SeqCst).is_ok() {
            page.wrote(offset);
            return Taken { next: now.link(), is_event: true };
        }
    }
    take_any(page, offset, word)
}

/// As `take`, whatever the word is.
#[cold]
fn take_any(page: &impl Page, offset: usize, word: &AtomicU32) -> Taken {
    let mut now = EventWord(word.load(SeqCst));
    for _ in 0..TRIES {
        let is_event = now.0 & (fifo::PENDING | fifo::MASKED) == fifo::PENDING;
        let next = if now.is_linked() { now.link() } else { Port(0) };
        let pending = if is_event { fifo::PENDING } else { 0 };
        let linked = if now.is_linked() { fifo::LINKED | fifo::LINK_MASK } else { 0 };
        let left = now.without(pending | linked);
        if left == now {
            return Taken::NOTHING;
        }
        match word.compare_exchange(now.0, left.0, SeqCst, SeqCst) {
            Ok(_) => {
                page.wrote(offset);
                return Taken { next, is_event };
            }
            Err(other) => now = EventWord(other),
        }
    }
    take_in_steps(page, offset, word, now)
}

/// As `take_any`, of a word that never rests. Nobody but this vCPU clears LINKED.
#[cold]
fn take_in_steps(page: &impl Page, offset: usize, word: &AtomicU32, now: EventWord) -> Taken {
    let linked = now.is_linked().then(|| clear(page, offset, word, fifo::LINKED | fifo::LINK_MASK));
    let next = linked.map_or(Port(0), EventWord::link);
    let is_event =
        !EventWord(word.load(SeqCst)).is_masked() && clear(page, offset, word, fifo::PENDING).is_pending();
    Taken { next, is_event }
}

fn clear(page: &impl Page, offset: usize, word: &AtomicU32, bits: u32) -> EventWord {
    let was = word.fetch_and(!bits, SeqCst);
    page.wrote(offset);
    EventWord(was)
}

/// Fills a page with words that say MASKED and nothing else. `None` if it has no memory.
pub(super) fn mask_all(page: &impl Page) -> Option<()> {
    page.u32(0)?;
    // A model's page has no more words than the model needs.
    for (offset, word) in (0..PAGE_SIZE).step_by(fifo::WORD_SIZE).filter_map(|at| Some((at, page.u32(at)?))) {
        word.store(fifo::MASKED, SeqCst);
        page.wrote(offset);
    }
    Some(())
}
