// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor's own view of a domain's ports, as Xen's debug key `e` prints it.

use alloc::vec::Vec;
use core::fmt;

use evtchn_abi::{DomId, EventWord, Port, VcpuId};
use evtchn_sync::{Page, enter};

use crate::channel::{Consumer, State};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

/// What a port's delivery ABI knows of it besides pending and masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Two-level: the selector bit of the port's word, on the vCPU that it notifies.
    Selector(bool),
    /// FIFO: the array has no word for the port yet.
    NoWord,
    /// FIFO: the event word.
    Word(EventWord),
}

impl fmt::Display for Link {
    /// As the debug key prints it: the selector bit; `?`; or the next port, `-` if the port is not on a
    /// queue, with `B` before it while the word is busy.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Selector(selected) => write!(f, "{}", u8::from(selected)),
            Self::NoWord => f.write_str("?"),
            Self::Word(word) => {
                f.write_str(if word.is_busy() { "B" } else { "" })?;
                if word.is_linked() { write!(f, "{}", word.link()) } else { f.write_str("-") }
            }
        }
    }
}

/// One port that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpRow {
    /// The port.
    pub port: Port,
    /// Its pending bit.
    pub pending: bool,
    /// Its mask bit.
    pub masked: bool,
    /// The ABI's own state.
    pub link: Link,
    /// What it is bound to; [`State::number`] is the number that Xen prints.
    pub state: State,
    /// The vCPU that it notifies.
    pub vcpu: VcpuId,
    /// Who in the embedder consumes it.
    pub consumer: Option<Consumer>,
}

impl fmt::Display for DumpRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p, m) = (u8::from(self.pending), u8::from(self.masked));
        let consumer = self.consumer.map_or(0, Consumer::get);
        write!(
            f,
            "{:4} [{p}/{m}/{}]: s={} n={} x={consumer}",
            self.port,
            self.link,
            self.state.number(),
            self.vcpu
        )?;
        match self.state {
            State::Free | State::Reserved | State::Ipi => Ok(()),
            State::Unbound { remote } => write!(f, " d={remote}"),
            State::Interdomain { remote, port } => write!(f, " d={remote} p={port}"),
            State::Pirq(pirq) => write!(f, " p={pirq}"),
            State::Virq(virq) => write!(f, " v={}", virq.0),
        }
    }
}

impl<H: Hooks> Engine<H> {
    /// All ports of a domain that are not free, in ascending order, without port 0. Each is looked at on its own.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn debug_dump(&self, domain: DomId) -> Result<Vec<DumpRow>, OpError> {
        let domain = self.domain(domain)?;
        let ports = (1..domain.channels.valid()).map(Port);
        Ok(ports.filter_map(|port| row(&domain, port)).collect())
    }

    /// How many ports of a domain are in use, and how many of those the embedder consumes.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn ports_in_use(&self, domain: DomId) -> Result<(u32, u32), OpError> {
        let domain = self.domain(domain)?;
        let events = domain.event.lock();
        Ok((events.ports.active(), events.ports.xen()))
    }
}

fn row<P: Page>(domain: &Domain<P>, port: Port) -> Option<DumpRow> {
    let guard = enter();
    let channel = domain.channels.get(port)?;
    let binding = channel.binding();
    (binding.state != State::Free).then(|| DumpRow {
        port,
        pending: domain.is_pending(port, &guard),
        masked: domain.is_masked(port, &guard),
        link: domain.link(port, channel.vcpu(), &guard),
        state: binding.state,
        vcpu: channel.vcpu(),
        consumer: binding.consumer,
    })
}
