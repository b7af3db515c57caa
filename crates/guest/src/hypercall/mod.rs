// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a guest asks Xen.
//!
//! [`Hypercall`] has one function that must be given and many that stand on it. Who is behind it makes no difference to a guest:
//! the processor's instruction (the crate `evtchn-hypercall`), the engine in the same process (`InProcess`, with the feature
//! `engine`), a [`Recording`] of either, or what was recorded ([`Replaying`]).

mod call;
mod forward;
#[cfg(feature = "engine")]
mod in_process;
mod recording;
mod replaying;

use core::num::NonZeroU64;

use evtchn_abi::args::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, EvtchnUpcallVector,
    ExpandArray, HvmParamValue, InitControl, PhysdevEoi, PhysdevIrqStatusQuery, PhysdevPirqEoiGmfn, Reset,
    SchedShutdown, Send, SetPriority, Status, Unmask, VcpuRegisterVcpuInfo, VcpuSetPeriodicTimer,
    VcpuSetSingleshotTimer,
};
use evtchn_abi::{
    CStruct, CallbackVia, DomId, Errno, Gfn, HvmOp, HvmParam, Op, PhysdevOp, Pirq, Port, Priority, SchedOp,
    VcpuId, VcpuOp, Virq,
};

pub use call::{Argument, Call, Request};
#[cfg(feature = "engine")]
pub use in_process::InProcess;
pub use recording::Recording;
pub use replaying::{Divergence, ReplayError, Replaying};

/// The hypercalls that a guest needs for event channels: the raw ones, and each operation with types.
///
/// An implementor must give [`event_channel_op`](Self::event_channel_op). The other raw functions ([`sched_op`](Self::sched_op),
/// [`poll`](Self::poll), [`vcpu_op`](Self::vcpu_op), [`hvm_op`](Self::hvm_op), [`physdev_op`](Self::physdev_op),
/// [`set_timer_op`](Self::set_timer_op)) answer ENOSYS unless it gives them, too: one that wraps another passes them all on, or
/// whatever stands on them, such as [`set_upcall_vector`](Self::set_upcall_vector), fails when it is called. The functions with types
/// are made of the raw ones; an implementor that has a shorter way, as an in-process host has, overrides them.
///
/// ```
/// use std::cell::Cell;
/// use evtchn_abi::args::BindIpi;
/// use evtchn_abi::{CStruct, Errno, Op, Port, VcpuId};
/// use evtchn_guest::Hypercall;
///
/// /// A hypervisor that can do one thing.
/// struct Minimal(Cell<u32>);
///
/// impl Hypercall for Minimal {
///     fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
///         if op != Op::BIND_IPI {
///             return Err(Errno::ENOSYS);
///         }
///         self.0.set(self.0.get() + 1);
///         let port = Port(self.0.get());
///         arg.copy_from_slice(&BindIpi { port, ..BindIpi::default() }.to_bytes());
///         Ok(())
///     }
/// }
///
/// let xen = Minimal(Cell::new(0));
/// assert_eq!(xen.bind_ipi(VcpuId(0)), Ok(Port(1)));
/// assert_eq!(xen.send(Port(1)), Err(Errno::ENOSYS));
/// assert_eq!(xen.block(), Err(Errno::ENOSYS)); // `sched_op` is not given
/// ```
///
/// # Errors
///
/// Besides what is listed with each function: EFAULT if Xen cannot read or write the argument; EPERM for all of them where
/// a security policy forbids it; ENOSYS from a hypervisor that does not have the hypercall.
pub trait Hypercall {
    /// Executes an operation of `event_channel_op`. `arg` is its argument structure (see [`evtchn_abi::args`]), which Xen may
    /// write results into; it does so only if the operation succeeds.
    ///
    /// # Errors
    /// The error number that Xen answered. ENOSYS for an operation that it does not know.
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno>;

    /// Executes a command of `sched_op`. `arg` is its argument structure, and empty if it has none.
    ///
    /// Not for [`SchedOp::POLL`], whose structure has a pointer in it: see [`poll`](Self::poll).
    ///
    /// # Errors
    /// The error number that Xen answered. ENOSYS unless the implementor gives this function.
    fn sched_op(&self, op: SchedOp, arg: &mut [u8]) -> Result<(), Errno> {
        let _ = (op, arg);
        Err(Errno::ENOSYS)
    }

