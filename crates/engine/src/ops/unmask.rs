// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_unmask`.

use evtchn_abi::{DomId, Op, Port};
use evtchn_sync::{Guard, Page, enter};

use crate::deliver::Effect;
use crate::domain::Domain;
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
        self.unmask_by(&*self.domain(caller)?, port)
    }

    pub(crate) fn unmask_by(&self, caller: &Domain<H::Page>, port: Port) -> Result<(), OpError> {
        let effect = unmask(caller, port, &enter());
        let result = effect.map(|effect| self.fire(effect));
        self.observed(caller.id, Op::UNMASK, port, result)
    }
}

fn unmask<P: Page>(domain: &Domain<P>, port: Port, guard: &Guard<'_>) -> Result<Effect, OpError> {
    let usable = domain.channel(port)?.binding().usable();
    Ok(if usable { domain.unmask_port(port, guard) } else { Effect::None })
}
