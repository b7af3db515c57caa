// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest against a page that the test plays Xen on.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::args::{BindVcpu, Status, Unmask};
use evtchn_abi::{DomId, Errno, Layout, Op, Port, VcpuId};
use evtchn_guest::{Hypercall, Scan, SelfNotify, TwoLevel, Vcpu};
use evtchn_sync::{HeapPage, Page};

const V0: VcpuId = VcpuId(0);
const V1: VcpuId = VcpuId(1);

type Guest = TwoLevel<Arc<HeapPage>, Box<[Vcpu]>>;

fn guest(layout: &'static Layout, self_notify: SelfNotify) -> Guest {
    let vcpus = (0..2).map(|_| Vcpu::new()).collect();
    TwoLevel::new(Arc::new(HeapPage::new()), layout, self_notify, vcpus)
}

fn local() -> Guest {
    guest(&Layout::X86_64, SelfNotify::Local)
}

/// Sets a bit of a byte array; the layouts are little-endian, so words of any width agree.
fn set(page: &HeapPage, array: usize, bit: u32) {
    page.u8(array + bit as usize / 8).unwrap().fetch_or(1 << (bit % 8), SeqCst);
}

/// Raises a port as Xen does when nothing is masked.
fn raise(guest: &Guest, layout: &Layout, vcpu: VcpuId, port: Port) {
    let info = layout.vcpu_info(vcpu.0).unwrap();
    set(guest.page(), layout.pending, port.0);
    set(guest.page(), info + layout.pending_sel, port.0 / layout.word_bits);
    guest.page().u8(info).unwrap().store(1, SeqCst);
}

fn seen(guest: &Guest, vcpu: VcpuId) -> Vec<u32> {
    let mut ports = Vec::new();
    guest.upcall(vcpu, |port| ports.push(port.0));
    ports
}

/// Notes the operations and the ports that they name.
#[derive(Default)]
struct Xen(RefCell<Vec<(Op, Port)>>, Option<Errno>);

impl Hypercall for Xen {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        let port = match op {
            Op::UNMASK => Unmask::from_bytes(arg.try_into().unwrap()).port,
            Op::BIND_VCPU => BindVcpu::from_bytes(arg.try_into().unwrap()).port,
            _ => Port(0),
        };
        self.0.borrow_mut().push((op, port));
        if let (Op::BIND_IPI, Some(last)) = (op, arg.len().checked_sub(4)) {
            arg[last..].copy_from_slice(&9u32.to_le_bytes());
        }
        if op == Op::BIND_VCPU { self.1.map_or(Ok(()), Err) } else { Ok(()) }
    }
}

impl Xen {
    fn calls(&self) -> Vec<(Op, Port)> {
        self.0.take()
    }
}

#[test]
fn nothing_pending_is_idle() {
    let guest = local();
    assert!(!guest.upcall(V0, |_| panic!("no event")));
    assert_eq!(guest.upcall_while(V0, |_| ControlFlow::Continue(())), Scan::Idle);
}

#[test]
fn an_upcall_without_events_is_taken() {
    let guest = local();
    guest.page().u8(0).unwrap().store(1, SeqCst);
    assert!(guest.upcall(V0, |_| panic!("no event")));
    assert!(!guest.upcall_is_pending(V0));
}

#[test]
fn events_of_both_widths_are_found_and_cleared() {
    for layout in [&Layout::X86_64, &Layout::X86_32] {
        let guest = guest(layout, SelfNotify::Local);
        let ports = [1, 31, 32, 63, 64, layout.nr_channels() - 1];
        for port in ports.map(Port) {
            guest.bind_to_vcpu(port, V1);
            raise(&guest, layout, V1, port);
        }
        assert_eq!(seen(&guest, V1), ports);
        assert!(ports.iter().all(|&port| !guest.is_pending(Port(port))));
        assert_eq!(seen(&guest, V1), []);
    }
}

