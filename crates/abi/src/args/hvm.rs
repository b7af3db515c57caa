// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of `hvm_op` (`hvm/hvm_op.h`).

use crate::{DomId, HvmParam, VcpuId};

c_struct! {
    /// [`HvmOp::SET_PARAM`](crate::HvmOp::SET_PARAM) and [`HvmOp::GET_PARAM`](crate::HvmOp::GET_PARAM).
    HvmParamValue = "xen_hvm_param", 16 bytes {
        /// The domain whose parameter is meant.
        domid: DomId = 0,
        /// Unused.
        pad: [u8; 2] = 2,
        /// Which parameter.
        index: HvmParam = 4,
        /// Its value; out with `GET_PARAM`.
        value: u64 = 8,
    }
}

c_struct! {
    /// [`HvmOp::SET_EVTCHN_UPCALL_VECTOR`](crate::HvmOp::SET_EVTCHN_UPCALL_VECTOR).
    EvtchnUpcallVector = "xen_hvm_evtchn_upcall_vector", 8 bytes {
        /// The vCPU.
        vcpu: VcpuId = 0,
        /// The interrupt vector by which it learns of events, at least 16.
        vector: u8 = 4,
        /// Unused.
        pad: [u8; 3] = 5,
    }
}
