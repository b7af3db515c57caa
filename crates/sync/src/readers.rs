// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readers that take no lock, and writers that can tell when the readers of before are gone.
//!
//! # Definitions
//!
//! * A *reader* is a thread between [`enter`] (or [`Reader::enter`]) and the drop of the [`Guard`]. Meanwhile
//!   it owns a *slot*, a word on a cache line of its own.
//! * A writer *withdraws* something: it makes it unreachable for readers that come later, by one store.
//! * A *grace period* that began after a withdrawal is over when every reader that was there when it began is gone.
//!
//! # Invariants
//!
//! 1. A slot is `0` or `OWNED` while nobody reads with it; else it has `INSIDE` set, and above that the epoch
//!    that its reader saw before it entered.
//! 2. A reader that a writer's look at the slots does not find sees what the writer withdrew before as withdrawn.
//! 3. A reader with an epoch that is not older than a grace period sees what was withdrawn before that period began.
//!
//! # Key operations
//!
//! * *Enter*: read the epoch, swap it into the slot, full fence. On x86 the swap is the fence: entering costs
//!   one locked instruction, and what a reader loads next comes after what it stored before.
//! * *Leave*: one store, release: what was read is read.
//! * *Look*: full fence, then load each slot. By the two fences either the writer sees the reader inside, or the
//!   reader sees the withdrawal (2). `used` may grow meanwhile; a reader takes a slot only after `used` covers it, so
//!   a look that does not cover it comes before the reader's fence, too.
//! * *Start* a grace period: step the epoch. A reader that read the new one synchronises with the step (3), so a
//!   slot that is used again and again holds nobody up. Waiting readers are none: a reader never waits here.
//!
//! Slots and epoch are one set for the whole program, so that a guard protects whatever is
//! [`Published`](crate::Published), and nothing can be read under the guard of another set.

use core::marker::PhantomData;

use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU64, AtomicUsize, fence};
use crate::const_fn;
use crate::fence::fence_after_rmw;
use crate::relax::{relax, wait_briefly, wait_until};

#[cfg(not(any(loom, shuttle)))]
const SHARED: usize = 64;
#[cfg(not(any(loom, shuttle)))]
const OWN: usize = 64;
#[cfg(any(loom, shuttle))]
const SHARED: usize = 4;
#[cfg(any(loom, shuttle))]
const OWN: usize = 4;

/// Somebody reads with this slot.
const INSIDE: u64 = 1;
/// The slot belongs to a [`Reader`].
const OWNED: u64 = 2;
/// The epoch is counted above the two flags.
const STEP: u64 = 4;

/// 128 bytes, because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Slot(AtomicU64);

impl Slot {
    const_fn! {
        const fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Takes the slot for as long as the guard lives; `None` if it is in use.
    #[inline]
    fn claim(&self, epoch: u64) -> Option<Guard<'_>> {
        let free = self.0.load(Relaxed) == 0;
        // SeqCst, and the fence: see "enter" above.
        let taken = free && self.0.compare_exchange(0, epoch | INSIDE, SeqCst, Relaxed).is_ok();
        taken.then(|| {
            fence_after_rmw();
            Guard { slot: self, idle: 0, _reader: PhantomData }
        })
    }

    /// Takes the slot for a [`Reader`]; whether it was free.
    pub(crate) fn own(&self) -> bool {
        self.0.load(Relaxed) == 0 && self.0.compare_exchange(0, OWNED, SeqCst, Relaxed).is_ok()
    }

    /// Has the slot no reader that is older than `epoch`?
    fn is_past(&self, epoch: u64) -> bool {
        // Acquire pairs with the release in `Guard::drop`. The order of looks is the fences'.
        let seen = self.0.load(Acquire);
        seen & INSIDE == 0 || seen & !(INSIDE | OWNED) >= epoch
    }
}

/// Slots in the order in which they come into use, so that a look need not go beyond.
#[derive(Debug)]
pub(crate) struct Row<const N: usize> {
    slots: [Slot; N],
    used: AtomicUsize,
}

impl<const N: usize> Row<N> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Self {
        Self { slots: [const { Slot::new() }; N], used: AtomicUsize::new(0) }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Self {
        Self { slots: core::array::from_fn(|_| Slot::new()), used: AtomicUsize::new(0) }
    }

