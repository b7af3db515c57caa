// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine's locks and their order.
//!
//! | Order | Lock | Protects | Held for reading by | for writing by |
//! |---|---|---|---|---|
//! | 1 | domain table | which domains exist, handlers of global VIRQs | every operation | create, destroy, set_virq_handler, validate |
//! | 2 | event lock, one per domain; of two the lower id first | bindings, allocation, VIRQ and PIRQ tables, reset | send, unmask, VIRQ and PIRQ raising, poll, status, dump | all that open, close, connect or move |
//! | 3 | page lock, one per domain | which page is the shared_info, which ABI is used, its pages | whoever touches shared memory | set_shared_info, init_control, expand_array, reset |
//! | 4 | queue lock, one per FIFO queue; of two the lower queue id first | the queue's tail and HEAD, the last queue of the ports that it is | | whoever links a port |
//!
//! Rules:
//! * A binding changes only under the write lock of its domain. A binding that is interdomain before
//!   or after the change needs the write locks of both domains. So a sender that holds its own
//!   domain's read lock may use the record at the other end, without the other domain's lock.
//! * No thread takes one lock twice, for reading neither.
//! * The locks are phase-fair ([`evtchn_sync::RwLock`]): nobody waits for more than one writer more
//!   than is in front of it, so a domain that is busy cannot keep another one out.
//! * Hooks are called after all locks are dropped. The `pirq_*` hooks and `pin` are the
//!   exceptions; they say so.

use evtchn_sync::WriteGuard;

use crate::domain::{Domain, Events};

/// The write-locked event state of a domain and of its peer, which may be the same domain.
pub(crate) struct Pair<'a> {
    own: WriteGuard<'a, Events>,
    /// Only held. Nothing in the peer's `Events` changes with a channel, only its record.
    _peer: Option<WriteGuard<'a, Events>>,
}

impl<'a> Pair<'a> {
    /// Locks both domains in their order; once if they are one.
    pub fn lock<P>(own: &'a Domain<P>, peer: &'a Domain<P>) -> Self {
        if own.id == peer.id {
            return Self { own: own.event.write(), _peer: None };
        }
        if own.id < peer.id {
            let own = own.event.write();
            return Self { own, _peer: Some(peer.event.write()) };
        }
        let peer = peer.event.write();
        Self { own: own.event.write(), _peer: Some(peer) }
    }

    /// The first domain's event state.
    pub fn own(&mut self) -> &mut Events {
        &mut self.own
    }
}
