// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_unmask`.

use evtchn_abi::{DomId, Op, Port};

use crate::deliver::Effect;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_unmask`: clears the port's mask bit and delivers what is pending, to the vCPU that
    /// the port notifies.
    ///
    /// A port that is closed or belongs to Xen is left alone, with success.
    ///
    /// # Errors
    /// EINVAL if there is no such port.
    pub fn unmask(&self, caller: DomId, port: Port) -> Result<(), OpError> {
        let effect = self.unmask_effect(caller, port);
        let result = effect.map(|effect| self.fire(effect));
        self.observed(caller, Op::UNMASK, port, result)
    }

    fn unmask_effect(&self, caller: DomId, port: Port) -> Result<Effect, OpError> {
        let domains = self.domains();
        let domain = domains.get(caller)?;
        let _keeps_the_binding = domain.event.read();
        let channel = domain.channel(port)?;
        Ok(match channel.binding().usable() {
            true => domain.unmask_port(port, channel),
            false => Effect::None,
        })
    }
}