    /// `SCHEDOP_poll`: sleeps until one of `ports` is pending, masked or not, or until the absolute system time `deadline` in
    /// nanoseconds.
    ///
    /// Also ends for other reasons, without saying for which: an upcall, and with several ports or none an event on any port
    /// of the domain. So look at the ports, and poll again.
    ///
    /// # Errors
    /// EINVAL for more than 128 ports, or one that is closed or out of range. ENOSYS unless the implementor gives this function.
    fn poll(&self, ports: &[Port], deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        let _ = (ports, deadline);
        Err(Errno::ENOSYS)
    }

    /// Executes a command of `vcpu_op` for `vcpu`. `arg` is its argument structure, and empty if it has none. The answer is
    /// what Xen returned: 0, but for a question such as [`VcpuOp::IS_UP`].
    ///
    /// # Errors
    /// The error number that Xen answered. ENOSYS unless the implementor gives this function.
    fn vcpu_op(&self, op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        let _ = (op, vcpu, arg);
        Err(Errno::ENOSYS)
    }

    /// Executes a command of `hvm_op`. `arg` is its argument structure.
    ///
    /// # Errors
    /// The error number that Xen answered. ENOSYS unless the implementor gives this function.
    fn hvm_op(&self, op: HvmOp, arg: &mut [u8]) -> Result<(), Errno> {
        let _ = (op, arg);
        Err(Errno::ENOSYS)
    }

    /// Executes a command of `physdev_op`. `arg` is its argument structure.
    ///
    /// # Errors
    /// The error number that Xen answered. ENOSYS unless the implementor gives this function.
    fn physdev_op(&self, op: PhysdevOp, arg: &mut [u8]) -> Result<(), Errno> {
        let _ = (op, arg);
        Err(Errno::ENOSYS)
    }

    /// `set_timer_op`: the calling vCPU's `VIRQ_TIMER` comes once, at the absolute system time `deadline` in nanoseconds; at once
    /// if that has passed. Takes the place of the last deadline. `None` stops the timer.
    ///
    /// # Errors
    /// ENOSYS unless the implementor gives this function.
    fn set_timer_op(&self, deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        let _ = deadline;
        Err(Errno::ENOSYS)
    }

    /// Opens a port of `dom` for `remote` to bind to.
    ///
    /// # Errors
    /// ESRCH if there is no domain `dom`; EPERM if it is another domain and the caller has no power over it; ENOSPC if no port
    /// is free; ENOMEM; EINVAL if the domain is dying. Whether `remote` exists is not looked at.
    fn alloc_unbound(&self, dom: DomId, remote: DomId) -> Result<Port, Errno> {
        let arg = AllocUnbound { dom, remote_dom: remote, ..AllocUnbound::default() };
        Ok(event_channel_op(self, Op::ALLOC_UNBOUND, &arg)?.port)
    }

    /// Opens a port and connects it to one of `remote`'s. The new port is raised once.
    ///
    /// # Errors
    /// ESRCH if there is no domain `remote`; EINVAL if its port does not wait for the caller, or the caller is dying; ENOSPC if
    /// no port is free; ENOMEM.
    fn bind_interdomain(&self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        let arg = BindInterdomain { remote_dom: remote, remote_port, ..BindInterdomain::default() };
        Ok(event_channel_op(self, Op::BIND_INTERDOMAIN, &arg)?.local_port)
    }

    /// Opens a port that a VIRQ raises.
    ///
    /// # Errors
    /// EINVAL if there is no such VIRQ, or it is not per vCPU and `vcpu` is not 0; ENOENT if there is no such vCPU; EBUSY if it
    /// is another domain's (since Xen 4.21); EEXIST if it is bound already; ENOSPC if no port is free; ENOMEM.
    fn bind_virq(&self, virq: Virq, vcpu: VcpuId) -> Result<Port, Errno> {
        let arg = BindVirq { virq, vcpu, ..BindVirq::default() };
        Ok(event_channel_op(self, Op::BIND_VIRQ, &arg)?.port)
    }

    /// Opens a port that a physical interrupt raises. `flags` is 0, or
    /// [`BIND_PIRQ_WILL_SHARE`](evtchn_abi::args::BIND_PIRQ_WILL_SHARE).
    ///
    /// # Errors
    /// EINVAL beyond the domain's number of PIRQs, or if no interrupt is behind it; EPERM if the domain may not use it; EEXIST
    /// if it is bound already; EBUSY if somebody uses it who does not share it; ENOSPC if no port is free; ENOMEM; EOPNOTSUPP
    /// except on x86.
    fn bind_pirq(&self, pirq: Pirq, flags: u32) -> Result<Port, Errno> {
        let arg = BindPirq { pirq, flags, ..BindPirq::default() };
        Ok(event_channel_op(self, Op::BIND_PIRQ, &arg)?.port)
    }

