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
use evtchn_sync::{Once, Page, fence_after_rmw};

use self::queue::{Control, Locked, VcpuQueues};
use self::word::Word;
use crate::channel::{Channel, QueueId};
use crate::error::OpError;
use crate::table::{Channels, filled};

/// What a raise changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// PENDING went from 0 to 1.
    pub fresh: bool,
    /// The READY bit of a queue of this vCPU went from 0 to 1: mark its upcall.
    pub ready: Option<VcpuId>,
}

/// A page of the event array, and the frame that it is.
#[derive(Debug)]
struct ArrayPage<P> {
    page: P,
    gfn: Gfn,
}

/// A domain's event array and queues. Readers use it; what is added to it is added under the event lock.
#[derive(Debug)]
pub(crate) struct Fifo<P> {
    array: [Once<ArrayPage<P>>; MAX_ARRAY_PAGES as usize],
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
        Ok(Self { array: [const { Once::new() }; MAX_ARRAY_PAGES as usize], pages: AtomicU32::new(0), vcpus })
    }

    pub fn has_control(&self, vcpu: VcpuId) -> bool {
        self.queues_of(vcpu).is_some_and(|queues| queues.control.get().is_some())
    }

    fn queues_of(&self, vcpu: VcpuId) -> Option<&VcpuQueues<P>> {
        self.vcpus.get(vcpu.0 as usize)
    }

    pub fn has_room(&self) -> bool {
        self.pages.load(Relaxed) < MAX_ARRAY_PAGES
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

    /// Makes the port pending, and links it unless it is masked.
    ///
    /// A port without a word is remembered until it has one. An event for a vCPU without control block is
    /// dropped: PENDING without a queue would keep later ones from being announced.
    #[inline]
    pub fn raise(&self, port: Port, channels: &Channels) -> Pushed {
        let Some(word) = self.word(port).or_else(|| self.keep(port, channels)) else {
            return Pushed::default();
        };
        // What the sender wrote comes before this look, by the fence of the reader's entry. Pairs with the guest, which
        // clears PENDING and then reads what the sender wrote.
        let seen = word.load();
        if seen.is_pending() && (seen.is_linked() || seen.is_masked()) {
            return Pushed::default();
        }
        self.raise_edge(port, &word, channels)
    }

    fn raise_edge(&self, port: Port, word: &Word<'_, P>, channels: &Channels) -> Pushed {
        let Some(channel) = channels.get(port) else { return Pushed::default() };
        let target = channel.target();
        if !self.has_control(target.vcpu) {
            return Pushed::default();
        }
        let was = word.set_pending();
        let linkable = !was.is_linked() && !was.is_masked();
        let ready = linkable.then(|| self.link(port, word, channel, target)).flatten();
        Pushed { fresh: !was.is_pending(), ready }
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
        let was = word.clear_masked();
        let linkable = was.is_pending() && !was.is_linked();
        linkable.then(|| self.link(port, &word, channel, channel.target())).flatten()
    }

    /// Puts the port, which was seen pending and neither linked nor masked, onto the queue. Returns the
    /// vCPU whose READY bit was set by that.
    ///
    /// If the port's last queue changes between reading and locking, another sender has linked it after
    /// it was seen pending: nothing is left to do. In detail, with all accesses sequentially consistent:
    /// we saw PENDING in the word, then read the old last queue; the other wrote the new one after it had
    /// set LINKED. Had that been before our look at the word, the guest would have had to clear LINKED in
    /// between, and it can reach the port only after the last queue was written.
    fn link(&self, port: Port, word: &Word<'_, P>, channel: &Channel, target: QueueId) -> Option<VcpuId> {
        let control = self.queues_of(target.vcpu)?.control.get()?;
        let last = channel.last_queue();
        let mut queues = Locked::lock(&self.vcpus, last, target)?;
        if channel.last_queue() != last || !still_to_link(word.load()) || word.set_linked() {
            return None;
        }
        queues.leave(port);
        if last != target {
            channel.set_last_queue(target);
        }
        queues.unlock_old();
        let tail = core::mem::replace(&mut queues.goal().tail, port);
        let appended = tail != Port(0) && self.word(tail).is_some_and(|tail| tail.set_link(port));
        if appended {
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

/// Has nobody done it meanwhile? If the guest has consumed the event it was another sender that linked
/// it; if it has masked the port, its unmask will. Only a hint, to keep ports off the queues that have no
/// business there: setting LINKED decides.
fn still_to_link(word: EventWord) -> bool {
    word.is_pending() && !word.is_linked() && !word.is_masked()
}
