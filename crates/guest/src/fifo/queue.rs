// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upcall: takes ports off this vCPU's queues, the highest priority first, and one at a time, so that an event of a
//! higher priority that comes meanwhile is next.
//!
//! A queue ends at a port that is the last, that has no event word, or that says it is in no queue. Xen makes no queue
//! that ends otherwise than the first way; a damaged one costs the events behind the damage, and no more: every step
//! clears a LINKED that only Xen sets.

use core::ops::ControlFlow;

use evtchn_abi::fifo;
use evtchn_abi::{Port, Priority, VcpuId};
use evtchn_sync::Page;

use super::control::Block;
use super::word::{self, Taken};
use super::{Fifo, FifoVcpu};
use crate::info::Info;
use crate::{Memory, Scan};

impl<M: Memory, V: AsRef<[FifoVcpu]>> Fifo<M, V> {
    #[inline]
    pub(super) fn take_upcalls(&self, vcpu: VcpuId, mut handle: impl FnMut(Port) -> ControlFlow<()>) -> Scan {
        let Some((info, state)) = Info::of(&self.memory, vcpu).zip(self.vcpu(vcpu)) else {
            return Scan::Idle;
        };
        let Some(block) = Block::of(&self.memory, vcpu) else { return Scan::Idle };
        let mut result = Scan::Idle;
        while info.take_upcall() {
            // After upcall_pending was cleared: what comes later makes a new upcall.
            if self.consume(state, &block, &mut handle).is_break() {
                info.set_upcall();
                return Scan::Stopped;
            }
            result = Scan::Done;
        }
        result
    }

    #[inline]
    fn consume(
        &self,
        state: &FifoVcpu,
        block: &Block<'_, M::Page>,
        handle: &mut impl FnMut(Port) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut words = Words { fifo: self, cached: None };
        let mut ready = state.take_left() | block.take_ready();
        while let Some(queue) = first(ready) {
            let mut place = Place::of(state, block, queue);
            // As long as no queue of a higher priority has anything.
            while first(ready) == Some(queue) {
                let port = place.next;
                let Taken { next, is_event } = words.take(port);
                place.next = next;
                if next == Port(0) {
                    ready &= !queue.ready_bit();
                }
                if is_event && handle(port).is_break() {
                    state.leave(ready);
                    return ControlFlow::Break(());
                }
                ready |= block.take_ready();
                if next == Port(0) {
                    break;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// See [`Abi::offline`](crate::Abi::offline). Ends after so many events, in case that some ports have not been moved and
    /// are sent to all the time.
    pub(super) fn drain(&self, vcpu: VcpuId, mut limit: u32, mut left: impl FnMut(Port)) {
        let Some((state, block)) = self.vcpu(vcpu).zip(Block::of(&self.memory, vcpu)) else { return };
        let _ = self.consume(state, &block, &mut |port| {
            left(port);
            limit = limit.saturating_sub(1);
            if limit == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}

/// The event words, with the page of the last one at hand: ports that come one after the other are mostly near each other.
struct Words<'a, M: Memory, V> {
    fifo: &'a Fifo<M, V>,
    cached: Option<(usize, &'a M::Page)>,
}

impl<M: Memory, V: AsRef<[FifoVcpu]>> Words<'_, M, V> {
    #[inline]
    fn take(&mut self, port: Port) -> Taken {
        let taken = fifo::word_place(port).and_then(|(index, offset)| {
            let page = match self.cached {
                Some((cached, page)) if cached == index => page,
                _ => self.fifo.page(index)?,
            };
            self.cached = Some((index, page));
            Some(word::take(page, offset, page.u32(offset)?))
        });
        taken.unwrap_or(Taken::NOTHING)
    }
}

/// How far a vCPU has come in a queue. It is kept for the vCPU when this is dropped, also if a handler panics: a store for
/// each event would cost as much as all the rest but the change of the word.
struct Place<'a> {
    state: &'a FifoVcpu,
    queue: Priority,
    /// The port that comes next; port 0 at the end.
    next: Port,
}

impl<'a> Place<'a> {
    #[inline]
    fn of<P: Page>(state: &'a FifoVcpu, block: &Block<'_, P>, queue: Priority) -> Self {
        let kept = state.next(queue);
        Self { state, queue, next: if kept == Port(0) { block.head(queue) } else { kept } }
    }
}

impl Drop for Place<'_> {
    #[inline]
    fn drop(&mut self) {
        self.state.advance(self.queue, self.next);
    }
}

/// The queue of the highest priority in `ready`.
#[inline]
fn first(ready: u32) -> Option<Priority> {
    Priority::new(ready.trailing_zeros())
}
