// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_bind_ipi`.

use evtchn_abi::{DomId, Op, Port, VcpuId};

use crate::channel::{Binding, State};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_bind_ipi`: opens a port by which the caller signals its own `vcpu`, for ever.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU; EINVAL if the caller is dying; ENOSPC, ENOMEM.
    pub fn bind_ipi(&self, caller: DomId, vcpu: VcpuId) -> Result<Port, OpError> {
        self.bind_ipi_by(&*self.domain(caller)?, vcpu)
    }

    pub(crate) fn bind_ipi_by(&self, caller: &Domain<H::Page>, vcpu: VcpuId) -> Result<Port, OpError> {
        self.observed_port(caller.id, Op::BIND_IPI, self.bind_ipi_inner(caller, vcpu))
    }

    fn bind_ipi_inner(&self, domain: &Domain<H::Page>, vcpu: VcpuId) -> Result<Port, OpError> {
        domain.vcpu(vcpu)?;
        let mut events = domain.lock_with_room();
        let port = domain.allocate(&mut events)?;
        domain.open(port, Binding::guest(State::Ipi), vcpu);
        self.load(domain, port, domain.channel(port)?);
        Ok(port)
    }
}
