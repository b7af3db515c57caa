// SPDX-License-Identifier: MIT OR Apache-2.0
//! The queues in a saved state.
//!
//! # What is kept
//!
//! The guest's memory has the event words, but neither a queue's tail nor where the guest is in a queue: it knows
//! the front itself, and HEAD may name a port that it has taken long ago. So a queue cannot be found again by its words,
//! and its tail is kept. Of the ports' last queues only the tails' matter, which follow from the tails: the last
//! queue of another port is where it would be removed as tail, and there is nothing to remove.
//!
//! # Why no event is lost between the state and the copy of the memory
//!
//! The state is a *cut*: while it is taken all queues are locked, so nothing is linked, and tails and LINKED bits
//! belong together. The guest does not run between the cut and the copy of its memory. So until the copy the words change by
//! senders only, who can
//!
//! * set PENDING;
//! * set LINKED in a word that did not have it at the cut, and later change its LINK;
//! * change the LINK of a tail of the cut; set BUSY for a moment;
//! * write HEAD and READY of a queue that was empty at the cut.
//!
//! [`Fifo::rewind`] takes all of this back but PENDING and READY, whatever part of it the copy has caught. Then lists, tails and
//! last queues are those of the cut; whoever is pending, not linked and not masked is linked again, and a READY bit that is
//! left over leads to HEAD 0, where no event is. If nobody sent meanwhile nothing is taken back, whatever a guest has written.

use alloc::vec::Vec;

use evtchn_abi::fifo::{BUSY, LINK_MASK, LINKED, Priority, WORDS_PER_PAGE};
use evtchn_abi::{Port, VcpuId};
use evtchn_sync::Page;
use evtchn_sync::atomic::Ordering::Relaxed;

use super::queue::VcpuQueues;
use super::{Fifo, is_to_be_linked};
use crate::channel::QueueId;
use crate::error::OpError;
use crate::state::{ControlState, FifoState, TailState, push};
use crate::table::Channels;

impl<P: Page> Fifo<P> {
    /// The cut; kept events are left out. Under the event lock, by a reader.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn save(&self) -> Result<FifoState, OpError> {
        let mut state = FifoState::default();
        for (vcpu, queues) in self.controlled() {
            if let Some(control) = queues.control.get() {
                let offset = u32::try_from(control.offset).unwrap_or_default(); // below 4096
                push(&mut state.controls, ControlState { vcpu: vcpu.0, gfn: control.gfn.0, offset })?;
            }
        }
        for page in self.array.iter().map_while(|page| page.get()) {
            push(&mut state.array, page.gfn.0)?;
        }
        self.save_queues(&mut state)?;
        Ok(state)
    }

    fn save_queues(&self, state: &mut FifoState) -> Result<(), OpError> {
        let mut locked = Vec::new();
        let queues = self.controlled().flat_map(|(vcpu, queues)| {
            queues.queues().map(move |(priority, queue)| (QueueId { vcpu, priority }, queue))
        });
        for (id, queue) in queues {
            locked.try_reserve(1).map_err(|_| OpError::OutOfMemory)?;
            let queue = queue.lock();
            if queue.tail != Port(0) {
                let (vcpu, priority, port) = (id.vcpu.0, id.priority.0, queue.tail.0);
                push(&mut state.tails, TailState { vcpu, priority, port })?;
            }
            locked.push(queue);
        }
        let linked = |port: &Port| self.peek(*port).is_some_and(|word| word.is_linked());
        for port in self.ports().filter(linked) {
            push(&mut state.linked, port.0)?;
        }
        drop(locked);
        Ok(())
    }

    /// The vCPUs with control blocks.
    fn controlled(&self) -> impl Iterator<Item = (VcpuId, &VcpuQueues<P>)> {
        let vcpus = (0..).map(VcpuId).zip(&self.vcpus);
        vcpus.filter(|(_, queues)| queues.control.get().is_some())
    }

    /// The ports that have words.
    fn ports(&self) -> impl Iterator<Item = Port> + use<P> {
        (0..self.pages.load(Relaxed) * WORDS_PER_PAGE).map(Port)
    }

    /// Gives a queue the tail that it had; false if there is no such queue or port, or the port is another queue's tail.
    /// Before the queues are used.
    pub fn set_tail(&self, id: QueueId, port: Port, channels: &Channels) -> bool {
        let Some(channel) = channels.get(port) else { return false };
        let queue = |id: QueueId| self.queues_of(id.vcpu)?.queue(id.priority);
        if queue(channel.last_queue()).is_none_or(|last| last.lock().tail == port) {
            return false;
        }
        let given = queue(id).map(|queue| queue.lock().tail = port);
        channel.set_last_queue(id);
        given.is_some()
    }

    /// Takes back what senders have linked since the cut, at which the ports `linked` had LINKED. Before the queues are used.
    pub fn rewind(&self, linked: &[u32]) {
        let mut linked = linked.iter().peekable();
        for port in self.ports() {
            let was_linked = linked.next_if(|&&next| next == port.0).is_some();
            let Some(word) = self.word(port) else { continue };
            let seen = word.load();
            if seen.is_linked() && !was_linked {
                word.clear(LINKED | LINK_MASK | BUSY);
            } else if seen.is_busy() {
                word.clear(BUSY);
            }
        }
        for (priority, queues) in
            self.controlled().flat_map(|(_, queues)| Priority::all().map(move |p| (p, queues)))
        {
            end_at_tail(self, queues, priority);
        }
    }

    /// Links the port if it is pending and should be on a queue. The vCPU to tell if it was.
    pub fn announce(&self, port: Port, channels: &Channels) -> Option<VcpuId> {
        let (word, channel) = (self.word(port)?, channels.get(port)?);
        let target = channel.target();
        let queues = self.queues_of(target.vcpu)?;
        is_to_be_linked(word.load()).then(|| self.link_if_needed(port, queues, &word, channel, target))?;
        Some(target.vcpu)
    }

    /// The vCPUs that have something on a queue, as their READY bits say.
    pub fn ready(&self) -> impl Iterator<Item = VcpuId> {
        let ready = |queues: &VcpuQueues<P>| queues.control.get().is_some_and(|control| control.is_ready());
        self.controlled().filter(move |(_, queues)| ready(queues)).map(|(vcpu, _)| vcpu)
    }
}

/// Nothing follows the tail of a queue, and nothing is found in an empty one.
fn end_at_tail<P: Page>(fifo: &Fifo<P>, queues: &VcpuQueues<P>, priority: Priority) {
    let Some(tail) = queues.queue(priority).map(|queue| queue.lock().tail) else { return };
    let word = fifo.word(tail).filter(|word| tail != Port(0) && word.load().is_linked());
    match (word, queues.control.get()) {
        (Some(word), _) if word.load().link() != Port(0) => {
            word.clear(LINK_MASK);
        }
        (None, Some(control)) => control.set_head(priority, Port(0)),
        (Some(_), _) | (None, None) => {}
    }
}
