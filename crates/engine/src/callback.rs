// SPDX-License-Identifier: MIT OR Apache-2.0
//! How upcalls reach the vCPUs of a hardware-assisted guest, and whether one is due.
//!
//! Senders read this without a lock: they set the upcall byte, then look at the callback. Whoever changes the callback
//! sets it, then looks at the bytes. All four are sequentially consistent, so an upcall is delivered the new way by
//! at least one of the two.

use evtchn_abi::{CallbackPpi, CallbackVia, DomId, VcpuId};
use evtchn_sync::atomic::AtomicU64;
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{Guard, Page, enter};

use crate::action::Action;
use crate::deliver::Effect;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::{Hooks, Upcall};

/// The lowest vector that a vCPU may choose: those below are exceptions of the processor.
pub(crate) const LOWEST_VECTOR: u8 = 0x10;

/// How a hardware-assisted domain learns of events, unless its vCPUs have vectors of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Callback {
    /// On x86.
    Via(CallbackVia),
    /// On Arm.
    Ppi(CallbackPpi),
}

impl From<CallbackVia> for Callback {
    fn from(via: CallbackVia) -> Self {
        Self::Via(via)
    }
}

impl From<CallbackPpi> for Callback {
    fn from(ppi: CallbackPpi) -> Self {
        Self::Ppi(ppi)
    }
}

impl Callback {
    const fn to_param(self) -> u64 {
        match self {
            Self::Via(via) => via.to_param(),
            Self::Ppi(ppi) => ppi.to_param(),
        }
    }
}

/// A domain's callback. Written under its event lock, read without.
#[derive(Debug)]
pub(crate) struct CallbackCell {
    /// `HVM_PARAM_CALLBACK_IRQ` as it was set, for whoever reads it back.
    param: AtomicU64,
    /// What counts: a parameter's value; that of a PPI is marked by a type that no parameter has.
    effective: AtomicU64,
}

/// Turns the type of a vector into one that marks a PPI; both have the same on their own machine.
const PPI_MARK: u64 = 1 << 56;
const PPI_TYPE: u64 = CallbackPpi::TYPE as u64 | 1;

impl CallbackCell {
    pub fn new() -> Self {
        Self { param: AtomicU64::new(0), effective: AtomicU64::new(0) }
    }

    pub fn set(&self, param: u64, callback: Callback, nr_gsis: u32) {
        let effective = match callback {
            Callback::Ppi(_) | Callback::Via(CallbackVia::Vector(_)) => callback,
            // Without interrupt controllers there is no other way than a vector, and it cannot be switched off either.
            Callback::Via(_) if nr_gsis == 0 => self.get(),
            Callback::Via(CallbackVia::Gsi(line)) if u32::from(line) >= nr_gsis => CallbackVia::None.into(),
            Callback::Via(_) => callback,
        };
        self.put(param, effective);
    }

    /// Sets both, whether or not one follows from the other.
    pub fn put(&self, param: u64, effective: Callback) {
        self.param.store(param, SeqCst);
        let effective = match effective {
            Callback::Ppi(ppi) => ppi.to_param() | PPI_MARK,
            Callback::Via(via) => via.to_param(),
        };
        self.effective.store(effective, SeqCst);
    }

    /// `HVM_PARAM_CALLBACK_IRQ` as it was set.
    pub fn param(&self) -> u64 {
        self.param.load(SeqCst)
    }

    /// What counts.
    pub fn get(&self) -> Callback {
        let effective = self.effective.load(SeqCst);
        let ppi = (effective >> 56 == PPI_TYPE).then(|| CallbackPpi::from_param(effective ^ PPI_MARK));
        match ppi.flatten() {
            Some(ppi) => Callback::Ppi(ppi),
            None => Callback::Via(CallbackVia::from_param(effective)),
        }
    }
}

