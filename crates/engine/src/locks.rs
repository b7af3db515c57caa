// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is locked, in which order, and what is not.
//!
//! | Order | Lock | Protects | Held by |
//! |---|---|---|---|
//! | 1 | registry | which domains exist, who handles a global VIRQ | create, destroy, set_virq_handler, bind_virq of a global VIRQ, validate |
//! | 2 | event lock, one per domain; of two the lower id first | bindings, allocation, VIRQ and PIRQ tables, reset, what is shared with the guest | all that open, close, connect, move or set up |
//! | 3 | timer lock, one per vCPU | its timers | whoever sets them, `deadline_passed`, and whoever saves the domain |
//! | 4 | queue lock, one per FIFO queue; of two the lower queue id first | the queue's tail and HEAD, the last queue of the ports that it is | whoever links a port |
//!
//! Sends, unmasks, polls, VIRQs and PIRQs take none of the first two. They are *readers* ([`evtchn_sync::enter`]): what
//! they find in the domain table, the records and the pages stays until they are done. What a close does about
//! readers that were there before it is in [`crate::quarantine`].
//!
//! Rules:
//! * A binding changes only under the event lock of its domain. A binding that is interdomain before
//!   or after the change needs those of both domains.
//! * No thread takes one lock twice. Locks serve in the order of arrival, so a domain that is busy cannot keep another
//!   one out.
//! * A reader takes no lock but a queue's, and does not wait for readers.
//! * Nobody waits for readers under a lock, but for the few microseconds by which an allocation lets closed ports of its own
//!   domain out of the quarantine.
//! * Hooks are called without locks, and not by readers. The `pirq_*` hooks, `pin`, `is_read_only`, `offload` and `unload` are called
//!   under the event lock, `set_deadline` under the timer lock, and a policy is asked by readers and under locks; they say so.

use evtchn_sync::MutexGuard;

use crate::domain::{Domain, Events};

/// The locked event state of a domain and of its peer, which may be the same domain.
pub(crate) struct Pair<'a> {
    own: MutexGuard<'a, Events>,
    /// For the most part only held: but for static channels, nothing in the peer's `Events` changes with a channel.
    peer: Option<MutexGuard<'a, Events>>,
}

impl<'a> Pair<'a> {
    /// Locks both domains in their order; once if they are one.
    pub fn lock<P>(own: &'a Domain<P>, peer: &'a Domain<P>) -> Self {
        if own.id == peer.id {
            return Self { own: own.event.lock(), peer: None };
        }
        if own.id < peer.id {
            let own = own.event.lock();
            return Self { own, peer: Some(peer.event.lock()) };
        }
        let peer = peer.event.lock();
        Self { own: own.event.lock(), peer: Some(peer) }
    }

    /// The first domain's event state.
    pub fn own(&mut self) -> &mut Events {
        &mut self.own
    }

    /// The peer's event state; the first domain's if they are one.
    pub fn peer(&mut self) -> &mut Events {
        self.peer.as_mut().unwrap_or(&mut self.own)
    }
}
