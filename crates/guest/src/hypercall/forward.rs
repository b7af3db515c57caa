// SPDX-License-Identifier: MIT OR Apache-2.0
//! What points to a [`Hypercall`] is one, and so is one with a clock.

use core::num::NonZeroU64;

use evtchn_abi::args::{PhysdevIrqStatusQuery, Status};
use evtchn_abi::{
    CallbackVia, DomId, Errno, Gfn, HvmOp, HvmParam, Op, PhysdevOp, Pirq, Port, Priority, SchedOp, VcpuId,
    VcpuOp, Virq,
};

use super::Hypercall;
use crate::WithClock;

/// Every function, so that those that an implementor has overridden stay so.
macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        forward! { [T: Hypercall + ?Sized] &T, self => **self; $($name($($arg: $type),*) -> $result;)* }
        #[cfg(feature = "alloc")]
        forward! { [T: Hypercall + ?Sized] alloc::boxed::Box<T>, self => **self; $($name($($arg: $type),*) -> $result;)* }
        #[cfg(feature = "alloc")]
        forward! { [T: Hypercall + ?Sized] alloc::rc::Rc<T>, self => **self; $($name($($arg: $type),*) -> $result;)* }
        #[cfg(feature = "alloc")]
        forward! { [T: Hypercall + ?Sized] alloc::sync::Arc<T>, self => **self; $($name($($arg: $type),*) -> $result;)* }
        forward! { [T: Hypercall, N, X] WithClock<T, N, X>, self => self.hypercall; $($name($($arg: $type),*) -> $result;)* }
    };
    ([$($generics:tt)*] $type:ty, $this:ident => $inner:expr;
     $($name:ident($($arg:ident: $arg_type:ty),*) -> $result:ty;)*) => {
        impl<$($generics)*> Hypercall for $type {
            $(
                #[inline]
                fn $name(&$this, $($arg: $arg_type),*) -> Result<$result, Errno> {
                    ($inner).$name($($arg),*)
                }
            )*
        }
    };
}

forward! {
    event_channel_op(op: Op, arg: &mut [u8]) -> ();
    sched_op(op: SchedOp, arg: &mut [u8]) -> ();
    poll(ports: &[Port], deadline: Option<NonZeroU64>) -> ();
    vcpu_op(op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> u32;
    hvm_op(op: HvmOp, arg: &mut [u8]) -> ();
    physdev_op(op: PhysdevOp, arg: &mut [u8]) -> ();
    set_timer_op(deadline: Option<NonZeroU64>) -> ();
    alloc_unbound(dom: DomId, remote: DomId) -> Port;
    bind_interdomain(remote: DomId, remote_port: Port) -> Port;
    bind_virq(virq: Virq, vcpu: VcpuId) -> Port;
    bind_pirq(pirq: Pirq, flags: u32) -> Port;
    bind_ipi(vcpu: VcpuId) -> Port;
    bind_vcpu(port: Port, vcpu: VcpuId) -> ();
    close(port: Port) -> ();
    send(port: Port) -> ();
    status(dom: DomId, port: Port) -> Status;
    unmask(port: Port) -> ();
    reset(dom: DomId) -> ();
    reset_cont(dom: DomId) -> ();
    init_control(vcpu: VcpuId, control: Gfn, offset: u32) -> u8;
    expand_array(page: Gfn) -> ();
    set_priority(port: Port, priority: Priority) -> ();
    yield_now() -> ();
    block() -> ();
    shutdown(reason: u32) -> ();
    register_vcpu_info(vcpu: VcpuId, page: Gfn, offset: u32) -> ();
    set_periodic_timer(vcpu: VcpuId, period: u64) -> ();
    stop_periodic_timer(vcpu: VcpuId) -> ();
    set_singleshot_timer(vcpu: VcpuId, deadline: u64) -> ();
    stop_singleshot_timer(vcpu: VcpuId) -> ();
    vcpu_is_up(vcpu: VcpuId) -> bool;
    set_hvm_param(param: HvmParam, value: u64) -> ();
    hvm_param(param: HvmParam) -> u64;
    set_callback(via: CallbackVia) -> ();
    set_upcall_vector(vcpu: VcpuId, vector: u8) -> ();
    pirq_status(pirq: Pirq) -> PhysdevIrqStatusQuery;
    pirq_eoi(pirq: Pirq) -> ();
    set_pirq_eoi_page(page: Gfn, auto_unmask: bool) -> ();
}
