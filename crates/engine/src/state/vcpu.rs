// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is saved of a vCPU.

use alloc::vec::Vec;

use evtchn_abi::{Gfn, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{enter, try_box};

use super::error::DomainError;
use super::{DeliveryState, DomainState, KindState, push};
use crate::callback::LOWEST_VECTOR;
use crate::deliver::Effect;
use crate::domain::{Domain, Vcpu};
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::timer::{Timers, accepts_period};
use crate::vcpu_info::Area;

/// A vCPU of which there is more to say than that it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VcpuState {
    /// The vCPU.
    pub vcpu: u32,
    /// Where the guest has registered its vcpu_info, if it has.
    #[cfg_attr(feature = "serde", serde(default))]
    pub info: Option<VcpuInfoState>,
    /// Its own vector for upcalls, 16 or more; only in a hardware-assisted domain.
    #[cfg_attr(feature = "serde", serde(default))]
    pub upcall_vector: Option<u8>,
    /// Its timers.
    #[cfg_attr(feature = "serde", serde(default))]
    pub timers: TimersState,
}

/// A registered vcpu_info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct VcpuInfoState {
    /// The frame that it lies in.
    pub gfn: u64,
    /// Where in the frame, in bytes.
    pub offset: u32,
}

/// The timers of a vCPU; all times are nanoseconds of the guest's system time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default))]
pub struct TimersState {
    /// When the one-shot timer comes, if it is set.
    pub singleshot: Option<u64>,
    /// The period of the periodic timer, if it is set.
    pub period: Option<u64>,
    /// When the periodic timer has come last; 0 if never. Kept while it is stopped.
    pub last_tick: u64,
}

/// The vCPUs of which there is something to say. Under the event lock.
///
/// # Errors
/// ENOMEM.
pub(super) fn save<P>(domain: &Domain<P>) -> Result<Vec<VcpuState>, OpError> {
    let mut states = Vec::new();
    for (vcpu, record) in (0..).zip(&domain.vcpus) {
        let state = save_one(vcpu, record);
        if state != (VcpuState { vcpu, ..VcpuState::default() }) {
            push(&mut states, state)?;
        }
    }
    Ok(states)
}

fn save_one<P>(vcpu: u32, record: &Vcpu<P>) -> VcpuState {
    let vector = record.upcall_vector.load(SeqCst);
    let info = record.area.load(&enter()).map(|area| VcpuInfoState {
        gfn: area.gfn.0,
        offset: u32::try_from(area.offset).unwrap_or_default(), // below 4096
    });
    let timers = record.timers.lock().save();
    VcpuState { vcpu, info, upcall_vector: (vector != 0).then_some(vector), timers }
}

/// Checks the vCPUs of a domain; where a vcpu_info may be depends on the engine's level, and is checked later.
pub(super) fn check(domain: &DomainState) -> Result<(), DomainError> {
    let mut from = 0;
    for state in &domain.vcpus {
        let vcpu = state.vcpu;
        if vcpu < from || vcpu >= domain.config.vcpus {
            return Err(DomainError::Vcpu(vcpu));
        }
        from = vcpu + 1;
        if state.info.is_some() && domain.config.delivery == DeliveryState::Sink {
            return Err(DomainError::VcpuInfo(vcpu));
        }
        let tellable = domain.config.kind == KindState::Hvm;
        if state.upcall_vector.is_some_and(|vector| !tellable || vector < LOWEST_VECTOR) {
            return Err(DomainError::UpcallVector(vcpu));
        }
        if state.timers.period.is_some_and(|period| !accepts_period(period)) {
            return Err(DomainError::Timer(vcpu));
        }
    }
    Ok(())
}

impl<H: Hooks> Engine<H> {
    /// Gives the vCPUs of a domain that nobody sees yet what they had. Asks for no deadline, and announces nothing.
    pub(super) fn build_vcpus(
        &self,
        domain: &Domain<H::Page>,
        states: &[VcpuState],
    ) -> Result<(), DomainError> {
        for state in states {
            let record = domain.vcpu(VcpuId(state.vcpu)).map_err(|_| DomainError::Vcpu(state.vcpu))?;
            if let Some(info) = state.info {
                self.build_area(domain, record, state.vcpu, info)?;
            }
            record.upcall_vector.store(state.upcall_vector.unwrap_or(0), SeqCst);
            *record.timers.lock() = Timers::restored(state.timers);
        }
        Ok(())
    }

    fn build_area(
        &self,
        domain: &Domain<H::Page>,
        record: &Vcpu<H::Page>,
        vcpu: u32,
        info: VcpuInfoState,
    ) -> Result<(), DomainError> {
        let gfn = Gfn(info.gfn);
        let offset = self.check_old_place(gfn, info.offset).map_err(|_| DomainError::VcpuInfo(vcpu))?;
        let page = self.hooks.pin(domain.id, gfn).ok_or(DomainError::Frame(info.gfn))?;
        let area = try_box(Area { page, gfn, offset }).ok_or(DomainError::OutOfMemory)?;
        drop(record.area.replace(Some(area))); // there was none
        Ok(())
    }

    /// Tells each vCPU whose upcall waits, and those that have registered their vcpu_infos, as when they did that.
    pub(crate) fn tell_vcpus(&self, domain: &Domain<H::Page>) {
        for (vcpu, record) in (0..).map(VcpuId).zip(&domain.vcpus) {
            let effect = if record.area.is_some() {
                Effect::Told(domain.id, domain.announce_all(vcpu, &enter()))
            } else {
                domain.waiting_upcall(vcpu, &enter())
            };
            self.fire(effect);
        }
    }
}
