// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypervisor's own view of a domain's ports, as Xen's debug key `e` prints it.

use alloc::vec::Vec;
use core::fmt;

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::Page;

use crate::channel::{Consumer, State};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

/// One port that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpRow {
    /// The port.
    pub port: Port,
    /// Its pending bit.
    pub pending: bool,
    /// Its mask bit.
    pub masked: bool,
    /// The selector bit of its word, on the vCPU that it notifies.
    pub selected: bool,
    /// What it is bound to; [`State::number`] is the number that Xen prints.
    pub state: State,
    /// The vCPU that it notifies.
    pub vcpu: VcpuId,
    /// Who in the embedder consumes it.
    pub consumer: Option<Consumer>,
}

impl fmt::Display for DumpRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p, m, s) = (u8::from(self.pending), u8::from(self.masked), u8::from(self.selected));
        let consumer = self.consumer.map_or(0, Consumer::get);
        write!(f, "{:4} [{p}/{m}/{s}]: s={} n={} x={consumer}", self.port, self.state.number(), self.vcpu)?;
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
    /// All ports of a domain that are not free, in ascending order, without port 0.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn debug_dump(&self, domain: DomId) -> Result<Vec<DumpRow>, OpError> {
        let domains = self.domains();
        let domain = domains.get(domain)?;
        let events = domain.event.read();
        Ok((1..events.ports.valid()).filter_map(|port| row(domain, Port(port))).collect())
    }

    /// How many ports of a domain are in use, and how many of those the embedder consumes.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn ports_in_use(&self, domain: DomId) -> Result<(u32, u32), OpError> {
        let domains = self.domains();
        let events = domains.get(domain)?.event.read();
        Ok((events.ports.active(), events.ports.xen()))
    }
}

fn row<P: Page>(domain: &Domain<P>, port: Port) -> Option<DumpRow> {
    let channel = domain.channels.get(port)?;
    let binding = channel.binding();
    (binding.state != State::Free).then(|| DumpRow {
        port,
        pending: domain.is_pending(port),
        masked: domain.is_masked(port),
        selected: domain.is_selected(port, channel.vcpu()),
        state: binding.state,
        vcpu: channel.vcpu(),
        consumer: binding.consumer,
    })
}
