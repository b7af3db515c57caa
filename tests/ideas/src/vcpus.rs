// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a vCPU is told of events: the hypercalls that choose it, and what came of it.

use evtchn_abi::args::{EvtchnUpcallVector, HvmParamValue, VcpuRegisterVcpuInfo};
use evtchn_abi::{CStruct, DomId, Gfn, HvmOp, HvmParam, Hypercall, VcpuId, VcpuOp};
use evtchn_engine::{DomainKind, Outcome, Upcall};

use crate::world::World;

/// The value of `HVM_PARAM_CALLBACK_IRQ` for a pin of a PCI device.
pub const fn intx(device: u64, pin: u64) -> u64 {
    1 << 56 | device << 11 | pin
}

/// The value for a vector. That for an interrupt line is the line itself.
pub const fn vector(number: u64) -> u64 {
    2 << 56 | number
}

impl World {
    /// Domain 1 hardware-assisted.
    pub fn hvm() -> Self {
        Self::with(|one| one.kind = DomainKind::Hvm)
    }

    /// A hypercall that is answered at once; the argument's address is 0.
    fn ask<A: CStruct>(&self, dom: u16, vcpu: u32, number: Hypercall, args: [u64; 5], arg: &mut A) -> i64 {
        let mut bytes = arg.to_bytes();
        let outcome = self.engine.hypercall(DomId(dom), VcpuId(vcpu), number.0, args, bytes.as_mut());
        *arg = A::from_bytes(bytes);
        match outcome {
            Outcome::Done(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn hvm_op<A: CStruct>(&self, dom: u16, op: HvmOp, arg: &mut A) -> i64 {
        self.ask(dom, 0, Hypercall::HVM_OP, [op.0.into(), 0, 0, 0, 0], arg)
    }

    /// Sets the domain's own `HVM_PARAM_CALLBACK_IRQ`.
    pub fn set_callback(&self, dom: u16, value: u64) -> i64 {
        let (domid, index) = (DomId::SELF, HvmParam::CALLBACK_IRQ);
        self.hvm_op(dom, HvmOp::SET_PARAM, &mut HvmParamValue { domid, index, value, ..Default::default() })
    }

    /// Reads it.
    pub fn callback(&self, dom: u16) -> u64 {
        let (domid, index) = (DomId::SELF, HvmParam::CALLBACK_IRQ);
        let mut param = HvmParamValue { domid, index, ..Default::default() };
        assert_eq!(self.hvm_op(dom, HvmOp::GET_PARAM, &mut param), 0);
        param.value
    }

    /// `HVMOP_set_evtchn_upcall_vector`.
    pub fn set_upcall_vector(&self, dom: u16, vcpu: u32, vector: u8) -> i64 {
        let mut arg = EvtchnUpcallVector { vcpu: VcpuId(vcpu), vector, ..Default::default() };
        self.hvm_op(dom, HvmOp::SET_EVTCHN_UPCALL_VECTOR, &mut arg)
    }

    /// `VCPUOP_register_vcpu_info` of a vCPU for itself.
    pub fn register_vcpu_info(&self, dom: u16, vcpu: u32, gfn: u64, offset: u32) -> i64 {
        let mut arg = VcpuRegisterVcpuInfo { mfn: Gfn(gfn), offset, rsvd: 0 };
        let args = [VcpuOp::REGISTER_VCPU_INFO.0.into(), vcpu.into(), 0, 0, 0];
        self.ask(dom, vcpu, Hypercall::VCPU_OP, args, &mut arg)
    }

    /// What is to be delivered to a vCPU when it is entered.
    pub fn at_entry(&self, dom: u16, vcpu: u32) -> Option<Upcall> {
        self.engine.pending_upcall(DomId(dom), VcpuId(vcpu)).unwrap()
    }
}