    fn in_use(&self) -> &[Slot] {
        // SeqCst pairs with `extend`; see "look" above.
        self.slots.get(..self.used.load(SeqCst)).unwrap_or(&self.slots)
    }

    /// Brings one more slot into use than `used`; false if there is none.
    fn extend(&self, used: usize) -> bool {
        let more = used < N;
        if more {
            self.used.fetch_max(used + 1, SeqCst);
        }
        more
    }

    /// A slot for a [`Reader`].
    pub(crate) fn own(&self) -> Option<&Slot> {
        loop {
            let slots = self.in_use();
            if let Some(slot) = slots.iter().find(|slot| slot.own()) {
                return Some(slot);
            }
            if !self.extend(slots.len()) {
                return None;
            }
        }
    }

    pub(crate) fn is_past(&self, epoch: u64) -> bool {
        self.in_use().iter().all(|slot| slot.is_past(epoch))
    }
}

/// All slots of the program.
#[derive(Debug)]
struct Readers {
    epoch: AtomicU64,
    shared: Row<SHARED>,
    own: Row<OWN>,
}

impl Readers {
    const_fn! {
        const fn new() -> Self {
            Self { epoch: AtomicU64::new(STEP), shared: Row::new(), own: Row::new() }
        }
    }

    fn is_past(&self, epoch: u64) -> bool {
        #[cfg(feature = "alloc")]
        if !crate::reader_rows::is_past(epoch) {
            return false;
        }
        self.shared.is_past(epoch) && self.own.is_past(epoch)
    }
}

#[cfg(not(any(loom, shuttle)))]
static READERS: Readers = Readers::new();
#[cfg(loom)]
loom::lazy_static! {
    static ref READERS: Readers = Readers::new();
}
#[cfg(shuttle)]
shuttle::lazy_static! {
    static ref READERS: Readers = Readers::new();
}

/// While this lives its thread is a reader: what is published stays, and what is withdrawn is not freed.
///
/// Hold it for a few instructions. A thread must not wait for readers, nor for a lock under which somebody waits for
/// readers, while it holds one.
#[derive(Debug)]
#[must_use = "without it, nothing is protected"]
pub struct Guard<'a> {
    slot: &'a Slot,
    idle: u64,
    _reader: PhantomData<&'a mut ()>,
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release pairs with the look of a writer: what was read is read.
        self.slot.0.store(self.idle, Release);
    }
}

/// Enters as a reader, with any slot that is free at the moment.
///
/// Costs one locked instruction on a line that other threads rarely use; a thread that enters often
/// has a [`Reader`].
#[inline]
pub fn enter() -> Guard<'static> {
    let readers: &'static Readers = &READERS;
    // Acquire pairs with the step in `Grace::start`.
    let epoch = readers.epoch.load(Acquire);
    loop {
        let slots = readers.shared.in_use();
        let first = spread(slots.len());
        let (before, after) = slots.split_at_checked(first).unwrap_or((slots, &[]));
        if let Some(guard) = after.iter().chain(before).find_map(|slot| slot.claim(epoch)) {
            return guard;
        }
        if !readers.shared.extend(slots.len()) {
            relax();
        }
    }
}

/// Where a thread begins to look for a slot: threads have different stacks, so mostly different slots.
#[cfg(not(any(loom, shuttle)))]
#[inline]
fn spread(slots: usize) -> usize {
    let here = 0u8;
    let page = (&raw const here).addr() >> 14;
    page.wrapping_mul(0x9e37_79b9) % slots.max(1)
}

/// In a model all threads must do the same in each run.
#[cfg(any(loom, shuttle))]
fn spread(_: usize) -> usize {
    0
}