    /// Opens a port that signals one of the guest's own vCPUs.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU; ENOSPC if no port is free; ENOMEM; EINVAL if the domain is dying.
    fn bind_ipi(&self, vcpu: VcpuId) -> Result<Port, Errno> {
        let arg = BindIpi { vcpu, ..BindIpi::default() };
        Ok(event_channel_op(self, Op::BIND_IPI, &arg)?.port)
    }

    /// Chooses the vCPU that a port notifies.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU; EINVAL if the port is not open, or its vCPU is fixed: an IPI's, a per-vCPU VIRQ's.
    fn bind_vcpu(&self, port: Port, vcpu: VcpuId) -> Result<(), Errno> {
        event_channel_op(self, Op::BIND_VCPU, &BindVcpu { port, vcpu }).map(drop)
    }

    /// Closes a port. The peer's end waits for this domain again, and is not told.
    ///
    /// # Errors
    /// EINVAL if the port is not open, or is Xen's.
    fn close(&self, port: Port) -> Result<(), Errno> {
        event_channel_op(self, Op::CLOSE, &Close { port }).map(drop)
    }

    /// Signals the other end of a port.
    ///
    /// # Errors
    /// EINVAL if the port is neither connected, nor an IPI's, nor waiting to be bound (then nothing happens).
    fn send(&self, port: Port) -> Result<(), Errno> {
        event_channel_op(self, Op::SEND, &Send { port }).map(drop)
    }

    /// Asks what a port of `dom` is.
    ///
    /// # Errors
    /// ESRCH if there is no domain `dom`; EINVAL if its ports do not reach that far; EPERM if it is another domain and the
    /// caller has no power over it; EACCES for a port of Xen's (before Xen 4.19).
    fn status(&self, dom: DomId, port: Port) -> Result<Status, Errno> {
        event_channel_op(self, Op::STATUS, &Status { dom, port, ..Status::default() })
    }

    /// Lets Xen clear the mask bit and deliver what is pending.
    ///
    /// # Errors
    /// EINVAL if the domain's ports do not reach that far.
    fn unmask(&self, port: Port) -> Result<(), Errno> {
        event_channel_op(self, Op::UNMASK, &Unmask { port }).map(drop)
    }

    /// Closes all ports of `dom`, and leaves the FIFO ABI.
    ///
    /// # Errors
    /// ESRCH if there is no domain `dom`; EPERM if it is another domain and the caller has no power over it; EINVAL if it is
    /// another domain and not paused; EBUSY if a reset is under way; EAGAIN if ports were opened meanwhile.
    fn reset(&self, dom: DomId) -> Result<(), Errno> {
        event_channel_op(self, Op::RESET, &Reset { dom }).map(drop)
    }

    /// Goes on with a reset that was left off. Xen does this by itself; a guest has no need to.
    ///
    /// # Errors
    /// As [`reset`](Self::reset), but EBUSY if *no* reset is under way.
    fn reset_cont(&self, dom: DomId) -> Result<(), Errno> {
        event_channel_op(self, Op::RESET_CONT, &Reset { dom }).map(drop)
    }

    /// Gives a vCPU its FIFO control block: `offset` bytes into the page `control`. The first one changes the guest to
    /// the FIFO ABI. Returns how many bits of an event word hold a port number.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU; EINVAL for an offset that is no multiple of 8 or leaves the page, a page that is not
    /// writable memory of the guest's, or a vCPU that has a block already; ENOMEM; EOPNOTSUPP or ENOSYS from a Xen without
    /// the FIFO ABI.
    fn init_control(&self, vcpu: VcpuId, control: Gfn, offset: u32) -> Result<u8, Errno> {
        let arg = InitControl { control_gfn: control, offset, vcpu, ..InitControl::default() };
        Ok(event_channel_op(self, Op::INIT_CONTROL, &arg)?.link_bits)
    }

    /// Adds a page to the FIFO event array.
    ///
    /// # Errors
    /// EOPNOTSUPP with the two-level ABI; ENOSPC after 128 pages; EINVAL if it is not writable memory of the guest's; ENOMEM.
    fn expand_array(&self, page: Gfn) -> Result<(), Errno> {
        event_channel_op(self, Op::EXPAND_ARRAY, &ExpandArray { array_gfn: page }).map(drop)
    }

