// SPDX-License-Identifier: MIT OR Apache-2.0
//! `hvm_op`: how upcalls reach a hardware-assisted guest.

use evtchn_abi::args::{EvtchnUpcallVector, HvmParamValue};
use evtchn_abi::{HvmOp, HvmParam};

use crate::domain::Domain;
use crate::domains::Named;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::memory::{GuestMemory, copy_in, copy_out};
use crate::raw::{Outcome, with};

impl<H: Hooks> Engine<H> {
    pub(super) fn hvm_op_by<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        command: u32,
        arg: u64,
        memory: &mut M,
    ) -> Outcome {
        match HvmOp(command) {
            HvmOp::SET_PARAM => self.hvm_param(caller, arg, memory, Self::set_param),
            HvmOp::GET_PARAM => self.hvm_param(caller, arg, memory, Self::get_param),
            HvmOp::SET_EVTCHN_UPCALL_VECTOR => Outcome::of(self.raw_set_upcall_vector(caller, arg, memory)),
            _ => Outcome::NotMine,
        }
    }

    /// Sets or gets a parameter. Which one it is, and so whether it is the engine's, is in guest memory.
    fn hvm_param<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        arg: u64,
        memory: &mut M,
        run: impl FnOnce(&Self, &Domain<H::Page>, HvmParamValue) -> Result<Option<HvmParamValue>, OpError>,
    ) -> Outcome {
        let param = match copy_in::<HvmParamValue, M>(memory, arg) {
            Ok(param) if param.index != HvmParam::CALLBACK_IRQ => return Outcome::NotMine,
            Ok(param) => param,
            Err(error) => return Outcome::of(Err(error)),
        };
        let result = self.permitted(caller, param).and_then(|domain| run(self, &domain, param));
        Outcome::of(result.and_then(|out| out.map_or(Ok(()), |out| copy_out(memory, arg, &out))))
    }

    /// The domain whose parameter it is, if it has any and the caller may use it.
    fn permitted<'a>(
        &self,
        caller: &'a Domain<H::Page>,
        param: HvmParamValue,
    ) -> Result<Named<'a, H::Page>, OpError> {
        let domain = self.named(caller, param.domid)?;
        if domain.is_pv() {
            return Err(OpError::NotHvm);
        }
        caller.party().targets(domain.id)?;
        Ok(domain)
    }

    fn set_param(
        &self,
        domain: &Domain<H::Page>,
        param: HvmParamValue,
    ) -> Result<Option<HvmParamValue>, OpError> {
        self.set_callback_param(domain, param.value).map(|()| None)
    }

    fn get_param(
        &self,
        domain: &Domain<H::Page>,
        param: HvmParamValue,
    ) -> Result<Option<HvmParamValue>, OpError> {
        let value = self.callback_param(domain)?;
        Ok(Some(HvmParamValue { value, ..param }))
    }

    fn raw_set_upcall_vector<M: GuestMemory + ?Sized>(
        &self,
        caller: &Domain<H::Page>,
        arg: u64,
        memory: &mut M,
    ) -> Result<(), OpError> {
        if caller.is_pv() {
            return Err(OpError::NotHvm);
        }
        with(memory, arg, |a: EvtchnUpcallVector| self.set_upcall_vector_of(caller, a.vcpu, a.vector))
    }
}
