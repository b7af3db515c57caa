// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIFO ABI: a word per port, and for each vCPU sixteen queues of ports, one per priority.
//!
//! A queue is a list through the LINK fields of the event words. The guest takes from its front, which
//! the HEAD in the control block names; Xen appends behind the tail, which only Xen knows. Nothing that
//! the guest writes is followed: LINK and HEAD are written here, never read.
//!
//! ```text
//! raise:   set PENDING | set LINKED | link behind the tail, or write HEAD and set READY | set the upcall byte
//! unmask:  clear MASKED; if PENDING, as above from LINKED on
//! guest:   clear the upcall byte | take READY | clear LINKED and LINK in one step | read, clear PENDING
//! ```
//!
//! Why no event is lost: *whoever sees PENDING without LINKED and MASKED links*. PENDING, MASKED and
//! LINKED are bits of one word, so each read-modify-write sees all three at one moment: a raise either
//! sees MASKED, and the unmask that clears it sees PENDING, or it links. It either sees LINKED, and the
//! guest that clears that sees PENDING, or it links. Linking is decided by the result of setting LINKED.
//!
//! A queue's tail may name a port that the guest has taken off already. If that port goes onto *another*
//! queue its word is linked again, and an append behind the stale tail would overwrite that queue's list.
//! So each record remembers its last queue, and LINKED is set only under that queue's lock, where the
//! port is removed as tail. A tail that is not 0 thus always names a port whose last queue this is.

mod queue;
mod state;
mod word;

use alloc::boxed::Box;

use evtchn_abi::fifo::{MAX_ARRAY_PAGES, WORDS_PER_PAGE, word_place};
use evtchn_abi::{EventWord, Gfn, Port, VcpuId};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};
use evtchn_sync::atomic::{AtomicU32, fence};
use evtchn_sync::{Once, Page, RMW_IS_FENCE, fence_after_rmw};

use self::queue::{Control, Queue, VcpuQueues};
use self::word::Word;
use crate::channel::{Channel, QueueId};
use crate::deliver::Edge;
use crate::error::OpError;
use crate::table::{Channels, filled};

#[cfg(not(any(loom, shuttle)))]
const MAX_PAGES: u32 = MAX_ARRAY_PAGES;
/// Few in a model, where every atomic costs time.
#[cfg(any(loom, shuttle))]
const MAX_PAGES: u32 = 2;
const _: () = assert!(MAX_PAGES <= MAX_ARRAY_PAGES);

/// A page of the event array, and the frame that it is.
#[derive(Debug)]
struct ArrayPage<P> {
    page: P,
    gfn: Gfn,
}

/// A domain's event array and queues. Readers use it; what is added to it is added under the event lock.
#[derive(Debug)]
pub(crate) struct Fifo<P> {
    array: [Once<ArrayPage<P>>; MAX_PAGES as usize],
    pages: AtomicU32,
    vcpus: Box<[VcpuQueues<P>]>,
}

impl<P> Fifo<P> {
    /// No pages, and no control block for any of so many vCPUs.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new(vcpus: usize) -> Result<Self, OpError> {
        let vcpus = filled(vcpus, VcpuQueues::new).ok_or(OpError::OutOfMemory)?;
        Ok(Self { array: core::array::from_fn(|_| Once::new()), pages: AtomicU32::new(0), vcpus })
    }

    pub fn has_control(&self, vcpu: VcpuId) -> bool {
        self.queues_of(vcpu).is_some_and(|queues| queues.control.get().is_some())
    }

    fn queues_of(&self, vcpu: VcpuId) -> Option<&VcpuQueues<P>> {
        self.vcpus.get(vcpu.0 as usize)
    }

    pub fn has_room(&self) -> bool {
        self.pages.load(Relaxed) < MAX_PAGES
    }
}

