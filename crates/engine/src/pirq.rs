// SPDX-License-Identifier: MIT OR Apache-2.0
//! Raising physical interrupts.

use evtchn_abi::{DomId, Pirq};
use evtchn_sync::enter;

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
            let guard = enter();
            let domain = self.peek(domain, &guard)?;
            domain.pirq(pirq).map(|port| domain.raise(port, &guard))
        };
        Ok(self.fire_if_bound(effect))
    }
}