/// A reader with a slot of its own, for a thread that enters often: a vCPU, an I/O thread, a timer.
///
/// ```
/// use evtchn_sync::{Published, Reader};
///
/// let number = Published::new(Some(Box::new(5)));
/// let mut reader = Reader::new().expect("memory for a slot");
/// assert_eq!(number.load(&reader.enter()), Some(&5));
/// ```
#[derive(Debug)]
pub struct Reader(&'static Slot);

impl Reader {
    /// A reader with a slot of its own; `None` if there is no memory for one more.
    ///
    /// Without the feature `alloc` there are 64.
    #[must_use]
    pub fn new() -> Option<Self> {
        let readers: &'static Readers = &READERS;
        let slot = readers.own.own();
        #[cfg(feature = "alloc")]
        let slot = slot.or_else(crate::reader_rows::own);
        slot.map(Self)
    }

    /// Enters.
    #[inline]
    pub fn enter(&mut self) -> Guard<'_> {
        let readers: &'static Readers = &READERS;
        // Acquire, SeqCst and the fence: see "enter" above.
        self.0.0.swap(readers.epoch.load(Acquire) | INSIDE | OWNED, SeqCst);
        fence_after_rmw();
        Guard { slot: self.0, idle: OWNED, _reader: PhantomData }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.0.store(0, Release);
    }
}

/// A grace period.
///
/// ```
/// use evtchn_sync::{Grace, enter};
///
/// let reader = enter();
/// let grace = Grace::start();
/// assert!(!grace.is_over());
/// drop(reader);
/// let later = enter();
/// assert!(grace.is_over());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace(u64);

impl Grace {
    /// Starts one, which covers all readers of now. What was withdrawn before is gone when it is over.
    pub fn start() -> Self {
        let readers: &'static Readers = &READERS;
        // SeqCst: releases the withdrawal to readers that see this epoch.
        Self(readers.epoch.fetch_add(STEP, SeqCst).wrapping_add(STEP))
    }

    /// Is it over?
    #[must_use]
    pub fn is_over(self) -> bool {
        let readers: &'static Readers = &READERS;
        fence(SeqCst); // see "look" above
        readers.is_past(self.0)
    }

    /// Waits a little, as long as readers usually take; whether it is over.
    #[must_use]
    pub fn is_soon_over(self) -> bool {
        wait_briefly(|| self.is_over())
    }
}

/// Is nobody reading? Then what was withdrawn before is gone, without a grace period.
#[must_use]
pub fn no_readers() -> bool {
    let readers: &'static Readers = &READERS;
    fence(SeqCst); // see "look" above
    readers.is_past(u64::MAX)
}

/// Waits until the readers of now are gone. The caller must not be one.
pub fn wait_for_readers() {
    if !no_readers() {
        let grace = Grace::start();
        wait_until(|| grace.is_over());
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    extern crate std;

    use std::sync::atomic::{AtomicBool, AtomicU64 as Word};
    use std::thread;
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_grace_period_is_over_when_the_readers_of_before_are_gone() {
        let mut own = Reader::new().unwrap();
        let (first, second) = (enter(), own.enter());
        let grace = Grace::start();
        assert!(!grace.is_over() && !no_readers());
        drop(first);
        assert!(!grace.is_over());
        drop(second);
        let _later = (enter(), own.enter());
        assert!(grace.is_over() || !no_readers());
    }

    #[test]
    fn a_slot_that_is_used_without_pause_holds_nobody_up() {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut own = Reader::new().unwrap();
                while !stop.load(SeqCst) {
                    drop(own.enter());
                }
            });
            for _ in 0..1_000 {
                wait_for_readers();
            }
            stop.store(true, SeqCst);
        });
    }

    #[test]
    fn there_are_more_slots_than_fit_into_the_first_row() {
        let mut readers: Vec<_> = (0..3 * OWN).map(|_| Reader::new().unwrap()).collect();
        let guards: Vec<_> = readers.iter_mut().map(Reader::enter).collect();
        let grace = Grace::start();
        assert!(!grace.is_over());
        drop(guards);
        drop(readers);
        wait_for_readers();
    }

    #[test]
    fn more_threads_than_shared_slots_take_turns() {
        let count = Word::new(0);
        thread::scope(|scope| {
            for _ in 0..SHARED + 8 {
                scope.spawn(|| {
                    let _guard = enter();
                    count.fetch_add(1, SeqCst);
                    thread::yield_now();
                });
            }
        });
        assert_eq!(count.load(SeqCst), SHARED as u64 + 8);
    }
}