impl<P> Domain<P> {
    /// How an upcall reaches a vCPU; `None` if it does not.
    pub fn upcall_kind(&self, vcpu: VcpuId) -> Option<Upcall> {
        if self.is_pv() {
            return Some(Upcall::PvEntry);
        }
        let own = self.vcpu(vcpu).ok()?.upcall_vector.load(SeqCst);
        if own != 0 {
            return Some(Upcall::VcpuVector(own));
        }
        match self.callback.get() {
            Callback::Ppi(ppi) => Some(Upcall::Ppi(ppi)),
            Callback::Via(CallbackVia::Vector(vector)) => Some(Upcall::Vector(vector)),
            Callback::Via(CallbackVia::Gsi(line)) if vcpu == VcpuId(0) => Some(Upcall::Gsi(line)),
            Callback::Via(CallbackVia::PciIntx { device, pin }) if vcpu == VcpuId(0) => {
                Some(Upcall::PciIntx { device, pin })
            }
            Callback::Via(_) => None,
        }
    }
}

impl<P: Page> Domain<P> {
    /// The upcall that waits to enter a vCPU.
    pub fn pending_upcall(&self, vcpu: VcpuId, guard: &Guard<'_>) -> Option<Upcall> {
        let (pending, masked) = self.upcall_state(vcpu, guard);
        let due = pending && !(self.is_pv() && masked);
        due.then(|| self.upcall_kind(vcpu)).flatten()
    }
}

impl<H: Hooks> Engine<H> {
    /// Chooses how a hardware-assisted domain learns of events: a [`CallbackVia`], or on Arm a
    /// [`CallbackPpi`]. At first it does not.
    ///
    /// For domains without interrupt controllers ([`DomainConfig::nr_gsis`](crate::DomainConfig::nr_gsis) is 0) all
    /// but a vector is ignored. A line that the domain does not have is none. An upcall that is pending is
    /// delivered again, the new way. A line that was asserted for the old callback is the embedder's to deassert:
    /// [`pending_upcall`](Engine::pending_upcall) no longer names it.
    ///
    /// ```
    /// # use evtchn_engine::{Engine, DomainConfig, DomainKind, Upcall, test_utils::{Call, Recorder, page}};
    /// # use evtchn_abi::{CallbackVia, DomId, VcpuId};
    /// # let engine = Engine::new(Recorder::default());
    /// # let guest = DomId(1);
    /// # let config = DomainConfig { kind: DomainKind::Hvm, ..DomainConfig::guest(1) };
    /// # engine.create_domain(guest, config)?;
    /// # engine.set_shared_info(guest, Some(page()))?;
    /// engine.set_callback(guest, CallbackVia::Vector(0xf3))?;
    /// let port = engine.bind_ipi(guest, VcpuId(0))?;
    /// engine.send(guest, port)?;
    /// assert_eq!(engine.hooks().take(), [Call::Deliver(guest, VcpuId(0), Upcall::Vector(0xf3))]);
    /// // Until the guest clears its upcall byte the vector is injected at every entry:
    /// assert!(engine.upcall_pending(guest, VcpuId(0))?);
    /// # Ok::<(), evtchn_engine::OpError>(())
    /// ```
    ///
    /// # Errors
    /// ESRCH if there is no such domain; EINVAL if it is paravirtual.
    pub fn set_callback(&self, domain: DomId, callback: impl Into<Callback>) -> Result<(), OpError> {
        let callback = callback.into();
        self.callback_by(&*self.domain(domain)?, callback.to_param(), callback)
    }

    /// `HVMOP_set_param` of `HVM_PARAM_CALLBACK_IRQ` on x86, with its value as the guest gave it.
    pub(crate) fn set_callback_param(&self, domain: &Domain<H::Page>, value: u64) -> Result<(), OpError> {
        self.callback_by(domain, value, CallbackVia::from_param(value).into())
    }

    fn callback_by(&self, domain: &Domain<H::Page>, param: u64, callback: Callback) -> Result<(), OpError> {
        let result = self.change_callback(domain, param, callback);
        self.acted(domain.id, Action::SetCallback(param), result)
    }

    fn change_callback(
        &self,
        domain: &Domain<H::Page>,
        param: u64,
        callback: Callback,
    ) -> Result<(), OpError> {
        if domain.is_pv() {
            return Err(OpError::NotHvm);
        }
        {
            let _events = domain.event.lock();
            domain.callback.set(param, callback, domain.config.nr_gsis);
        }
        (0..domain.config.vcpus).map(VcpuId).for_each(|vcpu| self.deliver_again(domain, vcpu));
        Ok(())
    }

