// SPDX-License-Identifier: MIT OR Apache-2.0
//! How a guest asks Xen.

use evtchn_abi::args::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, ExpandArray, InitControl,
    Reset, Send, SetPriority, Status, Unmask,
};
use evtchn_abi::{CStruct, DomId, Errno, Gfn, Op, Pirq, Port, Priority, VcpuId, Virq};

/// The hypercall `event_channel_op`, and each of its operations with types.
///
/// An implementor needs to give one function. It may override the others where it has a shorter way,
/// as an in-process host has.
pub trait Hypercall {
    /// Executes an operation. `arg` is its argument structure, which Xen may write results into.
    ///
    /// # Errors
    /// The error number that Xen answered.
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno>;

    /// Opens a port of `dom` for `remote` to bind to.
    ///
    /// # Errors
    /// ESRCH, EINVAL, ENOSPC, ENOMEM, EPERM.
    fn alloc_unbound(&self, dom: DomId, remote: DomId) -> Result<Port, Errno> {
        let arg = AllocUnbound { dom, remote_dom: remote, ..AllocUnbound::default() };
        Ok(call(self, Op::ALLOC_UNBOUND, &arg)?.port)
    }

    /// Opens a port and connects it to one of `remote`'s.
    ///
    /// # Errors
    /// ESRCH, EINVAL, ENOSPC, ENOMEM.
    fn bind_interdomain(&self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        let arg = BindInterdomain { remote_dom: remote, remote_port, ..BindInterdomain::default() };
        Ok(call(self, Op::BIND_INTERDOMAIN, &arg)?.local_port)
    }

    /// Opens a port that a VIRQ raises.
    ///
    /// # Errors
    /// EINVAL, ENOENT, EBUSY, EEXIST, ENOSPC, ENOMEM.
    fn bind_virq(&self, virq: Virq, vcpu: VcpuId) -> Result<Port, Errno> {
        let arg = BindVirq { virq, vcpu, ..BindVirq::default() };
        Ok(call(self, Op::BIND_VIRQ, &arg)?.port)
    }

    /// Opens a port that a physical interrupt raises.
    ///
    /// # Errors
    /// EINVAL, EPERM, EEXIST, EBUSY, ENOSPC, ENOMEM.
    fn bind_pirq(&self, pirq: Pirq, flags: u32) -> Result<Port, Errno> {
        let arg = BindPirq { pirq, flags, ..BindPirq::default() };
        Ok(call(self, Op::BIND_PIRQ, &arg)?.port)
    }

    /// Opens a port that signals one of the guest's own vCPUs.
    ///
    /// # Errors
    /// ENOENT, EINVAL, ENOSPC, ENOMEM.
    fn bind_ipi(&self, vcpu: VcpuId) -> Result<Port, Errno> {
        let arg = BindIpi { vcpu, ..BindIpi::default() };
        Ok(call(self, Op::BIND_IPI, &arg)?.port)
    }

    /// Chooses the vCPU that a port notifies.
    ///
    /// # Errors
    /// ENOENT, EINVAL.
    fn bind_vcpu(&self, port: Port, vcpu: VcpuId) -> Result<(), Errno> {
        call(self, Op::BIND_VCPU, &BindVcpu { port, vcpu }).map(|_| ())
    }

    /// Closes a port.
    ///
    /// # Errors
    /// EINVAL.
    fn close(&self, port: Port) -> Result<(), Errno> {
        call(self, Op::CLOSE, &Close { port }).map(|_| ())
    }

    /// Signals the other end of a port.
    ///
    /// # Errors
    /// EINVAL.
    fn send(&self, port: Port) -> Result<(), Errno> {
        call(self, Op::SEND, &Send { port }).map(|_| ())
    }

    /// Asks what a port of `dom` is.
    ///
    /// # Errors
    /// ESRCH, EINVAL, EPERM, EACCES.
    fn status(&self, dom: DomId, port: Port) -> Result<Status, Errno> {
        call(self, Op::STATUS, &Status { dom, port, ..Status::default() })
    }

    /// Lets Xen clear the mask bit and deliver what is pending.
    ///
    /// # Errors
    /// EINVAL.
    fn unmask(&self, port: Port) -> Result<(), Errno> {
        call(self, Op::UNMASK, &Unmask { port }).map(|_| ())
    }

    /// Closes all ports of `dom`.
    ///
    /// # Errors
    /// ESRCH, EPERM, EINVAL, EBUSY, EAGAIN.
    fn reset(&self, dom: DomId) -> Result<(), Errno> {
        call(self, Op::RESET, &Reset { dom }).map(|_| ())
    }

    /// Gives a vCPU its FIFO control block: `offset` bytes into the page `control`. The first one changes the guest to
    /// the FIFO ABI. Returns how many bits of an event word hold a port number.
    ///
    /// # Errors
    /// ENOENT, EINVAL, ENOMEM; EOPNOTSUPP or ENOSYS from a Xen without the FIFO ABI.
    fn init_control(&self, vcpu: VcpuId, control: Gfn, offset: u32) -> Result<u8, Errno> {
        let arg = InitControl { control_gfn: control, offset, vcpu, ..InitControl::default() };
        Ok(call(self, Op::INIT_CONTROL, &arg)?.link_bits)
    }

    /// Adds a page to the FIFO event array.
    ///
    /// # Errors
    /// EOPNOTSUPP with the two-level ABI, ENOSPC after 128 pages, EINVAL, ENOMEM.
    fn expand_array(&self, page: Gfn) -> Result<(), Errno> {
        call(self, Op::EXPAND_ARRAY, &ExpandArray { array_gfn: page }).map(|_| ())
    }

    /// Chooses a port's queue. Takes effect the next time that the port is put into one.
    ///
    /// # Errors
    /// ENOSYS with the two-level ABI, EINVAL, EACCES.
    fn set_priority(&self, port: Port, priority: Priority) -> Result<(), Errno> {
        let priority = priority.0.into();
        call(self, Op::SET_PRIORITY, &SetPriority { port, priority }).map(|_| ())
    }
}

/// Executes an operation and returns its argument as Xen left it.
fn call<A: CStruct>(hypercall: &(impl Hypercall + ?Sized), op: Op, arg: &A) -> Result<A, Errno> {
    let mut bytes = arg.to_bytes();
    hypercall.event_channel_op(op, bytes.as_mut())?;
    Ok(A::from_bytes(bytes))
}
