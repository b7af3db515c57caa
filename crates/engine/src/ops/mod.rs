// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations of `event_channel_op`, by family. `send` has a file of its own.
//!
//! Each checks in the order in which Xen does; the first check that fails gives the answer.

pub(crate) mod bind_interdomain;
mod bind_ipi;
mod bind_pirq;
mod bind_vcpu;
mod bind_virq;
pub(crate) mod close;
mod connect_static;
pub(crate) mod fifo;
mod reset;
mod status;
mod unbound;
mod unmask;
pub(crate) mod vcpu_info;

pub use reset::ResetOutcome;
pub use status::PortStatus;

use evtchn_abi::{DomId, Op, Port};

use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::{Hooks, Observed};

impl<H: Hooks> Engine<H> {
    /// Tells the observer how an operation on `port` ended.
    #[inline]
    pub(crate) fn observed<T>(
        &self,
        caller: DomId,
        op: Op,
        port: Port,
        result: Result<T, OpError>,
    ) -> Result<T, OpError> {
        let ended = result.as_ref().map(|_| ()).map_err(|&error| error);
        self.hooks.observe(Observed::Operation { caller, op, port, result: ended });
        result
    }

    /// Tells the observer how an operation ended that returns a port.
    pub(crate) fn observed_port(
        &self,
        caller: DomId,
        op: Op,
        result: Result<Port, OpError>,
    ) -> Result<Port, OpError> {
        let port = result.unwrap_or_default();
        self.observed(caller, op, port, result)
    }
}
