// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypercalls that have to do with event channels, and the numbers of their commands (`xen.h` and its neighbours).

open_enum! {
    /// A hypercall's number, as wide as the register that carries it on 64-bit machines.
    struct Hypercall(u64), "__HYPERVISOR_" {
        /// Argument 1: the absolute system time in nanoseconds for the caller's one-shot timer, 0 to stop it; 64 bits.
        /// A 32-bit guest passes the lower half as argument 1 and the upper half as argument 2.
        SET_TIMER_OP = 15, "set_timer_op";
        /// The old form of [`EVENT_CHANNEL_OP`](Self::EVENT_CHANNEL_OP). Argument 1: a pointer to
        /// [`EvtchnOp`](crate::args::EvtchnOp). PV guests only; others get ENOSYS.
        EVENT_CHANNEL_OP_COMPAT = 16, "event_channel_op_compat";
        /// Arguments: an [`XenVersion`], a pointer.
        XEN_VERSION = 17, "xen_version";
        /// The old form of [`PHYSDEV_OP`](Self::PHYSDEV_OP). PV guests only.
        PHYSDEV_OP_COMPAT = 19, "physdev_op_compat";
        /// Arguments: a [`VcpuOp`], a vCPU, a pointer.
        VCPU_OP = 24, "vcpu_op";
        /// Arguments: a [`SchedOp`], a pointer.
        SCHED_OP = 29, "sched_op";
        /// Arguments: a [`CallbackOp`], a pointer.
        CALLBACK_OP = 30, "callback_op";
        /// Arguments: an [`Op`](crate::Op), a pointer.
        EVENT_CHANNEL_OP = 32, "event_channel_op";
        /// Arguments: a [`PhysdevOp`], a pointer.
        PHYSDEV_OP = 33, "physdev_op";
        /// Arguments: an [`HvmOp`], a pointer.
        HVM_OP = 34, "hvm_op";
        /// Argument 1: a pointer to a structure that begins as [`DomctlHeader`](crate::args::DomctlHeader).
        DOMCTL = 36, "domctl";
    }
}

open_enum! {
    /// The commands of [`Hypercall::SCHED_OP`] (`sched.h`).
    struct SchedOp(u32), "SCHEDOP_" {
        /// Gives up the processor. No argument.
        YIELD = 0, "yield";
        /// Sleeps until an event arrives; a PV guest's upcall mask is cleared first. No argument.
        BLOCK = 1, "block";
        /// Stops the domain with a reason. The argument is [`SchedShutdown`](crate::args::SchedShutdown).
        SHUTDOWN = 2, "shutdown";
        /// Sleeps until one of some ports is pending. The argument is [`SchedPoll`](crate::args::SchedPoll).
        POLL = 3, "poll";
    }
}

/// The most ports that one [`SchedOp::POLL`] may name.
pub const SCHEDOP_POLL_MAX_PORTS: u32 = 128;

open_enum! {
    /// The commands of [`Hypercall::VCPU_OP`] (`vcpu.h`).
    struct VcpuOp(u32), "VCPUOP_" {
        /// Gives a vCPU its first register values.
        INITIALISE = 0, "initialise";
        /// Starts a vCPU.
        UP = 1, "up";
        /// Stops a vCPU.
        DOWN = 2, "down";
        /// Asks whether a vCPU runs.
        IS_UP = 3, "is_up";
        /// Asks how long a vCPU has been in each of its scheduling states.
        GET_RUNSTATE_INFO = 4, "get_runstate_info";
        /// Names memory in which Xen keeps the same times up to date.
        REGISTER_RUNSTATE_MEMORY_AREA = 5, "register_runstate_memory_area";
        /// Makes the vCPU's VIRQ_TIMER come again and again.
        /// The argument is [`VcpuSetPeriodicTimer`](crate::args::VcpuSetPeriodicTimer).
        SET_PERIODIC_TIMER = 6, "set_periodic_timer";
        /// Ends [`SET_PERIODIC_TIMER`](Self::SET_PERIODIC_TIMER). No argument.
        STOP_PERIODIC_TIMER = 7, "stop_periodic_timer";
        /// Makes the calling vCPU's VIRQ_TIMER come once, by the timer that [`Hypercall::SET_TIMER_OP`] sets too.
        /// The argument is [`VcpuSetSingleshotTimer`](crate::args::VcpuSetSingleshotTimer).
        SET_SINGLESHOT_TIMER = 8, "set_singleshot_timer";
        /// Ends [`SET_SINGLESHOT_TIMER`](Self::SET_SINGLESHOT_TIMER). No argument.
        STOP_SINGLESHOT_TIMER = 9, "stop_singleshot_timer";
        /// Moves a `vcpu_info` to memory of the guest's choice.
        /// The argument is [`VcpuRegisterVcpuInfo`](crate::args::VcpuRegisterVcpuInfo).
        REGISTER_VCPU_INFO = 10, "register_vcpu_info";
    }
}

