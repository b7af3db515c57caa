// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls that are recorded on a real Xen, and made once more to the engine: it must give the same answers.
//!
//! Nothing here depends on time or on where the guest's memory is. Besides the two ports that each guest begins with, none is open before,
//! and none is left open.

use evtchn_abi::{DomId, Errno, Gfn, HvmParam, Op, Pirq, Port, Priority, VcpuId, Virq};
use evtchn_guest::Hypercall;

/// The guest's only vCPU, and one that it does not have.
const V0: VcpuId = VcpuId(0);
const V9: VcpuId = VcpuId(9);
/// A domain that does not exist, and one that does and is not ours.
const NOBODY: DomId = DomId(999);
const DOM0: DomId = DomId(0);
/// A port beyond all that a guest has.
const BEYOND: Port = Port(5000);
/// A frame that no machine has.
const NO_FRAME: Gfn = Gfn(u64::MAX >> 12);

/// What the answers are is not looked at here: they are recorded.
///
/// # Errors
/// A port that is needed further on cannot be had.
pub fn run(xen: &dyn Hypercall, pv: bool) -> Result<(), Errno> {
    let ports = open(xen)?;
    use_them(xen, ports);
    refused(xen);
    around(xen, ports, pv);
    for port in ports {
        let _ = (xen.close(port), xen.close(port), xen.status(DomId::SELF, port));
    }
    Ok(())
}

/// An interdomain pair, a port that waits, a VIRQ, an IPI.
fn open(xen: &dyn Hypercall) -> Result<[Port; 5], Errno> {
    let far = xen.alloc_unbound(DomId::SELF, DomId::SELF)?;
    let near = xen.bind_interdomain(DomId::SELF, far)?;
    let _ = xen.bind_interdomain(DomId::SELF, far);
    let waiting = xen.alloc_unbound(DomId::SELF, NOBODY)?;
    let _ = xen.bind_interdomain(DomId::SELF, waiting);
    let virq = xen.bind_virq(Virq::DEBUG, V0)?;
    let _ = xen.bind_virq(Virq::DEBUG, V0);
    let ipi = xen.bind_ipi(V0)?;
    Ok([near, far, waiting, virq, ipi])
}

fn use_them(xen: &dyn Hypercall, ports: [Port; 5]) {
    for port in ports {
        let _ = (xen.status(DomId::SELF, port), xen.bind_vcpu(port, V0), xen.bind_vcpu(port, V9));
        let _ = (xen.send(port), xen.unmask(port), xen.set_priority(port, Priority(3)));
    }
    let [near, far, ..] = ports;
    // Closing one end brings the other back to waiting for us.
    let _ = (xen.close(near), xen.status(DomId::SELF, far), xen.bind_interdomain(DomId::SELF, far));
}

fn refused(xen: &dyn Hypercall) {
    for dom in [NOBODY, DOM0] {
        let _ = (xen.alloc_unbound(dom, DomId::SELF), xen.bind_interdomain(dom, BEYOND));
        let _ = (xen.status(dom, Port(0)), xen.reset(dom));
    }
    for port in [Port(0), BEYOND] {
        let _ = (xen.status(DomId::SELF, port), xen.send(port), xen.close(port), xen.unmask(port));
        let _ = (xen.bind_vcpu(port, V0), xen.bind_vcpu(port, V9), xen.set_priority(port, Priority(3)));
        let _ = xen.bind_interdomain(DomId::SELF, port);
    }
    for (virq, vcpu) in [(Virq(24), V0), (Virq(24), V9), (Virq::TIMER, V9), (Virq::DOM_EXC, V9)] {
        let _ = xen.bind_virq(virq, vcpu);
    }
    let _ = (xen.bind_ipi(V9), xen.bind_pirq(Pirq(1 << 20), 0), xen.reset_cont(DomId::SELF));
    let _ = (xen.expand_array(NO_FRAME), xen.init_control(V9, NO_FRAME, 0));
    let _ = (xen.init_control(V0, NO_FRAME, 0), xen.init_control(V0, NO_FRAME, 4));
    let _ = xen.event_channel_op(Op(15), &mut [0; 24]);
}

/// Polls, timers, vCPUs, upcalls.
fn around(xen: &dyn Hypercall, ports: [Port; 5], pv: bool) {
    let [_, far, ..] = ports;
    let _ = (xen.poll(&[Port(0)], None), xen.poll(&[BEYOND], None), xen.poll(&[far; 129], None));
    let _ = xen.set_timer_op(None);
    for vcpu in [V0, V9] {
        let _ = (xen.set_periodic_timer(vcpu, 999_999), xen.stop_periodic_timer(vcpu));
        let _ = (xen.stop_singleshot_timer(vcpu), xen.register_vcpu_info(vcpu, NO_FRAME, 0));
        let _ = xen.set_upcall_vector(vcpu, 15);
    }
    let _ = (xen.set_upcall_vector(V9, 0xf3), xen.set_singleshot_timer(V9, 0));
    let _ = xen.hvm_param(HvmParam::CALLBACK_IRQ);
    if pv {
        // Whether a PVH guest has PIRQs is the embedder's to say.
        let _ = (xen.pirq_status(Pirq(1 << 20)), xen.pirq_eoi(Pirq(1 << 20)));
    }
}
