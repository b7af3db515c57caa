// SPDX-License-Identifier: MIT OR Apache-2.0
//! `vcpu_op`: where a vCPU's vcpu_info is, and its timers.

use evtchn_abi::args::{
    VcpuRegisterVcpuInfo, VcpuSetPeriodicTimer, VcpuSetSingleshotTimer, VcpuSetSingleshotTimer32,
};
use evtchn_abi::{VcpuId, VcpuOp};

use crate::config::Width;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::memory::{GuestMemory, copy_in};
use crate::raw::{Outcome, at_once_if_negative, with};

impl<H: Hooks> Engine<H> {
    /// `vcpu` is the one that is meant, `current` the one that calls.
    pub(super) fn vcpu_op_by<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        current: VcpuId,
        command: u32,
        vcpu: VcpuId,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        let checked = caller.vcpu(vcpu).map(|_| ());
        let result = match VcpuOp(command) {
            VcpuOp::REGISTER_VCPU_INFO => checked.and_then(|()| {
                with(memory, arg, |a: VcpuRegisterVcpuInfo| {
                    self.register_vcpu_info_by(caller, current, vcpu, a.mfn, a.offset)
                })
            }),
            VcpuOp::SET_PERIODIC_TIMER => checked.and_then(|()| {
                with(memory, arg, |a: VcpuSetPeriodicTimer| {
                    self.set_periodic_timer_of(caller, vcpu, Some(a.period_ns))
                })
            }),
            VcpuOp::STOP_PERIODIC_TIMER => self.set_periodic_timer_of(caller, vcpu, None),
            VcpuOp::SET_SINGLESHOT_TIMER => checked.and_then(|()| {
                is_current(vcpu, current)?;
                let timer = copy_in_singleshot(caller.width(), arg, memory)?;
                // The flag that makes a time in the past an error is ignored, as Xen does.
                let deadline = at_once_if_negative(timer.timeout_abs_ns);
                self.set_singleshot_timer_of(caller, vcpu, Some(deadline))
            }),
            VcpuOp::STOP_SINGLESHOT_TIMER => checked.and_then(|()| {
                is_current(vcpu, current)?;
                self.set_singleshot_timer_of(caller, vcpu, None)
            }),
            _ => return Outcome::NotMine,
        };
        Outcome::of(result)
    }
}

fn is_current(vcpu: VcpuId, current: VcpuId) -> Result<(), OpError> {
    (vcpu == current).then_some(()).ok_or(OpError::OtherVcpu)
}

fn copy_in_singleshot<M: GuestMemory + ?Sized>(
    width: Width,
    arg: u64,
    memory: &mut M,
) -> Result<VcpuSetSingleshotTimer, OpError> {
    match width {
        Width::Bits64 => copy_in(memory, arg),
        Width::Bits32 => {
            copy_in::<VcpuSetSingleshotTimer32, M>(memory, arg).map(VcpuSetSingleshotTimer::from)
        }
    }
}
