// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_status`.

use evtchn_abi::args::StatusKind;
use evtchn_abi::{DomId, Op, Port, VcpuId};

use crate::channel::State;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

/// What `EVTCHNOP_status` tells of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortStatus {
    /// What the port is bound to.
    pub kind: StatusKind,
    /// The vCPU that it notifies.
    pub vcpu: VcpuId,
}

impl From<State> for StatusKind {
    fn from(state: State) -> Self {
        match state {
            State::Free | State::Reserved => Self::Closed,
            State::Unbound { remote } => Self::Unbound { dom: remote },
            State::Interdomain { remote, port } => Self::Interdomain { dom: remote, port },
            State::Pirq(pirq) => Self::Pirq(pirq),
            State::Virq(virq) => Self::Virq(virq),
            State::Ipi => Self::Ipi,
        }
    }
}

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_status`: what `port` of `dom` is.
    ///
    /// To list a domain's ports, count up from 0 until EINVAL; that comes at a multiple of 64.
    ///
    /// # Errors
    /// ESRCH if `dom` does not exist; EINVAL if there is no such port; EPERM if the caller may not
    /// act on `dom`; EACCES for a port that belongs to Xen
    /// ([`Level::Xen4_17`](crate::Level::Xen4_17)).
    pub fn status(&self, caller: DomId, dom: DomId, port: Port) -> Result<PortStatus, OpError> {
        self.status_by(&*self.domain(caller)?, dom, port)
    }

    pub(crate) fn status_by(
        &self,
        caller: &Domain<H::Page>,
        dom: DomId,
        port: Port,
    ) -> Result<PortStatus, OpError> {
        self.observed(caller.id, Op::STATUS, port, self.status_inner(caller, dom, port))
    }

    fn status_inner(&self, caller: &Domain<H::Page>, dom: DomId, port: Port) -> Result<PortStatus, OpError> {
        let domain = self.named(caller, dom)?;
        let channel = domain.channel(port)?;
        self.hooks.policy().status(&caller.party(), &domain.party())?;
        // Only now: who may not look does not hold up those who work.
        let _keeps_the_binding = domain.event.lock();
        let binding = channel.binding();
        if binding.consumer.is_some() && !self.level.shows_xen_ports() {
            return Err(OpError::Hidden);
        }
        Ok(PortStatus { kind: binding.state.into(), vcpu: channel.vcpu() })
    }
}
