// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypercalls of a guest's event channels.
#![allow(unsafe_code)]
// UNSAFETY: Xen reads and writes the arguments, by their addresses.

use core::num::NonZeroU64;

use evtchn_abi::args::{
    AllocUnbound, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, EvtchnUpcallVector,
    ExpandArray, HvmParamValue, InitControl, PhysdevEoi, PhysdevIrqStatusQuery, PhysdevPirqEoiGmfn, Reset,
    SchedPoll, SchedShutdown, Send, SetPriority, Status, Unmask, VcpuRegisterVcpuInfo, VcpuSetPeriodicTimer,
    VcpuSetSingleshotTimer,
};
use evtchn_abi::{Errno, HvmOp, Hypercall as Number, Op, PhysdevOp, Port, SchedOp, VcpuId, VcpuOp};
use evtchn_guest::Hypercall;

use crate::xen::Xen;

/// Commands whose structures are not known here are ENOSYS, without asking Xen; [`Xen::call`] is for them. An argument that
/// is shorter than its structure is EFAULT.
impl Hypercall for Xen {
    #[inline]
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        let arg = checked(size_of_event_channel_op(op), arg)?;
        self.safe(Number::EVENT_CHANNEL_OP, [op.0.into(), arg, 0]).map(drop)
    }

    fn sched_op(&self, op: SchedOp, arg: &mut [u8]) -> Result<(), Errno> {
        let arg = checked(size_of_sched_op(op), arg)?;
        self.safe(Number::SCHED_OP, [op.0.into(), arg, 0]).map(drop)
    }

    fn poll(&self, ports: &[Port], deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        let mut arg = SchedPoll {
            ports: ports.as_ptr().expose_provenance() as u64,
            nr_ports: u32::try_from(ports.len()).map_err(|_| Errno::EINVAL)?,
            timeout: deadline.map_or(0, NonZeroU64::get),
            ..SchedPoll::default()
        }
        .to_bytes();
        self.safe(Number::SCHED_OP, [SchedOp::POLL.0.into(), address(&mut arg), 0]).map(drop)
    }

    fn vcpu_op(&self, op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        let arg = checked(size_of_vcpu_op(op), arg)?;
        self.safe(Number::VCPU_OP, [op.0.into(), vcpu.0.into(), arg])
    }

    fn hvm_op(&self, op: HvmOp, arg: &mut [u8]) -> Result<(), Errno> {
        let arg = checked(size_of_hvm_op(op), arg)?;
        self.safe(Number::HVM_OP, [op.0.into(), arg, 0]).map(drop)
    }

    fn physdev_op(&self, op: PhysdevOp, arg: &mut [u8]) -> Result<(), Errno> {
        let arg = checked(size_of_physdev_op(op), arg)?;
        self.safe(Number::PHYSDEV_OP, [op.0.into(), arg, 0]).map(drop)
    }

    fn set_timer_op(&self, deadline: Option<NonZeroU64>) -> Result<(), Errno> {
        let deadline = deadline.map_or(0, NonZeroU64::get);
        self.safe(Number::SET_TIMER_OP, [deadline, 0, 0]).map(drop)
    }
}

impl Xen {
    /// A hypercall of those above: an address among the arguments is of a structure that is whole, and borrowed by the caller.
    #[inline]
    fn safe(&self, number: Number, [first, second, third]: [u64; 3]) -> Result<u32, Errno> {
        // The numbers fit.
        #[allow(clippy::cast_possible_truncation)]
        let number = number.0 as u32;
        // SAFETY: Xen touches no more than the structure and, of frames that are named in it, what `Xen::new` was promised.
        let result = unsafe { self.call(number, [first, second, third, 0, 0]) };
        match Errno::from_result(result) {
            Some(error) => Err(error),
            None => Ok(u32::try_from(result).unwrap_or(u32::MAX)),
        }
    }
}

/// The address of an argument, if it has all of its structure.
#[inline]
fn checked(size: Option<usize>, arg: &mut [u8]) -> Result<u64, Errno> {
    match size {
        Some(0) => Ok(0),
        Some(size) if arg.len() >= size => Ok(address(arg)),
        Some(_) => Err(Errno::EFAULT),
        None => Err(Errno::ENOSYS),
    }
}

#[inline]
fn address(arg: &mut [u8]) -> u64 {
    arg.as_mut_ptr().expose_provenance() as u64
}

/// How many bytes Xen reads, and may write; `None` for what is not known.
#[inline]
const fn size_of_event_channel_op(op: Op) -> Option<usize> {
    Some(match op {
        Op::SEND => Send::SIZE,
        Op::UNMASK => Unmask::SIZE,
        Op::CLOSE => Close::SIZE,
        Op::STATUS => Status::SIZE,
        Op::ALLOC_UNBOUND => AllocUnbound::SIZE,
        Op::BIND_INTERDOMAIN => BindInterdomain::SIZE,
        Op::BIND_VIRQ => BindVirq::SIZE,
        Op::BIND_PIRQ => BindPirq::SIZE,
        Op::BIND_IPI => BindIpi::SIZE,
        Op::BIND_VCPU => BindVcpu::SIZE,
        Op::RESET | Op::RESET_CONT => Reset::SIZE,
        Op::INIT_CONTROL => InitControl::SIZE,
        Op::EXPAND_ARRAY => ExpandArray::SIZE,
        Op::SET_PRIORITY => SetPriority::SIZE,
        _ => return None,
    })
}

/// Without `poll`, whose structure has an address in it.
const fn size_of_sched_op(op: SchedOp) -> Option<usize> {
    Some(match op {
        SchedOp::YIELD | SchedOp::BLOCK => 0,
        SchedOp::SHUTDOWN => SchedShutdown::SIZE,
        _ => return None,
    })
}

/// Without those that name memory by its address, for later.
const fn size_of_vcpu_op(op: VcpuOp) -> Option<usize> {
    Some(match op {
        VcpuOp::IS_UP | VcpuOp::STOP_PERIODIC_TIMER | VcpuOp::STOP_SINGLESHOT_TIMER => 0,
        VcpuOp::SET_PERIODIC_TIMER => VcpuSetPeriodicTimer::SIZE,
        VcpuOp::SET_SINGLESHOT_TIMER => VcpuSetSingleshotTimer::SIZE,
        VcpuOp::REGISTER_VCPU_INFO => VcpuRegisterVcpuInfo::SIZE,
        _ => return None,
    })
}

const fn size_of_hvm_op(op: HvmOp) -> Option<usize> {
    Some(match op {
        HvmOp::SET_PARAM | HvmOp::GET_PARAM => HvmParamValue::SIZE,
        HvmOp::SET_EVTCHN_UPCALL_VECTOR => EvtchnUpcallVector::SIZE,
        _ => return None,
    })
}

const fn size_of_physdev_op(op: PhysdevOp) -> Option<usize> {
    Some(match op {
        PhysdevOp::EOI => PhysdevEoi::SIZE,
        PhysdevOp::IRQ_STATUS_QUERY => PhysdevIrqStatusQuery::SIZE,
        PhysdevOp::PIRQ_EOI_GMFN_V1 | PhysdevOp::PIRQ_EOI_GMFN_V2 => PhysdevPirqEoiGmfn::SIZE,
        _ => return None,
    })
}
