// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations of the FIFO ABI, answered as by a Xen that was built without it.

use evtchn_abi::{DomId, Gfn, Op, Port, VcpuId};

use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_init_control`: not supported yet; the domain stays two-level.
    ///
    /// # Errors
    /// EOPNOTSUPP always, as from a Xen without the FIFO ABI.
    pub fn init_control(
        &self,
        caller: DomId,
        vcpu: VcpuId,
        control_gfn: Gfn,
        offset: u32,
    ) -> Result<(), OpError> {
        let _ = (vcpu, control_gfn, offset);
        self.observed(caller, Op::INIT_CONTROL, Port(0), Err(OpError::NotSupported))
    }

    /// `EVTCHNOP_expand_array`: not supported yet.
    ///
    /// # Errors
    /// EOPNOTSUPP always: the domain is two-level.
    pub fn expand_array(&self, caller: DomId, array_gfn: Gfn) -> Result<(), OpError> {
        let _ = array_gfn;
        self.observed(caller, Op::EXPAND_ARRAY, Port(0), Err(OpError::NotSupported))
    }

    /// `EVTCHNOP_set_priority`: there are no priorities in the two-level ABI.
    ///
    /// # Errors
    /// EINVAL if there is no such port, else ENOSYS.
    pub fn set_priority(&self, caller: DomId, port: Port, priority: u32) -> Result<(), OpError> {
        let _ = priority;
        let checked = self.domains().get(caller).and_then(|domain| domain.channel(port).map(|_| ()));
        let result = checked.and(Err(OpError::NotImplemented));
        self.observed(caller, Op::SET_PRIORITY, port, result)
    }
}
