// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_bind_vcpu`.

use evtchn_abi::{DomId, Op, Port, VcpuId, VirqClass};
use evtchn_sync::wait_for_readers;

use crate::channel::State;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_bind_vcpu`: chooses the vCPU that `port` notifies from now on.
    ///
    /// Nothing is raised again: what is pending stays announced on the old vCPU only.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU, whatever the port; EINVAL if there is no such port, it is
    /// closed, an IPI, a per-vCPU VIRQ, or belongs to Xen.
    pub fn bind_vcpu(&self, caller: DomId, port: Port, vcpu: VcpuId) -> Result<(), OpError> {
        self.bind_vcpu_by(&*self.domain(caller)?, port, vcpu)
    }

    pub(crate) fn bind_vcpu_by(
        &self,
        caller: &Domain<H::Page>,
        port: Port,
        vcpu: VcpuId,
    ) -> Result<(), OpError> {
        let result = self.move_port(caller, port, vcpu);
        // A send that is under way is finished before the guest is told, or sees the new vCPU. Else it could tell
        // the old one after the guest has left it there, and the event would be lost.
        wait_for_readers();
        self.observed(caller.id, Op::BIND_VCPU, port, result)
    }

    fn move_port(&self, domain: &Domain<H::Page>, port: Port, vcpu: VcpuId) -> Result<(), OpError> {
        domain.vcpu(vcpu)?;
        let _events = domain.event.lock();
        let channel = domain.channel(port)?;
        let binding = channel.binding();
        if binding.consumer.is_some() {
            return Err(OpError::XenOwned);
        }
        if !self.is_movable(binding.state) {
            return Err(OpError::WrongState);
        }
        if channel.vcpu() == vcpu {
            return Ok(());
        }
        if let State::Pirq(pirq) = binding.state {
            self.hooks.pirq_moved(domain.id, pirq, vcpu);
        }
        self.unload(domain, port, channel);
        channel.set_vcpu(vcpu);
        self.load(domain, port, channel);
        Ok(())
    }

    fn is_movable(&self, state: State) -> bool {
        match state {
            State::Unbound { .. } | State::Interdomain { .. } | State::Pirq(_) => true,
            State::Virq(virq) => self.class(virq) != Ok(VirqClass::PerVcpu),
            State::Free | State::Reserved | State::Ipi => false,
        }
    }
}
