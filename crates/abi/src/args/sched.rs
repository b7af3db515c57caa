// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of `sched_op` (`sched.h`).

c_struct! {
    /// [`SchedOp::POLL`](crate::SchedOp::POLL) of a 64-bit guest.
    SchedPoll = "sched_poll", 24 bytes {
        /// The address of an array of port numbers, four bytes each.
        ports: u64 = 0,
        /// How many there are, at most [`SCHEDOP_POLL_MAX_PORTS`](crate::SCHEDOP_POLL_MAX_PORTS).
        nr_ports: u32 = 8,
        /// Unused.
        pad: [u8; 4] = 12,
        /// When to stop waiting, in nanoseconds of absolute system time; 0 for never.
        timeout: u64 = 16,
    }
}

c_struct! {
    /// [`SchedOp::POLL`](crate::SchedOp::POLL) of a 32-bit x86 guest.
    SchedPoll32 = "sched_poll", 16 bytes {
        /// As in [`SchedPoll`].
        ports: u32 = 0,
        /// As in [`SchedPoll`].
        nr_ports: u32 = 4,
        /// As in [`SchedPoll`].
        timeout: u64 = 8,
    }
}

impl From<SchedPoll32> for SchedPoll {
    fn from(poll: SchedPoll32) -> Self {
        Self { ports: poll.ports.into(), nr_ports: poll.nr_ports, pad: [0; 4], timeout: poll.timeout }
    }
}

c_struct! {
    /// [`SchedOp::SHUTDOWN`](crate::SchedOp::SHUTDOWN).
    SchedShutdown = "sched_shutdown", 4 bytes {
        /// Why: power off 0, reboot 1, suspend 2, crash 3, watchdog 4, soft reset 5.
        reason: u32 = 0,
    }
}