    /// Delivers an upcall that was announced before the way to deliver it changed.
    fn deliver_again(&self, domain: &Domain<H::Page>, vcpu: VcpuId) {
        let told = domain.pending_upcall(vcpu, &enter()).map(|_| domain.tell(vcpu));
        self.fire(told.map_or(Effect::None, |told| Effect::Told(domain.id, told)));
    }

    /// How a hardware-assisted domain learns of events: what [`set_callback`](Engine::set_callback) has led to.
    ///
    /// # Errors
    /// ESRCH if there is no such domain; EINVAL if it is paravirtual.
    pub fn callback(&self, domain: DomId) -> Result<Callback, OpError> {
        let domain = self.domain(domain)?;
        if domain.is_pv() { Err(OpError::NotHvm) } else { Ok(domain.callback.get()) }
    }

    /// The vector of a vCPU's own, if it was [given](Engine::set_upcall_vector) one.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU.
    pub fn upcall_vector(&self, domain: DomId, vcpu: VcpuId) -> Result<Option<u8>, OpError> {
        let vector = self.domain(domain)?.vcpu(vcpu)?.upcall_vector.load(SeqCst);
        Ok((vector != 0).then_some(vector))
    }

    /// The domain's `HVM_PARAM_CALLBACK_IRQ` as it was set.
    ///
    /// # Errors
    /// EINVAL if it is paravirtual.
    pub(crate) fn callback_param(&self, domain: &Domain<H::Page>) -> Result<u64, OpError> {
        if domain.is_pv() { Err(OpError::NotHvm) } else { Ok(domain.callback.param()) }
    }

    /// `HVMOP_set_evtchn_upcall_vector`: gives a vCPU of a hardware-assisted domain an interrupt vector of its own,
    /// which comes before the domain's callback. It can be changed, but not given up.
    ///
    /// The vCPU gets one upcall for it, whether or not there are events.
    ///
    /// # Errors
    /// ESRCH if there is no such domain; EINVAL if it is paravirtual, and for a vector below 16; ENOENT if there is no
    /// such vCPU.
    pub fn set_upcall_vector(&self, domain: DomId, vcpu: VcpuId, vector: u8) -> Result<(), OpError> {
        self.set_upcall_vector_of(&*self.domain(domain)?, vcpu, vector)
    }

    pub(crate) fn set_upcall_vector_of(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        vector: u8,
    ) -> Result<(), OpError> {
        let result = self.change_vector(domain, vcpu, vector);
        self.acted(domain.id, Action::SetUpcallVector { vcpu, vector }, result)
    }

    fn change_vector(&self, domain: &Domain<H::Page>, vcpu: VcpuId, vector: u8) -> Result<(), OpError> {
        if domain.is_pv() {
            return Err(OpError::NotHvm);
        }
        if vector < LOWEST_VECTOR {
            return Err(OpError::Invalid);
        }
        domain.vcpu(vcpu)?.upcall_vector.store(vector, SeqCst);
        self.fire(Effect::Told(domain.id, domain.tell(vcpu)));
        Ok(())
    }

    /// Does an upcall wait to enter this vCPU? The *level* of all kinds of upcalls but
    /// [`Upcall::VcpuVector`]: an embedder reads it before each entry into the guest, and at an EOI of a line.
    ///
    /// That is: `evtchn_upcall_pending` is set; in a paravirtual domain `evtchn_upcall_mask` is not; in others there is
    /// a way to deliver it. Whether the vCPU has interrupts enabled is the embedder's to know.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU.
    pub fn upcall_pending(&self, domain: DomId, vcpu: VcpuId) -> Result<bool, OpError> {
        self.pending_upcall(domain, vcpu).map(|upcall| upcall.is_some())
    }

    /// As [`upcall_pending`](Engine::upcall_pending), with the way in which it is to be delivered. An interrupt line is
    /// asserted while this names it for vCPU 0.
    ///
    /// # Errors
    /// As there.
    pub fn pending_upcall(&self, domain: DomId, vcpu: VcpuId) -> Result<Option<Upcall>, OpError> {
        let guard = enter();
        let domain = self.peek(domain, &guard)?;
        domain.vcpu(vcpu)?;
        Ok(domain.pending_upcall(vcpu, &guard))
    }
}
