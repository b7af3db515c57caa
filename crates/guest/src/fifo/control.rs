// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU's control block, and what the guest itself keeps for the vCPU.

use evtchn_abi::fifo::{ControlBlock, LINK_MASK, MAX_QUEUES, WORD_SIZE};
use evtchn_abi::{Errno, Gfn, Port, Priority, VcpuId};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};
use evtchn_sync::atomic::{AtomicBool, AtomicU32};
use evtchn_sync::{PAGE_SIZE, Page, array_of, const_fn};

use crate::info::Registration;
use crate::{Memory, Place};

/// One vCPU of a guest with the FIFO ABI: how far it has come in each queue.
#[derive(Debug)]
pub struct FifoVcpu {
    /// For each queue the port that comes next; 0: the one that the block's HEAD names. Only this vCPU writes them.
    heads: [AtomicU32; MAX_QUEUES],
    /// The queues that a stopped upcall left.
    left: AtomicU32,
    /// Whether Xen knows the control block.
    known: AtomicBool,
    pub(super) registration: Registration,
}

impl FifoVcpu {
    const_fn! {
        /// A vCPU whose queues are empty.
        #[must_use]
        pub const fn new() -> Self {
            Self {
                heads: array_of!(AtomicU32::new(0)),
                left: AtomicU32::new(0),
                known: AtomicBool::new(false),
                registration: Registration::new(),
            }
        }
    }

    /// Says whether Xen knows the block; whether it did before.
    pub(super) fn set_known(&self, known: bool) -> bool {
        self.known.swap(known, SeqCst)
    }

    pub(super) fn forget(&self) {
        self.set_known(false);
        self.registration.forget();
        self.heads.iter().chain([&self.left]).for_each(|word| word.store(0, Relaxed));
    }

    /// Takes the queues that were left over.
    #[inline]
    pub(super) fn take_left(&self) -> u32 {
        self.left.swap(0, Relaxed)
    }

    /// Keeps queues for the next upcall.
    pub(super) fn leave(&self, queues: u32) {
        self.left.store(queues, Relaxed);
    }

    /// The port that comes next in a queue; port 0 if HEAD names it.
    #[inline]
    pub(super) fn next(&self, queue: Priority) -> Port {
        Port(self.heads.get(queue.queue()).map_or(0, |head| head.load(Relaxed)))
    }

    /// Says which port of a queue comes next; port 0 at its end.
    #[inline]
    pub(super) fn advance(&self, queue: Priority, next: Port) {
        if let Some(head) = self.heads.get(queue.queue()) {
            head.store(next.0, Relaxed);
        }
    }
}

impl Default for FifoVcpu {
    fn default() -> Self {
        Self::new()
    }
}

/// A vCPU's control block in memory.
#[derive(Debug)]
pub(super) struct Block<'a, P> {
    place: Place<'a, P>,
}

impl<'a, P: Page> Block<'a, P> {
    /// A vCPU's; `None` if there is no memory for it, or it does not fit where it is.
    #[inline]
    pub fn of<M: Memory<Page = P>>(memory: &'a M, vcpu: VcpuId) -> Option<Self> {
        let place = memory.control_block(vcpu)?;
        let fits = place.offset.is_multiple_of(ControlBlock::ALIGN)
            && place.offset <= PAGE_SIZE - ControlBlock::SIZE;
        fits.then_some(Self { place })
    }

    /// Where Xen finds it.
    pub fn for_xen(&self) -> Result<(Gfn, u32), Errno> {
        Ok((self.place.gfn, u32::try_from(self.place.offset).map_err(|_| Errno::EINVAL)?))
    }

    /// Zeroes it, before Xen gets to know it.
    pub fn zero(&self) {
        for at in (self.place.offset..).take(ControlBlock::SIZE).step_by(WORD_SIZE) {
            if let Some(word) = self.place.page.u32(at) {
                word.store(0, SeqCst);
                self.place.page.wrote(at);
            }
        }
    }

    /// Takes the queues that have news.
    #[inline]
    pub fn take_ready(&self) -> u32 {
        let at = self.place.offset.wrapping_add(ControlBlock::READY);
        let Some(ready) = self.place.page.u32(at) else { return 0 };
        // Mostly nothing is new: a read costs less than an exchange.
        if ready.load(SeqCst) == 0 {
            return 0;
        }
        let taken = ready.swap(0, SeqCst);
        self.place.page.wrote(at);
        taken & ((1 << MAX_QUEUES) - 1)
    }

    /// The first port of a queue as Xen wrote it; port 0 if there is none.
    pub fn head(&self, queue: Priority) -> Port {
        let at = ControlBlock::head(queue).map(|head| self.place.offset.wrapping_add(head));
        let head = at.and_then(|at| self.place.page.u32(at));
        Port(head.map_or(0, |head| head.load(SeqCst) & LINK_MASK))
    }
}
