// SPDX-License-Identifier: GPL-2.0
//! The platform: Linux's own event-channel code above a real Xen.
//!
//! Linux keeps a reference count for the interrupt of a port that programs may use. An interrupt is made here in three
//! steps instead of by Linux's all-in-one call: get the interrupt, install the handler, make it counted. That way nothing is
//! undone that somebody else did: the all-in-one call, when it fails for a port that already has another user, takes the
//! interrupt away from that user.

mod hypercall;
mod symbols;

use core::ffi::c_void;
use core::ptr::NonNull;

use evtchn_abi::args::{AllocUnbound, BindInterdomain, BindVirq, Close, Send, Status};
use evtchn_abi::{ChannelStatus, DomId, Errno, Op, Port, VcpuId, Virq};
use evtchn_device::SetUpError;
use kernel::bindings;
use kernel::error::Result as KernelResult;
use kernel::error::code::ENODEV;
use kernel::ffi::{c_int, c_ulong};

use super::{Backend, Line};
use crate::bindings::End;
use crate::name::InterruptName;

/// The flags of our handlers: several files may have one static port.
const FLAGS: c_ulong = (bindings::IRQF_SHARED | bindings::IRQF_COND_ONESHOT) as c_ulong;

/// Linux on Xen.
pub(crate) struct Xen;

impl Backend for Xen {
    fn start() -> KernelResult {
        // SAFETY: Written while the machine boots, never since.
        let kind = unsafe { (&raw const bindings::xen_domain_type).read() };
        if kind == bindings::xen_domain_type_XEN_NATIVE { Err(ENODEV) } else { Ok(()) }
    }

    fn stop() {}

    fn bind_virq(virq: Virq) -> Result<Port, Errno> {
        // Linux's CPU 0 need not be Xen's vCPU 0.
        let arguments = BindVirq { virq, vcpu: VcpuId(symbols::vcpu_of_cpu_0()), ..Default::default() };
        let mut bytes = arguments.to_bytes();
        hypercall::event_channel_op(Op::BIND_VIRQ, &mut bytes)?;
        Ok(BindVirq::from_bytes(bytes).port)
    }

    fn bind_interdomain(remote_dom: DomId, remote_port: Port) -> Result<Port, Errno> {
        let mut bytes = BindInterdomain { remote_dom, remote_port, ..Default::default() }.to_bytes();
        hypercall::event_channel_op(Op::BIND_INTERDOMAIN, &mut bytes)?;
        Ok(BindInterdomain::from_bytes(bytes).local_port)
    }

    fn alloc_unbound(remote_dom: DomId) -> Result<Port, Errno> {
        let mut bytes = AllocUnbound { dom: DomId::SELF, remote_dom, ..Default::default() }.to_bytes();
        hypercall::event_channel_op(Op::ALLOC_UNBOUND, &mut bytes)?;
        Ok(AllocUnbound::from_bytes(bytes).port)
    }

    #[inline]
    fn notify(port: Port) {
        // A peer that is gone is no error: programs learn it by other means.
        let _ = hypercall::event_channel_op(Op::SEND, &mut Send { port }.to_bytes());
    }

    fn close(port: Port) {
        // It can fail only if somebody closed the port behind our back, which is what we want.
        let _ = hypercall::event_channel_op(Op::CLOSE, &mut Close { port }.to_bytes());
    }

    fn usable_ports() -> u32 {
        // SAFETY: The function has no conditions.
        unsafe { symbols::xen_evtchn_nr_channels() }
    }

    fn is_in_use(port: Port) -> bool {
        line_of(port).is_some()
    }

    unsafe fn attach(port: Port, name: &InterruptName, handler: NonNull<End>) -> Result<Line, SetUpError> {
        let line = make_line(port).map_err(|errno| {
            // Linux has closed the channel, or not, depending on how far it came.
            if is_open(port) { SetUpError::Open(errno) } else { SetUpError::Closed(errno) }
        })?;
        // SAFETY: The caller's promise.
        let installed = unsafe { install(line, name, handler) };
        count_references(port, false);
        installed.map_err(|errno| {
            give_up(port);
            SetUpError::Closed(errno)
        })?;
        Ok(line)
    }

