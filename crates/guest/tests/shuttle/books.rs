// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which sends a channel has to answer for, and which it may.
//!
//! A channel lives from its bind to its unbind; its connection, which is where senders send, outlives it. A handler
//! must be called after the last send that began while its channel was bound, and may be called as often as sends went on while
//! it lived, and once for the bind.
//!
//! Nothing here is a step of the schedule.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};

use evtchn_abi::Port;
use evtchn_guest::ChannelId;

/// One channel's life.
#[derive(Default)]
pub struct Life {
    bound: AtomicBool,
    port: AtomicU32,
    /// The number of the last send that a handler must see, and of the last that one has seen.
    required: AtomicU32,
    seen: AtomicU32,
    /// How often the handler may be called, and how often it was.
    credit: AtomicU32,
    handled: AtomicU32,
    pub is_running: AtomicBool,
    /// An event's end has not been reported.
    pub awaits_end: AtomicBool,
    /// It has been masked, and no handler ran then.
    pub is_masked: AtomicBool,
    /// The record has let go of the handler.
    pub is_dropped: AtomicBool,
}

/// Where senders send.
#[derive(Default)]
pub struct Connection {
    now: Mutex<Now>,
    /// Held by whoever binds and unbinds.
    pub is_held: AtomicBool,
}

#[derive(Default)]
struct Now {
    sent: u32,
    under_way: u32,
    life: Option<Arc<Life>>,
    channel: Option<ChannelId>,
}

impl Connection {
    pub fn channel(&self) -> Option<ChannelId> {
        self.now.lock().unwrap().channel
    }

    pub fn life(&self) -> Option<Arc<Life>> {
        self.now.lock().unwrap().life.clone()
    }

    pub fn sent(&self) -> u32 {
        self.now.lock().unwrap().sent
    }

    /// A channel begins.
    pub fn begin(&self) -> Arc<Life> {
        let mut now = self.now.lock().unwrap();
        let life = Arc::new(Life::default());
        life.credit.store(now.under_way + 1, SeqCst);
        now.life = Some(life.clone());
        life
    }

    /// It is bound.
    pub fn bound(&self, channel: ChannelId, port: Port) {
        let mut now = self.now.lock().unwrap();
        now.channel = Some(channel);
        let life = now.life.as_ref().unwrap();
        life.port.store(port.0, SeqCst);
        life.bound.store(true, SeqCst);
    }

    /// As `bound`, of a port without a channel.
    pub fn opened(&self, port: Port) {
        let now = self.now.lock().unwrap();
        let life = now.life.as_ref().unwrap();
        life.port.store(port.0, SeqCst);
        life.bound.store(true, SeqCst);
    }

    /// It has a new port. What went before is nobody's.
    pub fn revived(&self, port: Port) {
        let now = self.now.lock().unwrap();
        let life = now.life.as_ref().unwrap();
        life.port.store(port.0, SeqCst);
        life.credit.fetch_add(2, SeqCst); // the bind, and what was remembered before
    }

    /// It is gone; nobody answers for later sends.
    pub fn end(&self) {
        let mut now = self.now.lock().unwrap();
        (now.life, now.channel) = (None, None);
    }

    /// Sends by `send`.
    pub fn send(&self, send: impl FnOnce(Option<ChannelId>)) {
        let channel = {
            let mut now = self.now.lock().unwrap();
            now.sent += 1;
            now.under_way += 1;
            if let Some(life) = &now.life {
                life.credit.fetch_add(1, SeqCst);
                if life.bound.load(SeqCst) {
                    life.required.store(now.sent, SeqCst);
                }
            }
            now.channel
        };
        send(channel);
        self.now.lock().unwrap().under_way -= 1;
    }
}

impl Life {
    /// The handler is called.
    pub fn handle(&self, connection: &Connection) {
        self.handled.fetch_add(1, SeqCst);
        self.seen.store(connection.sent(), SeqCst);
    }

    pub fn port(&self) -> Port {
        Port(self.port.load(SeqCst))
    }

    pub fn handled(&self) -> u32 {
        self.handled.load(SeqCst)
    }

    /// Nothing was lost.
    pub fn is_complete(&self) -> bool {
        self.seen.load(SeqCst) >= self.required.load(SeqCst)
    }

    /// How often the handler was called without a send.
    pub fn unexplained(&self) -> u32 {
        self.handled().saturating_sub(self.credit.load(SeqCst))
    }
}

/// Which ports may bring an event of their last owner's: a vCPU that has taken an event finds out whose it is a moment later, and
/// the port may be closed and another's by then.
#[derive(Default)]
pub struct Strays {
    upcalls: AtomicU32,
    inside: AtomicU32,
    by_port: Mutex<BTreeMap<Port, u32>>,
}

impl Strays {
    /// Runs an upcall.
    pub fn upcall<T>(&self, run: impl FnOnce() -> T) -> T {
        self.upcalls.fetch_add(1, SeqCst);
        self.inside.fetch_add(1, SeqCst);
        let result = run();
        self.inside.fetch_sub(1, SeqCst);
        result
    }

    /// Closes a port by `close`.
    pub fn close(&self, port: Port, close: impl FnOnce()) {
        let (inside, before) = (self.inside.load(SeqCst), self.upcalls.load(SeqCst));
        close();
        let begun = self.upcalls.load(SeqCst) - before;
        *self.by_port.lock().unwrap().entry(port).or_default() += inside + begun;
    }

    pub fn of(&self, port: Port) -> u32 {
        self.by_port.lock().unwrap().get(&port).copied().unwrap_or(0)
    }
}