open_enum! {
    /// The commands of [`Hypercall::HVM_OP`] (`hvm/hvm_op.h`).
    struct HvmOp(u32), "HVMOP_" {
        /// Sets an [`HvmParam`](crate::HvmParam). The argument is [`HvmParamValue`](crate::args::HvmParamValue).
        SET_PARAM = 0, "set_param";
        /// Reads an [`HvmParam`](crate::HvmParam). The argument is the same, and is written back.
        GET_PARAM = 1, "get_param";
        /// Chooses a vCPU's own upcall vector. x86 only.
        /// The argument is [`EvtchnUpcallVector`](crate::args::EvtchnUpcallVector).
        SET_EVTCHN_UPCALL_VECTOR = 23, "set_evtchn_upcall_vector";
    }
}

open_enum! {
    /// The commands of [`Hypercall::CALLBACK_OP`] (`callback.h`).
    struct CallbackOp(u32), "CALLBACKOP_" {
        /// Sets a PV guest's entry point.
        REGISTER = 0, "register";
        /// Takes it away.
        UNREGISTER = 1, "unregister";
    }
}

open_enum! {
    /// The commands of [`Hypercall::PHYSDEV_OP`] that concern interrupts (`physdev.h`).
    struct PhysdevOp(u32), "PHYSDEVOP_" {
        /// Asks whether an interrupt needs an EOI, and whether it is shared.
        /// The argument is [`PhysdevIrqStatusQuery`](crate::args::PhysdevIrqStatusQuery), and is written back.
        IRQ_STATUS_QUERY = 5, "irq_status_query";
        /// Ends the handling of a physical interrupt. The argument is [`PhysdevEoi`](crate::args::PhysdevEoi).
        EOI = 12, "eoi";
        /// Gives a device's interrupt a PIRQ number.
        MAP_PIRQ = 13, "map_pirq";
        /// Takes it away.
        UNMAP_PIRQ = 14, "unmap_pirq";
        /// Names a page with one bit for each PIRQ that needs an EOI; an EOI then also unmasks.
        /// The argument is [`PhysdevPirqEoiGmfn`](crate::args::PhysdevPirqEoiGmfn).
        PIRQ_EOI_GMFN_V1 = 17, "pirq_eoi_gmfn_v1";
        /// Asks for an unused PIRQ number.
        GET_FREE_PIRQ = 23, "get_free_pirq";
        /// As [`PIRQ_EOI_GMFN_V1`](Self::PIRQ_EOI_GMFN_V1), without the unmasking.
        PIRQ_EOI_GMFN_V2 = 28, "pirq_eoi_gmfn_v2";
    }
}

open_enum! {
    /// The commands of [`Hypercall::DOMCTL`] that concern event channels (`domctl.h`).
    ///
    /// The interface of `domctl` is not stable: its version changes with Xen's releases, and structures change with it.
    /// The numbers here have stayed the same.
    struct Domctl(u32), "XEN_DOMCTL_" {
        /// How Xen continues a long [`SOFT_RESET`](Self::SOFT_RESET). Not in the toolstack's headers.
        SOFT_RESET_CONT = 23, "soft_reset_cont";
        /// Asks to be signalled on a port when the domain suspends.
        /// The argument is [`DomctlSubscribe`](crate::args::DomctlSubscribe).
        SUBSCRIBE = 29, "subscribe";
        /// Chooses the domain that may bind a global VIRQ.
        /// The argument is [`DomctlSetVirqHandler`](crate::args::DomctlSetVirqHandler).
        SET_VIRQ_HANDLER = 66, "set_virq_handler";
        /// Resets a domain for another kernel to start in it. The union means nothing.
        SOFT_RESET = 79, "soft_reset";
    }
}

open_enum! {
    /// The commands of [`Hypercall::XEN_VERSION`] (`version.h`).
    struct XenVersion(u32), "XENVER_" {
        /// The release, as the result: major in the upper 16 bits, minor in the lower.
        VERSION = 0, "version";
        /// What follows the release number.
        EXTRAVERSION = 1, "extraversion";
        /// The kinds of guests that can run.
        CAPABILITIES = 3, "capabilities";
        /// The bits of [`Feature`](crate::Feature).
        GET_FEATURES = 6, "get_features";
    }
}