    unsafe fn attach_static(port: Port, name: &InterruptName, handler: NonNull<End>) -> Result<Line, Errno> {
        // An interrupt for a closed port would meet the port's next owner.
        if !is_open(port) {
            return Err(Errno::EINVAL);
        }
        let line = make_line(port)?;
        // SAFETY: The caller's promise.
        match unsafe { install(line, name, handler) } {
            Ok(()) => count_references(port, true),
            // Somebody else, who does not share, was faster: it is not ours to give up.
            Err(Errno::EBUSY) => return Err(Errno::EBUSY),
            Err(errno) => {
                count_references(port, true);
                give_up(port);
                return Err(errno);
            }
        }
        Ok(line)
    }

    unsafe fn attach_to_static(
        port: Port,
        line: Line,
        name: &InterruptName,
        handler: NonNull<End>,
    ) -> Result<(), Errno> {
        // SAFETY: The function has no conditions.
        errno_of(unsafe { symbols::evtchn_get(port.0) })?;
        // SAFETY: The caller's promise.
        unsafe { install(line, name, handler) }.inspect_err(|_| give_up(port))
    }

    unsafe fn detach(line: Line, handler: NonNull<End>) {
        // SAFETY: The caller's promise: the handler is installed. The call waits for it, and takes one reference away.
        unsafe { symbols::unbind_from_irqhandler(line.0, handler.as_ptr().cast()) };
    }

    #[inline]
    fn end_of_interrupt(line: Line) {
        // SAFETY: The line is there as long as the port is bound.
        unsafe { symbols::xen_irq_lateeoi(line.0, 0) };
    }
}

/// Linux's interrupt of a port, if it has one.
fn line_of(port: Port) -> Option<Line> {
    // SAFETY: The function has no conditions: it looks the number up, whatever it is.
    let irq = unsafe { symbols::irq_from_evtchn(port.0) };
    // Negative for none. 0 is an interrupt like others: a domain without old hardware has one there.
    u32::try_from(irq).ok().map(Line)
}

/// Makes Linux's interrupt of a port, masked until a handler is installed.
fn make_line(port: Port) -> Result<Line, Errno> {
    // SAFETY: The function has no conditions.
    let irq = unsafe { symbols::bind_evtchn_to_irq_lateeoi(port.0) };
    errno_of(irq.min(0))?;
    Ok(Line(irq as u32))
}

/// Installs a handler.
///
/// # Safety
///
/// As [`Backend::attach`].
unsafe fn install(line: Line, name: &InterruptName, handler: NonNull<End>) -> Result<(), Errno> {
    let data = handler.as_ptr().cast();
    // SAFETY: The caller's promise.
    errno_of(unsafe {
        bindings::request_threaded_irq(line.0, Some(interrupt), None, FLAGS, name.as_char_ptr(), data)
    })
}

/// Makes the interrupt of a port counted, with one user. gntdev and gntalloc can hold it from now on.
fn count_references(port: Port, is_static: bool) {
    // SAFETY: The function has no conditions. It fails for a port without interrupt only.
    let _ = unsafe { symbols::evtchn_make_refcounted(port.0, is_static) };
}

/// Takes one reference away. With the last one the interrupt goes, and the channel is closed unless it is static.
fn give_up(port: Port) {
    // SAFETY: The function has no conditions.
    unsafe { symbols::evtchn_put(port.0) };
}

/// Whether Xen has a channel at this number.
fn is_open(port: Port) -> bool {
    let mut bytes = Status { dom: DomId::SELF, port, ..Default::default() }.to_bytes();
    hypercall::event_channel_op(Op::STATUS, &mut bytes).is_ok()
        && Status::from_bytes(bytes).status != ChannelStatus::CLOSED
}

/// The error in the result of one of Linux's functions.
fn errno_of(result: c_int) -> Result<(), Errno> {
    match Errno::from_result(result.into()) {
        Some(errno) => Err(errno),
        None => Ok(()),
    }
}

/// # Safety
///
/// Linux calls it, with what [`install`] was given.
unsafe extern "C" fn interrupt(_: c_int, handler: *mut c_void) -> bindings::irqreturn_t {
    // SAFETY: It stays until it has been detached, which waits for us.
    unsafe { &*handler.cast::<End>() }.fired();
    bindings::irqreturn_IRQ_HANDLED
}