#[test]
fn masked_and_foreign_ports_are_left_pending() {
    let guest = local();
    for (port, vcpu) in [(5, V0), (6, V0), (7, V1)] {
        guest.bind_to_vcpu(Port(port), vcpu);
        raise(&guest, &Layout::X86_64, V0, Port(port));
    }
    raise(&guest, &Layout::X86_64, V0, Port(8));
    guest.mask(Port(6));
    assert_eq!(seen(&guest, V0), [5]);
    assert!([6, 7, 8].map(Port).iter().all(|&port| guest.is_pending(port)));
}

#[test]
fn an_event_that_arrives_during_the_handler_is_handled_again() {
    let guest = local();
    guest.bind_to_vcpu(Port(5), V0);
    raise(&guest, &Layout::X86_64, V0, Port(5));
    let mut count = 0;
    guest.upcall(V0, |port| {
        count += 1;
        if count < 3 {
            raise(&guest, &Layout::X86_64, V0, port);
        }
    });
    assert_eq!(count, 3);
}

#[test]
fn a_handler_that_masks_gets_the_next_event_at_unmask() {
    let guest = local();
    guest.bind_to_vcpu(Port(5), V0);
    raise(&guest, &Layout::X86_64, V0, Port(5));
    guest.upcall(V0, |port| {
        guest.mask(port);
        raise(&guest, &Layout::X86_64, V0, port);
    });
    assert!(guest.is_pending(Port(5)));
    assert_eq!(guest.unmask(Port(5), V0, &Xen::default()), Ok(true));
    assert_eq!(seen(&guest, V0), [5]);
    assert_eq!(guest.unmask(Port(5), V0, &Xen::default()), Ok(false));
}

