// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations of hypercall `event_channel_op`, and what its status operation says of a channel.

open_enum! {
    /// The command of `event_channel_op` (`enum event_channel_op`). A number without a name is answered with ENOSYS,
    /// and its argument is not looked at. The argument structures are in [`args`](crate::args).
    struct Op(u32), "EVTCHNOP_" {
        /// Binds a new local port to an unbound port of another domain that accepts the caller.
        BIND_INTERDOMAIN = 0, "bind_interdomain";
        /// Binds a new port to a virtual interrupt.
        BIND_VIRQ = 1, "bind_virq";
        /// Binds a new port to a physical interrupt.
        BIND_PIRQ = 2, "bind_pirq";
        /// Closes a port; the peer's end becomes unbound again.
        CLOSE = 3, "close";
        /// Signals the other end.
        SEND = 4, "send";
        /// Asks what a port is bound to.
        STATUS = 5, "status";
        /// Makes a port that waits for one given domain to bind to it.
        ALLOC_UNBOUND = 6, "alloc_unbound";
        /// Binds a new port by which one vCPU of the domain signals another.
        BIND_IPI = 7, "bind_ipi";
        /// Chooses the vCPU that a port notifies.
        BIND_VCPU = 8, "bind_vcpu";
        /// Clears a port's mask bit, and delivers what is pending.
        UNMASK = 9, "unmask";
        /// Closes all ports of a domain, and leaves the FIFO ABI.
        RESET = 10, "reset";
        /// Gives Xen the page with a vCPU's FIFO control block; the first one selects the FIFO ABI.
        INIT_CONTROL = 11, "init_control";
        /// Adds a page to the FIFO event array.
        EXPAND_ARRAY = 12, "expand_array";
        /// Chooses the queue of a port. FIFO ABI only.
        SET_PRIORITY = 13, "set_priority";
        /// How Xen continues a long [`RESET`](Self::RESET). Not in the guests' headers, yet any guest may call it.
        RESET_CONT = 14, "reset_cont";
    }
}

open_enum! {
    /// The status of a port as [`Op::STATUS`] reports it.
    struct ChannelStatus(u32), "EVTCHNSTAT_" {
        /// Not in use.
        CLOSED = 0, "closed";
        /// Waits for a domain to bind to it.
        UNBOUND = 1, "unbound";
        /// Connected to another port.
        INTERDOMAIN = 2, "interdomain";
        /// Bound to a physical interrupt.
        PIRQ = 3, "pirq";
        /// Bound to a virtual interrupt.
        VIRQ = 4, "virq";
        /// Bound to one of the domain's own vCPUs.
        IPI = 5, "ipi";
    }
}
