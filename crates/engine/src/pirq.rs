// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raising physical interrupts.

use evtchn_abi::{DomId, Pirq};

use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// Raises a physical interrupt of a domain; whether somebody has bound it. If not, it is dropped.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn raise_pirq(&self, domain: DomId, pirq: Pirq) -> Result<bool, OpError> {
        let effect = {
            let domains = self.domains();
            let domain = domains.get(domain)?;
            let events = domain.event.read();
            let port = events.pirq(pirq);
            let bound = port.and_then(|port| Some((port, domain.channel(port).ok()?)));
            bound.map(|(port, channel)| domain.raise(port, channel))
        };
        Ok(self.fire_if_bound(effect))
    }
}
