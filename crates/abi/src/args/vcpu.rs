// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of `vcpu_op` (`vcpu.h`).

use crate::Gfn;

c_struct! {
    /// [`VcpuOp::REGISTER_VCPU_INFO`](crate::VcpuOp::REGISTER_VCPU_INFO).
    VcpuRegisterVcpuInfo = "vcpu_register_vcpu_info", 16 bytes {
        /// The page that holds the new `vcpu_info`. A guest frame; `mfn` is the old name.
        mfn: Gfn = 0,
        /// Where in the page it begins, in bytes.
        offset: u32 = 8,
        /// Unused.
        rsvd: u32 = 12,
    }
}

c_struct! {
    /// [`VcpuOp::SET_PERIODIC_TIMER`](crate::VcpuOp::SET_PERIODIC_TIMER).
    VcpuSetPeriodicTimer = "vcpu_set_periodic_timer", 8 bytes {
        /// The time between two events, in nanoseconds; at least [`MIN_PERIOD_NS`](Self::MIN_PERIOD_NS).
        period_ns: u64 = 0,
    }
}

impl VcpuSetPeriodicTimer {
    /// The shortest period that Xen accepts, one millisecond. A shorter one is answered with EINVAL.
    ///
    /// The header has no name for it; a remark there says that shorter periods may not work.
    pub const MIN_PERIOD_NS: u64 = 1_000_000;
}

c_struct! {
    /// [`VcpuOp::SET_SINGLESHOT_TIMER`](crate::VcpuOp::SET_SINGLESHOT_TIMER) of a 64-bit guest.
    VcpuSetSingleshotTimer = "vcpu_set_singleshot_timer", 16 bytes {
        /// When the event shall come, in nanoseconds of absolute system time.
        timeout_abs_ns: u64 = 0,
        /// [`FUTURE`](Self::FUTURE) or 0.
        flags: u32 = 8,
        /// Unused.
        pad: [u8; 4] = 12,
    }
}

impl VcpuSetSingleshotTimer {
    /// Bit in `flags`: a time that has passed already is an error (ETIME).
    ///
    /// Xen may ignore the bit, and does since release 4.18 and in the maintained 4.17: the event then comes at once.
    #[doc(alias = "VCPU_SSHOTTMR_future")]
    pub const FUTURE: u32 = 1;
}

c_struct! {
    /// [`VcpuOp::SET_SINGLESHOT_TIMER`](crate::VcpuOp::SET_SINGLESHOT_TIMER) of a 32-bit x86 guest.
    VcpuSetSingleshotTimer32 = "vcpu_set_singleshot_timer", 12 bytes {
        /// As in [`VcpuSetSingleshotTimer`].
        timeout_abs_ns: u64 = 0,
        /// As in [`VcpuSetSingleshotTimer`].
        flags: u32 = 8,
    }
}

impl From<VcpuSetSingleshotTimer32> for VcpuSetSingleshotTimer {
    fn from(timer: VcpuSetSingleshotTimer32) -> Self {
        Self { timeout_abs_ns: timer.timeout_abs_ns, flags: timer.flags, pad: [0; 4] }
    }
}
