// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of the operations that bind, close and signal channels (`event_channel.h`).

use crate::{DomId, Pirq, Port, VcpuId, Virq};

c_struct! {
    /// [`Op::ALLOC_UNBOUND`](crate::Op::ALLOC_UNBOUND).
    AllocUnbound = "evtchn_alloc_unbound", 8 bytes {
        /// The domain that gets the port; others than the caller need privilege.
        dom: DomId = 0,
        /// The domain that may bind to it.
        remote_dom: DomId = 2,
        /// Out: the new port.
        port: Port = 4,
    }
}

c_struct! {
    /// [`Op::BIND_INTERDOMAIN`](crate::Op::BIND_INTERDOMAIN).
    BindInterdomain = "evtchn_bind_interdomain", 12 bytes {
        /// The peer's domain.
        remote_dom: DomId = 0,
        /// Unused.
        pad: [u8; 2] = 2,
        /// The peer's port, which must be unbound and accept the caller.
        remote_port: Port = 4,
        /// Out: the caller's new port.
        local_port: Port = 8,
    }
}

c_struct! {
    /// [`Op::BIND_VIRQ`](crate::Op::BIND_VIRQ).
    BindVirq = "evtchn_bind_virq", 12 bytes {
        /// The virtual interrupt.
        virq: Virq = 0,
        /// The vCPU to notify; must be 0 unless the VIRQ is per-vCPU.
        vcpu: VcpuId = 4,
        /// Out: the new port.
        port: Port = 8,
    }
}

/// Bit in [`BindPirq::flags`]: the interrupt may be shared with other domains. Other bits mean nothing.
#[doc(alias = "BIND_PIRQ__WILL_SHARE")]
pub const BIND_PIRQ_WILL_SHARE: u32 = 1;

c_struct! {
    /// [`Op::BIND_PIRQ`](crate::Op::BIND_PIRQ).
    BindPirq = "evtchn_bind_pirq", 12 bytes {
        /// The physical interrupt.
        pirq: Pirq = 0,
        /// [`BIND_PIRQ_WILL_SHARE`] or 0.
        flags: u32 = 4,
        /// Out: the new port.
        port: Port = 8,
    }
}

c_struct! {
    /// [`Op::BIND_IPI`](crate::Op::BIND_IPI).
    BindIpi = "evtchn_bind_ipi", 8 bytes {
        /// The vCPU to notify, for good.
        vcpu: VcpuId = 0,
        /// Out: the new port.
        port: Port = 4,
    }
}

c_struct! {
    /// [`Op::CLOSE`](crate::Op::CLOSE).
    Close = "evtchn_close", 4 bytes {
        /// The port to close.
        port: Port = 0,
    }
}

c_struct! {
    /// [`Op::SEND`](crate::Op::SEND).
    Send = "evtchn_send", 4 bytes {
        /// The sender's own port.
        port: Port = 0,
    }
}

c_struct! {
    /// [`Op::BIND_VCPU`](crate::Op::BIND_VCPU).
    BindVcpu = "evtchn_bind_vcpu", 8 bytes {
        /// The port.
        port: Port = 0,
        /// The vCPU that it shall notify from now on.
        vcpu: VcpuId = 4,
    }
}

c_struct! {
    /// [`Op::UNMASK`](crate::Op::UNMASK).
    Unmask = "evtchn_unmask", 4 bytes {
        /// The port.
        port: Port = 0,
    }
}

c_struct! {
    /// [`Op::RESET`](crate::Op::RESET) and [`Op::RESET_CONT`](crate::Op::RESET_CONT).
    Reset = "evtchn_reset", 2 bytes {
        /// The domain whose ports are closed; others than the caller need privilege.
        dom: DomId = 0,
    }
}