impl<P: Page> Fifo<P> {
    /// Gives a vCPU that has none its control block, `offset` bytes into `page`, which is frame `gfn`.
    pub fn set_control(&self, vcpu: VcpuId, page: P, gfn: Gfn, offset: usize) {
        if let Some(queues) = self.queues_of(vcpu) {
            let _ = queues.control.set(Control::new(page, gfn, offset));
        }
    }

    /// Adds a page to the array, for which there is room; the ports whose words it holds.
    pub fn add_page(&self, page: P, gfn: Gfn) -> core::ops::Range<u32> {
        let pages = self.pages.load(Relaxed);
        if let Some(slot) = self.array.get(pages as usize) {
            let _ = slot.set(ArrayPage { page, gfn });
        }
        self.pages.store(pages + 1, Relaxed);
        // The page, then a look at the kept events: pairs with the fence in `keep`.
        fence(SeqCst);
        let first = pages * WORDS_PER_PAGE;
        first..first + WORDS_PER_PAGE
    }

    /// Would raising the port change nothing?
    ///
    /// What the sender wrote comes before this look, by the fence of the reader's entry. Pairs with the guest, which
    /// clears PENDING and then reads what the sender wrote.
    #[inline]
    pub fn is_raised(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| is_raised(word.load()))
    }

    /// Makes the port pending, and links it unless it is masked. The edge names the vCPU whose READY bit was set: its upcall
    /// is to be marked.
    ///
    /// A port without a word is remembered until it has one. An event for a vCPU without control block is
    /// dropped: PENDING without a queue would keep later ones from being announced.
    pub fn raise(&self, port: Port, channels: &Channels) -> Edge {
        let Some(word) = self.word(port).or_else(|| self.keep(port, channels)) else {
            return Edge::default();
        };
        let seen = word.load();
        if RMW_IS_FENCE && is_raised(seen) {
            return Edge::default();
        }
        let Some(channel) = channels.get(port) else { return Edge::default() };
        let target = channel.target();
        let Some(queues) = self.queues_of(target.vcpu).filter(|queues| queues.control.get().is_some()) else {
            return Edge::default();
        };
        let both = || word.set_pending_and_linked(seen);
        if !seen.is_linked()
            && !seen.is_masked()
            && let Some(ready) = self.link(port, queues, channel, target, both)
        {
            return Edge::upcall(ready).and_fresh(!seen.is_pending());
        }
        let fresh = word.set_pending();
        fence_after_rmw(); // set PENDING, look at MASKED and LINKED: pairs with `unmask`, and the guest's clearing of either
        Edge::upcall(self.link_if_needed(port, queues, &word, channel, target)).and_fresh(fresh)
    }

    /// Keeps an event for a port that has no word; the word, if it has got one just then.
    ///
    /// Flag, fence, look for the word; whoever adds the page adds it, fences, and looks for flags. So one of the
    /// two finds the other, and whoever takes the flag away raises the event.
    #[cold]
    fn keep(&self, port: Port, channels: &Channels) -> Option<Word<'_, P>> {
        let channel = channels.get(port)?;
        channel.save_event();
        fence_after_rmw();
        let word = self.word(port)?;
        channel.take_saved().then_some(word)
    }

    /// Clears MASKED, and links the port if it is pending, whatever MASKED was. Returns the vCPU whose READY bit
    /// was set by that.
    pub fn unmask(&self, port: Port, channels: &Channels) -> Option<VcpuId> {
        let (word, channel) = (self.word(port)?, channels.get(port)?);
        word.clear_masked();
        fence_after_rmw(); // clear MASKED, look at PENDING: pairs with `raise`
        let target = channel.target();
        self.link_if_needed(port, self.queues_of(target.vcpu)?, &word, channel, target)
    }

    /// Links the port if it is pending and neither linked nor masked.
    fn link_if_needed(
        &self,
        port: Port,
        queues: &VcpuQueues<P>,
        word: &Word<'_, P>,
        channel: &Channel,
        target: QueueId,
    ) -> Option<VcpuId> {
        if !is_to_be_linked(word.load()) {
            return None;
        }
        // The second look keeps ports off the queues that have no business there: if the guest has consumed the event
        // it was another sender that linked it; if it has masked the port, its unmask will. Setting LINKED decides.
        let set = || is_to_be_linked(word.load()) && word.set_linked();
        self.link(port, queues, channel, target, set).flatten()
    }

    /// Puts a port onto the queue, if `set`, called under the locks, has set its LINKED bit. Returns the vCPU whose READY bit
    /// was set by that; `None` if the port was not put there.
    ///
    /// If the port's last queue changes between reading and locking, another sender has linked it after
    /// it was seen pending: nothing is left to do. In detail, with all accesses sequentially consistent:
    /// we saw PENDING in the word, then read the old last queue; the other wrote the new one after it had
    /// set LINKED. Had that been before our look at the word, the guest would have had to clear LINKED in
    /// between, and it can reach the port only after the last queue was written. (A sender that has not set PENDING yet
    /// does so then, and looks again.)
    #[inline]
    fn link(
        &self,
        port: Port,
        queues: &VcpuQueues<P>,
        channel: &Channel,
        target: QueueId,
        set: impl FnOnce() -> bool,
    ) -> Option<Option<VcpuId>> {
        let control = queues.control.get()?;
        let last = channel.last_queue();
        if last == target {
            let mut queue = queues.queue(target.priority)?.lock();
            if channel.last_queue() != last || !set() {
                return None;
            }
            queue.forget(port);
            return Some(self.append(port, control, &mut queue, target));
        }
        let (mut old, mut goal) = queue::lock_both(&self.vcpus, last, target)?;
        if channel.last_queue() != last || !set() {
            return None;
        }
        old.forget(port);
        channel.set_last_queue(target);
        drop(old);
        Some(self.append(port, control, &mut goal, target))
    }

    /// Puts a port that is linked now behind the tail of a locked queue, or makes it the first.
    #[inline]
    fn append(&self, port: Port, control: &Control<P>, queue: &mut Queue, target: QueueId) -> Option<VcpuId> {
        let tail = core::mem::replace(&mut queue.tail, port);
        if tail != Port(0) && self.word(tail).is_some_and(|tail| tail.set_link(port)) {
            return None;
        }
        control.set_head(target.priority, port);
        // READY under the lock, too: set later, when the port may have been taken and be on another queue, it would
        // send the guest to the stale HEAD. The guest would take the port off that other queue out of turn, and what
        // is before it there would be lost with the next append.
        control.set_ready(target.priority).then_some(target.vcpu)
    }

    /// Takes back an event that was not consumed. LINKED stays: only the guest can take the port off.
    pub fn clear_pending(&self, port: Port) {
        if let Some(word) = self.word(port) {
            word.clear_pending();
        }
    }

    /// The port's event word as it is now, if it has one.
    pub fn peek(&self, port: Port) -> Option<EventWord> {
        self.word(port).map(|word| word.load())
    }

    /// The tails of all queues, for checking invariants.
    pub fn tails(&self) -> impl Iterator<Item = (QueueId, Port)> {
        let vcpus = (0..).map(VcpuId).zip(&self.vcpus);
        vcpus.flat_map(|(vcpu, queues)| {
            queues.queues().map(move |(priority, queue)| (QueueId { vcpu, priority }, queue.lock().tail))
        })
    }

    #[inline]
    fn word(&self, port: Port) -> Option<Word<'_, P>> {
        let (page, offset) = word_place(port)?;
        Word::new(&self.array.get(page)?.get()?.page, offset)
    }
}

/// Whoever sees a port pending, and neither linked nor masked, links it.
fn is_to_be_linked(word: EventWord) -> bool {
    word.is_pending() && !word.is_linked() && !word.is_masked()
}

/// Would a raise change nothing? PENDING alone is not enough.
fn is_raised(word: EventWord) -> bool {
    word.is_pending() && (word.is_linked() || word.is_masked())
}
