// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU's control block, and what the guest itself keeps for the vCPU.

use evtchn_abi::fifo::{ControlBlock, LINK_MASK, MAX_QUEUES, WORD_SIZE};
use evtchn_abi::{Errno, Port, Priority};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};
use evtchn_sync::atomic::{AtomicBool, AtomicU32};
use evtchn_sync::{PAGE_SIZE, Page};

/// One vCPU of a guest with the FIFO ABI: its control block, and how far it has come in each queue.
#[derive(Debug)]
pub struct FifoVcpu<P> {
    page: P,
    offset: usize,
    /// Whether Xen knows the block.
    given: AtomicBool,
    /// For each queue the port that comes next; 0: the one that the block's HEAD names. Only this vCPU writes them.
    heads: [AtomicU32; MAX_QUEUES],
    /// The queues that a stopped upcall left.
    left: AtomicU32,
}

impl<P: Page> FifoVcpu<P> {
    /// A vCPU whose control block is `offset` bytes into `page`: a multiple of 8, at most 4024. Several vCPUs may
    /// share a page.
    #[cfg(not(loom))]
    pub const fn new(page: P, offset: usize) -> Self {
        let heads = [const { AtomicU32::new(0) }; MAX_QUEUES];
        Self { page, offset, given: AtomicBool::new(false), heads, left: AtomicU32::new(0) }
    }

    /// A vCPU whose control block is `offset` bytes into `page`. Not a constant, as loom's atomics are not.
    #[cfg(loom)]
    pub fn new(page: P, offset: usize) -> Self {
        let heads = core::array::from_fn(|_| AtomicU32::new(0));
        Self { page, offset, given: AtomicBool::new(false), heads, left: AtomicU32::new(0) }
    }

    /// Zeroes the block, before Xen gets to know it. Its offset, for Xen.
    ///
    /// # Errors
    /// EINVAL if Xen knows it already or it does not fit into its page.
    pub(super) fn prepare(&self) -> Result<u32, Errno> {
        let fits =
            self.offset.is_multiple_of(ControlBlock::ALIGN) && self.offset <= PAGE_SIZE - ControlBlock::SIZE;
        let offset = u32::try_from(self.offset).ok().filter(|_| fits).ok_or(Errno::EINVAL)?;
        if self.given.swap(true, SeqCst) {
            return Err(Errno::EINVAL);
        }
        self.heads.iter().chain([&self.left]).for_each(|word| word.store(0, Relaxed));
        self.zero().ok_or(Errno::EINVAL).inspect_err(|_| self.withdraw())?;
        Ok(offset)
    }

    fn zero(&self) -> Option<()> {
        for field in (0..ControlBlock::SIZE).step_by(WORD_SIZE) {
            let at = self.offset.checked_add(field)?;
            self.page.u32(at)?.store(0, SeqCst);
            self.page.wrote(at);
        }
        Some(())
    }

    /// Xen does not know the block, or no more.
    pub(super) fn withdraw(&self) {
        self.given.store(false, SeqCst);
    }

    /// Takes the queues that have news, those that were left over included.
    pub(super) fn take_ready(&self) -> u32 {
        let left = self.left.swap(0, Relaxed);
        left | self.take_new()
    }

    fn take_new(&self) -> u32 {
        let Some(at) = self.offset.checked_add(ControlBlock::READY) else { return 0 };
        let Some(ready) = self.page.u32(at) else { return 0 };
        // Mostly nothing is new: a read costs less than an exchange.
        if ready.load(SeqCst) == 0 {
            return 0;
        }
        let taken = ready.swap(0, SeqCst);
        self.page.wrote(at);
        taken & ((1 << MAX_QUEUES) - 1)
    }

    /// Keeps queues for the next upcall.
    pub(super) fn leave(&self, queues: u32) {
        self.left.fetch_or(queues, Relaxed);
    }

    /// The next port of a queue; port 0 if there is none.
    pub(super) fn next(&self, queue: Priority) -> Port {
        let kept = self.heads.get(queue.queue()).map_or(0, |head| head.load(Relaxed));
        Port(if kept == 0 { self.head(queue).unwrap_or(0) } else { kept })
    }

    /// The first port of a queue as Xen wrote it.
    fn head(&self, queue: Priority) -> Option<u32> {
        let at = self.offset.checked_add(ControlBlock::head(queue)?)?;
        Some(self.page.u32(at)?.load(SeqCst) & LINK_MASK)
    }

    /// Says which port of a queue comes next; port 0 at its end.
    pub(super) fn advance(&self, queue: Priority, next: Port) {
        if let Some(head) = self.heads.get(queue.queue()) {
            head.store(next.0, Relaxed);
        }
    }
}
