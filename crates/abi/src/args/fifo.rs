// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of the operations of the FIFO ABI (`event_channel.h`). The shared pages are in [`fifo`](crate::fifo).

use crate::{Gfn, Port, VcpuId};

c_struct! {
    /// [`Op::INIT_CONTROL`](crate::Op::INIT_CONTROL).
    InitControl = "evtchn_init_control", 24 bytes {
        /// The page that holds the control block.
        control_gfn: Gfn = 0,
        /// Where in the page it begins, in bytes.
        offset: u32 = 8,
        /// The vCPU whose block it becomes.
        vcpu: VcpuId = 12,
        /// Out: how many bits of an event word hold a port number, [`LINK_BITS`](crate::fifo::LINK_BITS).
        link_bits: u8 = 16,
        /// Unused, `_pad` in C.
        pad: [u8; 7] = 17,
    }
}

c_struct! {
    /// [`Op::EXPAND_ARRAY`](crate::Op::EXPAND_ARRAY).
    ExpandArray = "evtchn_expand_array", 8 bytes {
        /// The page that becomes the next page of the event array.
        array_gfn: Gfn = 0,
    }
}

c_struct! {
    /// [`Op::SET_PRIORITY`](crate::Op::SET_PRIORITY).
    SetPriority = "evtchn_set_priority", 8 bytes {
        /// The port.
        port: Port = 0,
        /// Its new priority; see [`Priority::new`](crate::Priority::new) for what is valid.
        priority: u32 = 4,
    }
}
