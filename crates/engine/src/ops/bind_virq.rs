// SPDX-License-Identifier: MIT OR Apache-2.0
//! `EVTCHNOP_bind_virq`.

use evtchn_abi::{DomId, Op, Port, VcpuId, Virq, VirqClass};

use crate::channel::{Binding, State};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_bind_virq`: opens a port that `virq` raises.
    ///
    /// A per-vCPU VIRQ is bound for one vCPU; the others once per domain, on vCPU 0, from where
    /// [`bind_vcpu`](Engine::bind_vcpu) may move them. Nothing is raised by binding.
    ///
    /// # Errors
    /// EINVAL for a number above 23, and for a vCPU other than 0 where that is not allowed; ENOENT if
    /// there is no such vCPU; EBUSY if the VIRQ is global and another domain handles it
    /// ([`Level::Current`](crate::Level)); EEXIST if it is bound there; EINVAL if the caller is dying;
    /// ENOSPC, ENOMEM.
    pub fn bind_virq(&self, caller: DomId, virq: Virq, vcpu: VcpuId) -> Result<Port, OpError> {
        self.bind_virq_by(&*self.domain(caller)?, virq, vcpu)
    }

    pub(crate) fn bind_virq_by(
        &self,
        caller: &Domain<H::Page>,
        virq: Virq,
        vcpu: VcpuId,
    ) -> Result<Port, OpError> {
        self.observed_port(caller.id, Op::BIND_VIRQ, self.bind_virq_inner(caller, virq, vcpu))
    }

    fn bind_virq_inner(&self, domain: &Domain<H::Page>, virq: Virq, vcpu: VcpuId) -> Result<Port, OpError> {
        let class = self.class(virq)?;
        if class != VirqClass::PerVcpu && vcpu != VcpuId(0) {
            return Err(OpError::VirqNotOnVcpu0);
        }
        let table = domain.vcpu(vcpu)?;
        let guarded = class == VirqClass::Global && self.level.guards_global_virqs();
        domain.with_room(|| {
            // The handler stays the same until the VIRQ is bound.
            let _registry = guarded.then(|| self.registry.lock());
            if guarded && self.handlers.handler(virq) != Some(domain.id) {
                return Err(OpError::VirqElsewhere);
            }
            let mut events = domain.event.lock();
            if table.virq(virq).is_some() {
                return Err(OpError::VirqBound);
            }
            let port = domain.allocate(&mut events)?;
            domain.open(port, Binding::guest(State::Virq(virq)), vcpu);
            table.set_virq(virq, port);
            Ok(port)
        })
    }
}
