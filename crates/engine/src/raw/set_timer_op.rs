// SPDX-License-Identifier: MIT OR Apache-2.0
//! `set_timer_op`: the calling vCPU's one-shot timer.

use evtchn_abi::VcpuId;

use crate::config::Width;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::hooks::Hooks;
use crate::raw::{Outcome, at_once_if_negative, int};

impl<H: Hooks> Engine<H> {
    /// A 64-bit guest passes the deadline in one register, a 32-bit guest in two, the lower half first. 0 stops the timer.
    pub(super) fn set_timer_op_by(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
        first: u64,
        second: u64,
    ) -> Outcome {
        let deadline = match caller.width() {
            Width::Bits64 => first,
            Width::Bits32 => u64::from(int(first)) | u64::from(int(second)) << 32,
        };
        let deadline = (deadline != 0).then(|| at_once_if_negative(deadline));
        Outcome::of(self.set_singleshot_timer_of(caller, vcpu, deadline))
    }
}