    /// Chooses a port's queue. Takes effect the next time that the port is put into one.
    ///
    /// # Errors
    /// EINVAL if the domain's ports do not reach that far, or for a priority above 15; ENOSYS with the two-level ABI; EACCES if
    /// the port is not open.
    fn set_priority(&self, port: Port, priority: Priority) -> Result<(), Errno> {
        let priority = priority.0.into();
        event_channel_op(self, Op::SET_PRIORITY, &SetPriority { port, priority }).map(drop)
    }

    /// `SCHEDOP_yield`: lets others run.
    ///
    /// # Errors
    /// ENOSYS unless there is a [`sched_op`](Self::sched_op).
    fn yield_now(&self) -> Result<(), Errno> {
        self.sched_op(SchedOp::YIELD, &mut [])
    }

    /// `SCHEDOP_block`: sleeps until there is an upcall. A PV guest's upcall mask is cleared first, so that none is missed.
    ///
    /// # Errors
    /// ENOSYS unless there is a [`sched_op`](Self::sched_op).
    fn block(&self) -> Result<(), Errno> {
        self.sched_op(SchedOp::BLOCK, &mut [])
    }

    /// `SCHEDOP_shutdown`: stops the domain, for good if it succeeds (but a suspended domain returns from it when it is
    /// resumed). The reason is 0 for power off, 1 reboot, 2 suspend, 3 crash, 4 watchdog, 5 soft reset.
    ///
    /// # Errors
    /// ENOSYS unless there is a [`sched_op`](Self::sched_op).
    fn shutdown(&self, reason: u32) -> Result<(), Errno> {
        self.sched_op(SchedOp::SHUTDOWN, &mut SchedShutdown { reason }.to_bytes())
    }

    /// `VCPUOP_register_vcpu_info`: moves a vCPU's `vcpu_info` to `offset` bytes into the page `page`, once and for all. Then
    /// the whole selector is set and an upcall follows.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU; EINVAL for an offset beyond the page, or a page that is not the guest's; EBUSY (EINVAL
    /// up to Xen 4.17) if it was registered before; ENXIO if it crosses the page's end or is not aligned; EACCES (EINVAL up to
    /// Xen 4.17) if the page is read-only.
    fn register_vcpu_info(&self, vcpu: VcpuId, page: Gfn, offset: u32) -> Result<(), Errno> {
        let mut arg = VcpuRegisterVcpuInfo { mfn: page, offset, rsvd: 0 }.to_bytes();
        self.vcpu_op(VcpuOp::REGISTER_VCPU_INFO, vcpu, &mut arg).map(drop)
    }

    /// `VCPUOP_set_periodic_timer`: the vCPU's `VIRQ_TIMER` comes every `period` nanoseconds.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU; EINVAL for less than a millisecond, or an absurdly long time.
    fn set_periodic_timer(&self, vcpu: VcpuId, period: u64) -> Result<(), Errno> {
        let mut arg = VcpuSetPeriodicTimer { period_ns: period }.to_bytes();
        self.vcpu_op(VcpuOp::SET_PERIODIC_TIMER, vcpu, &mut arg).map(drop)
    }

    /// `VCPUOP_stop_periodic_timer`. It need not run.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU.
    fn stop_periodic_timer(&self, vcpu: VcpuId) -> Result<(), Errno> {
        self.vcpu_op(VcpuOp::STOP_PERIODIC_TIMER, vcpu, &mut []).map(drop)
    }

    /// `VCPUOP_set_singleshot_timer`: as [`set_timer_op`](Self::set_timer_op), and the same timer. `vcpu` must be the caller.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU; EINVAL if it is not the caller.
    fn set_singleshot_timer(&self, vcpu: VcpuId, deadline: u64) -> Result<(), Errno> {
        let timer = VcpuSetSingleshotTimer { timeout_abs_ns: deadline, ..VcpuSetSingleshotTimer::default() };
        self.vcpu_op(VcpuOp::SET_SINGLESHOT_TIMER, vcpu, &mut timer.to_bytes()).map(drop)
    }

    /// `VCPUOP_stop_singleshot_timer`. It need not run. `vcpu` must be the caller.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU; EINVAL if it is not the caller.
    fn stop_singleshot_timer(&self, vcpu: VcpuId) -> Result<(), Errno> {
        self.vcpu_op(VcpuOp::STOP_SINGLESHOT_TIMER, vcpu, &mut []).map(drop)
    }

    /// `VCPUOP_is_up`: does the vCPU run?
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU.
    fn vcpu_is_up(&self, vcpu: VcpuId) -> Result<bool, Errno> {
        Ok(self.vcpu_op(VcpuOp::IS_UP, vcpu, &mut [])? != 0)
    }

