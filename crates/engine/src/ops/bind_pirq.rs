// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_bind_pirq`.

use evtchn_abi::args::BIND_PIRQ_WILL_SHARE;
use evtchn_abi::{DomId, Op, Pirq, Port, VcpuId};

use crate::channel::{Binding, State};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::{Hooks, PirqRefused};
use crate::policy::Denied;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_bind_pirq`: opens a port that the physical interrupt `pirq` raises.
    ///
    /// Of `flags` only `BIND_PIRQ__WILL_SHARE` counts. A paravirtual domain needs permission
    /// ([`Policy::bind_pirq`](crate::Policy::bind_pirq)) and a line behind the PIRQ ([`Hooks::pirq_bind`]); for others
    /// only the association is kept.
    ///
    /// # Errors
    /// EINVAL beyond the domain's number of PIRQs; EPERM without permission; EEXIST if it is bound;
    /// EINVAL if the caller is dying; ENOSPC, ENOMEM; EINVAL, EBUSY or ENOMEM as the line's hook says.
    pub fn bind_pirq(&self, caller: DomId, pirq: Pirq, flags: u32) -> Result<Port, OpError> {
        self.bind_pirq_by(&*self.domain(caller)?, pirq, flags)
    }

    pub(crate) fn bind_pirq_by(
        &self,
        caller: &Domain<H::Page>,
        pirq: Pirq,
        flags: u32,
    ) -> Result<Port, OpError> {
        self.observed_port(caller.id, Op::BIND_PIRQ, self.bind_pirq_inner(caller, pirq, flags))
    }

    fn bind_pirq_inner(&self, domain: &Domain<H::Page>, pirq: Pirq, flags: u32) -> Result<Port, OpError> {
        if pirq.0 >= domain.config.nr_pirqs {
            return Err(OpError::NoPirq);
        }
        if domain.is_pv() {
            self.hooks.policy().bind_pirq(&domain.party(), pirq).map_err(no_permission)?;
        }
        let mut events = domain.lock_with_room();
        if domain.pirq(pirq).is_some() {
            return Err(OpError::PirqBound);
        }
        let port = domain.allocate(&mut events)?;
        let share = flags & BIND_PIRQ_WILL_SHARE != 0;
        if let Err(refused) = self.connect_line(domain, pirq, share) {
            events.ports.undo_take(port);
            return Err(refused);
        }
        domain.open(port, Binding::guest(State::Pirq(pirq)), VcpuId(0));
        domain.set_pirq(pirq, port, share);
        Ok(port)
    }

    pub(crate) fn connect_line(
        &self,
        domain: &Domain<H::Page>,
        pirq: Pirq,
        share: bool,
    ) -> Result<(), OpError> {
        domain.need_pirqs()?;
        let refused = match self.hooks.pirq_bind(domain.id, pirq, share) {
            Err(refused) if domain.is_pv() => refused,
            _ => return Ok(()), // the lines of a hardware-assisted guest are emulated: it cannot be refused one
        };
        Err(match refused {
            PirqRefused::NoIrq => OpError::NoIrq,
            PirqRefused::InUse => OpError::IrqInUse,
            PirqRefused::OutOfMemory => OpError::OutOfMemory,
        })
    }
}

/// A plain refusal is told apart from those that concern another domain.
fn no_permission(denied: Denied) -> OpError {
    if denied == Denied::default() { OpError::PirqNotPermitted } else { denied.into() }
}
