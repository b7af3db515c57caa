// SPDX-License-Identifier: MIT OR Apache-2.0
//! What handles events.

use core::fmt;

use evtchn_abi::{Errno, Port, VcpuId};

use super::ChannelId;
use crate::Hypercall;

/// What a handler says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It is handled.
    Done,
    /// There was nothing to do. Counted; a channel with the flow [late](super::Flow::LateEoi) whose events are often spurious is delayed.
    Spurious,
    /// It is handled later: [`Events::eoi`](super::Events::eoi) will say so. Of a channel with the flow [late](super::Flow::LateEoi)
    /// no event comes until then. Else the same as `Done`.
    Later,
}

/// An event, as its handler gets it.
#[derive(Clone, Copy)]
pub struct Event<'a> {
    /// The channel that it came on.
    pub channel: ChannelId,
    /// The channel's port.
    pub port: Port,
    /// The vCPU that handles it.
    pub vcpu: VcpuId,
    pub(super) xen: &'a dyn Hypercall,
}

impl Event<'_> {
    /// Signals the other end of the channel.
    ///
    /// # Errors
    /// EINVAL if it has no other end.
    pub fn notify(&self) -> Result<(), Errno> {
        self.xen.send(self.port)
    }

    /// Who is asked for anything else.
    pub fn hypercall(&self) -> &dyn Hypercall {
        self.xen
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { channel, port, vcpu, .. } = self;
        f.debug_struct("Event").field("channel", channel).field("port", port).field("vcpu", vcpu).finish()
    }
}

/// What is called for each event of a channel: a function, a closure, or a driver's own type.
///
/// It runs in the upcall, for one event of the channel at a time. It may do anything with the table but wait for it: close its own
/// channel, too.
pub trait Handler {
    /// An event has come.
    fn event(&mut self, event: &Event<'_>) -> Answer;
}

impl<F: FnMut(&Event<'_>) -> Answer + ?Sized> Handler for F {
    fn event(&mut self, event: &Event<'_>) -> Answer {
        self(event)
    }
}
