// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU's control block and its sixteen queues.

use evtchn_abi::fifo::{ControlBlock, MAX_QUEUES, Priority};
use evtchn_abi::{Gfn, Port};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{Mutex, MutexGuard, Once, Page};

use crate::channel::QueueId;

/// Xen's half of a queue; the guest's half is the HEAD in the control block. Port 0: no tail.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// The port that was linked last. It may have left the queue since; then its word is not linked, or
    /// `Fifo::link` has taken it away from here.
    pub tail: Port,
}

/// A control block, at an offset that was checked.
#[derive(Debug)]
pub(crate) struct Control<P> {
    page: P,
    /// The frame that the page is.
    pub gfn: Gfn,
    pub offset: usize,
}

impl Queue {
    /// Forgets a port that leaves the queue, or is linked anew.
    pub fn forget(&mut self, port: Port) {
        if self.tail == port {
            self.tail = Port(0);
        }
    }
}

impl<P: Page> Control<P> {
    pub fn new(page: P, gfn: Gfn, offset: usize) -> Self {
        Self { page, gfn, offset }
    }

    /// Makes `port` the first of the queue. The guest looks here when READY says so, or when it has come
    /// to the end of what it knew.
    pub fn set_head(&self, priority: Priority, port: Port) {
        let Some(field) = ControlBlock::head(priority) else { return };
        if let Some(head) = self.page.u32(self.offset + field) {
            // SeqCst, and before `set_ready`: who takes the READY bit sees this head.
            head.store(port.0, SeqCst);
            self.page.wrote(self.offset + field);
        }
    }

    /// Sets the queue's READY bit; true if it was 0.
    pub fn set_ready(&self, priority: Priority) -> bool {
        let Some(ready) = self.page.u32(self.offset + ControlBlock::READY) else { return false };
        let bit = priority.ready_bit();
        let edge = ready.fetch_or(bit, SeqCst) & bit == 0;
        if edge {
            self.page.wrote(self.offset + ControlBlock::READY);
        }
        edge
    }

    /// Is a READY bit set?
    pub fn is_ready(&self) -> bool {
        self.page.u32(self.offset + ControlBlock::READY).is_some_and(|ready| ready.load(SeqCst) != 0)
    }
}

/// What Xen keeps of a vCPU while its domain uses the FIFO ABI. Senders to other vCPUs use other cache lines.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct VcpuQueues<P> {
    pub control: Once<Control<P>>,
    queues: [Mutex<Queue>; MAX_QUEUES],
}

impl<P> VcpuQueues<P> {
    pub fn new() -> Self {
        let queues = core::array::from_fn(|_| Mutex::new(Queue { tail: Port(0) }));
        Self { control: Once::new(), queues }
    }

    pub fn queue(&self, priority: Priority) -> Option<&Mutex<Queue>> {
        self.queues.get(priority.queue())
    }

    /// The queues with their priorities.
    pub fn queues(&self) -> impl Iterator<Item = (Priority, &Mutex<Queue>)> {
        Priority::all().zip(&self.queues)
    }
}

/// Locks two different queues, the lower id first: the one that a port was on, and the one that it goes to. `None` if
/// one of them does not exist.
pub(crate) fn lock_both<P>(
    vcpus: &[VcpuQueues<P>],
    old: QueueId,
    goal: QueueId,
) -> Option<(MutexGuard<'_, Queue>, MutexGuard<'_, Queue>)> {
    let queue = |id: QueueId| vcpus.get(id.vcpu.0 as usize)?.queue(id.priority);
    let (from, to) = (queue(old)?, queue(goal)?);
    if old < goal {
        let from = from.lock();
        return Some((from, to.lock()));
    }
    let to = to.lock();
    Some((from.lock(), to))
}