#[test]
fn a_busy_low_port_does_not_starve_the_others() {
    for others in [[6, 40], [70, 4000], [3, 4095]] {
        let guest = local();
        for port in others.into_iter().chain([5]).map(Port) {
            guest.bind_to_vcpu(port, V0);
            raise(&guest, &Layout::X86_64, V0, port);
        }
        let mut order = Vec::new();
        guest.upcall_while(V0, |port| {
            order.push(port.0);
            raise(&guest, &Layout::X86_64, V0, Port(5)); // never stops
            if order.len() < 6 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert!(others.iter().all(|port| order.contains(port)), "{order:?}");
    }
}

#[test]
fn a_scan_begins_after_the_last_port_and_goes_round() {
    let guest = local();
    for port in [10, 20, 100].map(Port) {
        guest.bind_to_vcpu(port, V0);
    }
    raise(&guest, &Layout::X86_64, V0, Port(10));
    assert_eq!(seen(&guest, V0), [10]);
    for port in [10, 20, 100].map(Port) {
        raise(&guest, &Layout::X86_64, V0, port);
    }
    assert_eq!(seen(&guest, V0), [20, 100, 10]);
}

#[test]
fn what_a_stopped_scan_leaves_is_found_by_the_next() {
    let guest = local();
    let ports = [1, 2, 64, 200, 4095];
    for port in ports.map(Port) {
        guest.bind_to_vcpu(port, V0);
        raise(&guest, &Layout::X86_64, V0, port);
    }
    let mut order = Vec::new();
    let mut step = |port: Port| {
        order.push(port.0);
        ControlFlow::Break(())
    };
    for _ in ports {
        assert_eq!(guest.upcall_while(V0, &mut step), Scan::Stopped);
        assert!(guest.upcall_is_pending(V0));
    }
    assert_eq!(guest.upcall_while(V0, &mut step), Scan::Done);
    assert_eq!(order, ports);
}

#[test]
fn unmask_leaves_what_only_xen_can_do_to_xen() {
    let xen = Xen::default();
    let guest = guest(&Layout::X86_64, SelfNotify::Hypercall);
    guest.bind_to_vcpu(Port(5), V0);
    guest.mask(Port(5));
    assert_eq!(guest.unmask(Port(5), V0, &xen), Ok(false));
    assert!(!guest.is_masked(Port(5)));
    assert_eq!(xen.calls(), [], "nothing was pending");

    guest.mask(Port(5));
    guest.set_pending(Port(5));
    assert_eq!(guest.unmask(Port(5), V0, &xen), Ok(false));
    assert!(guest.is_masked(Port(5)), "masked again, for Xen to unmask");
    assert_eq!(xen.calls(), [(Op::UNMASK, Port(5))]);

    assert_eq!(guest.unmask(Port(5), V1, &xen), Ok(false));
    assert_eq!(xen.calls(), [(Op::UNMASK, Port(5))], "from another vCPU");
}

#[test]
fn a_port_in_use_is_moved_masked_and_unmasked_by_xen() {
    let xen = Xen::default();
    let guest = local();
    guest.bind_to_vcpu(Port(5), V0);
    assert_eq!(guest.move_to_vcpu(Port(5), V1, &xen), Ok(()));
    assert!(guest.is_bound_to(Port(5), V1) && !guest.is_bound_to(Port(5), V0));
    assert_eq!(xen.calls(), [(Op::BIND_VCPU, Port(5)), (Op::UNMASK, Port(5))]);

    guest.mask(Port(5));
    assert_eq!(guest.move_to_vcpu(Port(5), V0, &xen), Ok(()));
    assert_eq!(xen.calls(), [(Op::BIND_VCPU, Port(5))], "was masked, stays masked");
    assert!(guest.is_masked(Port(5)));

    let refusing = Xen(RefCell::default(), Some(Errno::EINVAL));
    assert_eq!(guest.move_to_vcpu(Port(5), V1, &refusing), Err(Errno::EINVAL));
    assert!(guest.is_bound_to(Port(5), V0), "where it was");
}

#[test]
fn ports_can_be_let_go() {
    let guest = local();
    guest.bind_to_vcpu(Port(5), V0);
    guest.bind_to_vcpu(Port(99), V0);
    guest.unbind(Port(5));
    assert!(!guest.is_bound_to(Port(5), V0) && guest.is_bound_to(Port(99), V0));
    guest.unbind_all(V0);
    assert!(!guest.is_bound_to(Port(99), V0));
}

#[test]
fn mask_all_masks_the_arrays_and_nothing_else() {
    for layout in [&Layout::X86_64, &Layout::X86_32] {
        let guest = guest(layout, SelfNotify::Local);
        guest.mask_all();
        let end = layout.mask + layout.nr_channels() as usize / 8;
        let is_set = |at: &usize| guest.page().u8(*at).unwrap().load(SeqCst) != 0;
        assert_eq!((0..4096).filter(is_set).collect::<Vec<_>>(), (layout.mask..end).collect::<Vec<_>>());
    }
}

#[test]
fn numbers_out_of_range_do_nothing() {
    let guest = guest(&Layout::X86_32, SelfNotify::Local);
    for port in [Port(1024), Port(u32::MAX)] {
        guest.bind_to_vcpu(port, V0);
        guest.set_pending(port);
        guest.clear_pending(port);
        assert!(guest.mask(port) && guest.is_masked(port) && !guest.is_pending(port));
        assert!(!guest.is_bound_to(port, V0));
    }
    assert!(!guest.upcall(VcpuId(99), |_| panic!("no such vCPU")));
    assert!((0..4096).all(|at| guest.page().u8(at).unwrap().load(SeqCst) == 0));
}

#[test]
fn typed_operations_pass_their_arguments_and_results() {
    let xen = Xen::default();
    assert_eq!(xen.bind_ipi(V1), Ok(Port(9)));
    assert_eq!(xen.close(Port(3)), Ok(()));
    let status: Status = xen.status(DomId::SELF, Port(4)).unwrap();
    assert_eq!(status.port, Port(4));
    let ops: Vec<_> = xen.calls().into_iter().map(|(op, _)| op).collect();
    assert_eq!(ops, [Op::BIND_IPI, Op::CLOSE, Op::STATUS]);
}
