// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upcall: takes ports off this vCPU's queues, the highest priority first, and one at a time, so that an event of a
//! higher priority that comes meanwhile is next.
//!
//! A queue ends at a port that is the last, that has no event word, or that says it is in no queue. Xen makes no queue
//! that ends otherwise than the first way; a damaged one costs the events behind the damage, and no more: every step
//! clears a LINKED that only Xen sets.

use core::ops::ControlFlow;

use evtchn_abi::fifo::{MAX_QUEUES, PENDING};
use evtchn_abi::{EventWord, Port, Priority, VcpuId};
use evtchn_sync::Page;

use super::{Fifo, FifoVcpu};
use crate::{Scan, upcall};

impl<P: Page, Q: AsRef<[FifoVcpu<P>]>, A: AsRef<[P]>> Fifo<P, Q, A> {
    /// Handles upcalls of this vCPU until none is waiting. Returns whether one was.
    ///
    /// For each port in this vCPU's queues that is pending and unmasked, the pending bit is cleared and then `handle`
    /// is called. It may mask the port, call any method here but this, and send events.
    ///
    /// Peers that never stop sending keep this running; see [`upcall_while`](Self::upcall_while).
    pub fn upcall(&self, vcpu: VcpuId, mut handle: impl FnMut(Port)) -> bool {
        let scan = self.upcall_while(vcpu, |port| {
            handle(port);
            ControlFlow::Continue(())
        });
        scan != Scan::Idle
    }

    /// As [`upcall`](Self::upcall), until `handle` says to stop: after so many events, or so long.
    ///
    /// The event whose handler says so counts as handled.
    pub fn upcall_while(&self, vcpu: VcpuId, mut handle: impl FnMut(Port) -> ControlFlow<()>) -> Scan {
        let mut result = Scan::Idle;
        while upcall::take(&self.shared_info, self.layout, vcpu) {
            // After upcall_pending was cleared: what comes later makes a new upcall.
            if self.consume(vcpu, &mut handle).is_break() {
                upcall::set(&self.shared_info, self.layout, vcpu);
                return Scan::Stopped;
            }
            result = Scan::Done;
        }
        result
    }

    /// Takes everything off the queues of a vCPU that goes offline, after its ports have been moved away. Handles
    /// nothing: what was pending stays so.
    ///
    /// `left` is called for each port with an event that nobody handles now, pending and not masked. Unmask it by
    /// hypercall to have Xen put it into the queue of its new vCPU. Without this the ports could not be used again
    /// after a close, and moved ones would be stuck here.
    ///
    /// Ends after as many steps as there are ports, in case that some have not been moved and are sent to all the time.
    pub fn drain(&self, vcpu: VcpuId, mut left: impl FnMut(Port)) {
        let Some(state) = self.vcpu(vcpu) else { return };
        let mut ready = state.take_ready();
        for _ in 0..self.nr_channels().saturating_add(MAX_QUEUES as u32) {
            let Some(queue) = first(ready) else { return };
            if let Some(port) = self.take_next(state, queue, &mut ready) {
                left(port);
            }
            ready |= state.take_ready();
        }
        state.leave(ready);
    }

    fn consume(&self, vcpu: VcpuId, handle: &mut impl FnMut(Port) -> ControlFlow<()>) -> ControlFlow<()> {
        let Some(state) = self.vcpu(vcpu) else { return ControlFlow::Continue(()) };
        let mut ready = state.take_ready();
        while let Some(queue) = first(ready) {
            let active = self.take_next(state, queue, &mut ready);
            if active.is_some_and(|port| self.handle(port, handle).is_break()) {
                state.leave(ready);
                return ControlFlow::Break(());
            }
            ready |= state.take_ready();
        }
        ControlFlow::Continue(())
    }

    /// Handles an event, unless somebody has taken it meanwhile.
    fn handle(&self, port: Port, handle: &mut impl FnMut(Port) -> ControlFlow<()>) -> ControlFlow<()> {
        let taken = self.word(port).is_some_and(|word| word.clear(PENDING).is_pending());
        if taken { handle(port) } else { ControlFlow::Continue(()) }
    }

    /// Takes the first port off a queue, and the queue out of `ready` if it was the last. The port, if it is pending
    /// and not masked.
    fn take_next(&self, state: &FifoVcpu<P>, queue: Priority, ready: &mut u32) -> Option<Port> {
        let port = state.next(queue);
        let unlinked = self.word(port).and_then(|word| word.unlink());
        let next = unlinked.map_or(Port(0), EventWord::link);
        state.advance(queue, next);
        if next == Port(0) {
            *ready &= !queue.ready_bit();
        }
        // Also of a port that is on no queue: Xen may send here late, after the port was taken off elsewhere.
        let active = self.event_word(port).is_some_and(is_active);
        active.then_some(port)
    }
}

fn is_active(word: EventWord) -> bool {
    word.is_pending() && !word.is_masked()
}

/// The queue of the highest priority in `ready`.
fn first(ready: u32) -> Option<Priority> {
    Priority::new(ready.trailing_zeros())
}