    /// `HVMOP_set_param` for the guest itself.
    ///
    /// # Errors
    /// EINVAL from a PV guest, and for a parameter that does not exist or a value that it cannot have; EPERM for one that a
    /// guest must not set.
    fn set_hvm_param(&self, param: HvmParam, value: u64) -> Result<(), Errno> {
        self.hvm_op(HvmOp::SET_PARAM, &mut own_param(param, value).to_bytes())
    }

    /// `HVMOP_get_param` for the guest itself: the port of its console, for example.
    ///
    /// # Errors
    /// EINVAL from a PV guest, and for a parameter that does not exist; EPERM for one that a guest must not see.
    fn hvm_param(&self, param: HvmParam) -> Result<u64, Errno> {
        let mut arg = own_param(param, 0).to_bytes();
        self.hvm_op(HvmOp::GET_PARAM, &mut arg)?;
        Ok(HvmParamValue::from_bytes(arg).value)
    }

    /// Chooses how the domain's vCPUs learn of events: `HVM_PARAM_CALLBACK_IRQ`. An upcall that is pending comes again.
    ///
    /// # Errors
    /// EINVAL from a PV guest; EPERM on Arm, where the toolstack chooses.
    fn set_callback(&self, via: CallbackVia) -> Result<(), Errno> {
        self.set_hvm_param(HvmParam::CALLBACK_IRQ, via.to_param())
    }

    /// `HVMOP_set_evtchn_upcall_vector`: gives a vCPU an interrupt vector of its own, which comes before the domain's
    /// callback. It needs an EOI of the local APIC. One upcall follows.
    ///
    /// # Errors
    /// EINVAL from a PV guest, and for a vector below 16; ENOENT if there is no such vCPU; ENOSYS except on x86.
    fn set_upcall_vector(&self, vcpu: VcpuId, vector: u8) -> Result<(), Errno> {
        let arg = EvtchnUpcallVector { vcpu, vector, ..EvtchnUpcallVector::default() };
        self.hvm_op(HvmOp::SET_EVTCHN_UPCALL_VECTOR, &mut arg.to_bytes())
    }

    /// `PHYSDEVOP_irq_status_query`: [`NEEDS_EOI`](PhysdevIrqStatusQuery::NEEDS_EOI) and
    /// [`SHARED`](PhysdevIrqStatusQuery::SHARED) in `flags`.
    ///
    /// # Errors
    /// EINVAL beyond the domain's number of PIRQs.
    fn pirq_status(&self, pirq: Pirq) -> Result<PhysdevIrqStatusQuery, Errno> {
        let mut arg = PhysdevIrqStatusQuery { irq: pirq, flags: 0 }.to_bytes();
        self.physdev_op(PhysdevOp::IRQ_STATUS_QUERY, &mut arg)?;
        Ok(PhysdevIrqStatusQuery::from_bytes(arg))
    }

    /// `PHYSDEVOP_eoi`: the guest has handled a physical interrupt. Needed where [`pirq_status`](Self::pirq_status) says so.
    ///
    /// # Errors
    /// EINVAL beyond the domain's number of PIRQs.
    fn pirq_eoi(&self, pirq: Pirq) -> Result<(), Errno> {
        self.physdev_op(PhysdevOp::EOI, &mut PhysdevEoi { irq: pirq }.to_bytes())
    }

    /// `PHYSDEVOP_pirq_eoi_gmfn`: names a page in which Xen keeps a bit for each PIRQ that needs an EOI. With `auto_unmask` an
    /// EOI also unmasks the PIRQ's port.
    ///
    /// # Errors
    /// EINVAL if the page is not writable memory of the guest's; EBUSY if there is one already; ENOSYS except for PV guests.
    fn set_pirq_eoi_page(&self, page: Gfn, auto_unmask: bool) -> Result<(), Errno> {
        let op = if auto_unmask { PhysdevOp::PIRQ_EOI_GMFN_V1 } else { PhysdevOp::PIRQ_EOI_GMFN_V2 };
        self.physdev_op(op, &mut PhysdevPirqEoiGmfn { gmfn: page }.to_bytes())
    }
}

/// Executes an operation and returns its argument as Xen left it.
fn event_channel_op<A: CStruct>(hypercall: &(impl Hypercall + ?Sized), op: Op, arg: &A) -> Result<A, Errno> {
    let mut bytes = arg.to_bytes();
    hypercall.event_channel_op(op, bytes.as_mut())?;
    Ok(A::from_bytes(bytes))
}

fn own_param(index: HvmParam, value: u64) -> HvmParamValue {
    HvmParamValue { domid: DomId::SELF, index, value, ..HvmParamValue::default() }
}
