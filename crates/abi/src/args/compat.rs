// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one structure of the old hypercall: a command and the arguments of all of its operations as a union.

use crate::{CStruct, Op};

c_struct! {
    /// The argument of [`Hypercall::EVENT_CHANNEL_OP_COMPAT`](crate::Hypercall::EVENT_CHANNEL_OP_COMPAT).
    ///
    /// ```
    /// use evtchn_abi::{Op, Port, args::{EvtchnOp, Send}};
    ///
    /// let mut op = EvtchnOp { cmd: Op::SEND, ..EvtchnOp::default() };
    /// op.set_arguments(&Send { port: Port(5) });
    /// assert_eq!(op.to_bytes()[..8], [4, 0, 0, 0, 5, 0, 0, 0]);
    /// assert_eq!(op.arguments(), Some(Send { port: Port(5) }));
    /// ```
    EvtchnOp = "evtchn_op", 28 bytes {
        /// Which operation; those after [`Op::UNMASK`] were never part of this form.
        cmd: Op = 0,
        /// The arguments of that operation, and bytes left over.
        u: [u8; 24] = 4,
    }
}

impl EvtchnOp {
    /// The arguments in the union, read as `A`; `None` if `A` is larger than the union.
    #[must_use]
    pub fn arguments<A: CStruct>(&self) -> Option<A> {
        let mut bytes = A::ZEROED;
        bytes.as_mut().copy_from_slice(self.u.get(..A::SIZE)?);
        Some(A::from_bytes(bytes))
    }

    /// Writes the arguments into the union and leaves the bytes behind them alone. Returns whether they fit.
    pub fn set_arguments<A: CStruct>(&mut self, arguments: &A) -> bool {
        let Some(place) = self.u.get_mut(..A::SIZE) else {
            return false;
        };
        place.copy_from_slice(arguments.to_bytes().as_ref());
        true
    }
}
