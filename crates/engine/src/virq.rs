// SPDX-License-Identifier: MIT OR Apache-2.0
//! Virtual interrupts: raising them, and who handles the global ones.

use evtchn_abi::{DomId, VcpuId, Virq, VirqClass};
use evtchn_sync::{Guard, enter};

use crate::action::Action;
use crate::deliver::Effect;
use crate::domain::{Domain, Vcpu};
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// Raises a VIRQ of a domain; whether somebody has bound it. If not, it is forgotten.
    ///
    /// For a VIRQ that is not per vCPU the channel says which vCPU is told, not `vcpu`.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU, EINVAL if no such VIRQ.
    pub fn raise_virq(&self, domain: DomId, vcpu: VcpuId, virq: Virq) -> Result<bool, OpError> {
        let effect = self.virq_effect_in(domain, virq, vcpu);
        let bound = effect.map(|effect| self.fire_if_bound(effect));
        self.acted_with(domain, bound, |bound| Action::RaiseVirq { virq, vcpu, bound })
    }

    fn virq_effect_in(&self, domain: DomId, virq: Virq, vcpu: VcpuId) -> Result<Option<Effect>, OpError> {
        self.class(virq)?;
        let guard = enter();
        let domain = self.peek(domain, &guard)?;
        domain.vcpu(vcpu)?;
        Ok(self.virq_effect(domain, virq, vcpu, &guard))
    }

    /// Raises a global VIRQ in the domain that handles it; whether it has bound it.
    ///
    /// # Errors
    /// EINVAL unless the VIRQ is global.
    pub fn raise_global_virq(&self, virq: Virq) -> Result<bool, OpError> {
        let handler = self.global(virq).map(|()| self.handlers.handler(virq).unwrap_or(DomId::INVALID));
        let bound = handler.map(|handler| {
            let effect = self.virq_effect_in(handler, virq, VcpuId(0));
            self.fire_if_bound(effect.unwrap_or(None)) // no handler is as one that has not bound it
        });
        let domain = handler.unwrap_or(DomId::INVALID);
        self.acted_with(domain, bound, |bound| Action::RaiseGlobalVirq { virq, bound })
    }

    /// Makes `domain` the handler of a global VIRQ (`XEN_DOMCTL_set_virq_handler`).
    ///
    /// Nothing is bound by this. When the handler dies, the hardware domain is it again.
    ///
    /// # Errors
    /// EINVAL unless the VIRQ is global; ESRCH if there is no such domain; EINVAL if it is dying;
    /// EBUSY if the present handler has the VIRQ bound ([`Level::Current`](crate::Level::Current)).
    pub fn set_virq_handler(&self, virq: Virq, domain: DomId) -> Result<(), OpError> {
        self.acted(domain, Action::SetVirqHandler(virq), self.assign_handler(virq, domain))
    }

    fn assign_handler(&self, virq: Virq, domain: DomId) -> Result<(), OpError> {
        self.global(virq)?;
        let _registry = self.registry.lock();
        if self.domain(domain)?.event.lock().dying {
            return Err(OpError::Dying);
        }
        if self.handlers.assigned(virq) == Some(domain) {
            return Ok(());
        }
        let present = self.handlers.handler(virq).and_then(|id| self.domain(id).ok());
        let bound = present.is_some_and(|present| has_bound(&present, virq));
        if bound && self.level.guards_global_virqs() {
            return Err(OpError::VirqInUse);
        }
        self.handlers.assign(virq, domain);
        Ok(())
    }

    /// Which kind of VIRQ it is, at this level of behaviour.
    pub(crate) fn class(&self, virq: Virq) -> Result<VirqClass, OpError> {
        let class = if self.level.argo_is_per_domain() { virq.class() } else { virq.class_before_4_21() };
        class.ok_or(OpError::NoVirq)
    }

    /// Is it a global VIRQ?
    ///
    /// # Errors
    /// EINVAL if not.
    fn global(&self, virq: Virq) -> Result<(), OpError> {
        if self.class(virq)? == VirqClass::Global { Ok(()) } else { Err(OpError::NoVirq) }
    }

    /// The vCPU in whose table a VIRQ is kept: vCPU 0 unless it is per vCPU.
    pub(crate) fn virq_table<'a>(
        &self,
        domain: &'a Domain<H::Page>,
        virq: Virq,
        vcpu: VcpuId,
    ) -> Option<&'a Vcpu<H::Page>> {
        let per_vcpu = self.class(virq) == Ok(VirqClass::PerVcpu);
        domain.vcpu(if per_vcpu { vcpu } else { VcpuId(0) }).ok()
    }

    /// Raises the VIRQ if it is bound. A port that is closed meanwhile is not bound to something else before the
    /// reader is gone.
    pub(crate) fn virq_effect(
        &self,
        domain: &Domain<H::Page>,
        virq: Virq,
        vcpu: VcpuId,
        guard: &Guard<'_>,
    ) -> Option<Effect> {
        let port = self.virq_table(domain, virq, vcpu)?.virq(virq)?;
        Some(domain.raise(port, guard))
    }

    pub(crate) fn fire_if_bound(&self, effect: Option<Effect>) -> bool {
        let bound = effect.is_some();
        self.fire(effect.unwrap_or(Effect::None));
        bound
    }
}

fn has_bound<P>(domain: &Domain<P>, virq: Virq) -> bool {
    domain.vcpu(VcpuId(0)).is_ok_and(|vcpu| vcpu.virq(virq).is_some())
}
