// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest with the two-level ABI against a page that the test plays Xen on.
#![allow(missing_docs)]

mod common;

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use common::{V0, V1, seen};
use evtchn_abi::args::{BindVcpu, Unmask};
use evtchn_abi::{Errno, Layout, Op, Port, VcpuId};
use evtchn_guest::{Abi, Frames, Hypercall, Memory, Scan, TwoLevel, TwoLevelVcpu};
use evtchn_sync::{HeapPage, Page};

const BOTH: [&Layout; 2] = [&Layout::X86_64, &Layout::X86_32];

type Guest = TwoLevel<Frames<Arc<HeapPage>, [evtchn_guest::Frame<Arc<HeapPage>>; 0]>, [TwoLevelVcpu; 3]>;

fn guest(layout: &'static Layout) -> Guest {
    let memory = Frames::two_level(Arc::new(HeapPage::new()), layout);
    TwoLevel::new(memory, [const { TwoLevelVcpu::new() }; 3])
}

/// A guest whose vCPU 0 handles these ports.
fn wide<const N: usize>(ports: [u32; N]) -> Guest {
    let guest = guest(&Layout::X86_64);
    ports.into_iter().for_each(|port| guest.bind(Port(port), V0));
    guest
}

fn page(guest: &Guest) -> &HeapPage {
    guest.memory().shared_info()
}

/// Sets a bit of a byte array; the layouts are little-endian, so words of any width agree.
fn set(page: &HeapPage, array: usize, bit: u32) {
    page.u8(array + bit as usize / 8).unwrap().fetch_or(1 << (bit % 8), SeqCst);
}

/// Tells a vCPU of a port's word, as Xen does.
fn announce(guest: &Guest, vcpu: VcpuId, port: u32) {
    let layout = guest.memory().layout();
    let info = layout.vcpu_info(vcpu.0).unwrap();
    set(page(guest), info + layout.pending_sel, port / layout.word_bits);
    page(guest).u8(info).unwrap().store(1, SeqCst);
}

/// Raises a port as Xen does when nothing is masked.
fn raise(guest: &Guest, vcpu: VcpuId, port: u32) {
    set(page(guest), guest.memory().layout().pending, port);
    announce(guest, vcpu, port);
}

fn raise_all(guest: &Guest, vcpu: VcpuId, ports: &[u32]) {
    ports.iter().for_each(|&port| raise(guest, vcpu, port));
}

/// Handles one event; which.
fn one(guest: &Guest, vcpu: VcpuId) -> Option<u32> {
    let mut event = None;
    let _ = guest.upcall_while(vcpu, |port| {
        event = Some(port.0);
        ControlFlow::Break(())
    });
    event
}

fn numbers(guest: &Guest, vcpu: VcpuId) -> Vec<u32> {
    seen(guest, vcpu).into_iter().map(|port| port.0).collect()
}

/// Notes the operations and the ports that they name.
#[derive(Default)]
struct Xen {
    calls: RefCell<Vec<(Op, Port)>>,
    bind_vcpu: Option<Errno>,
}

impl Hypercall for Xen {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        let port = match op {
            Op::UNMASK => Unmask::from_bytes(arg.try_into().unwrap()).port,
            _ => BindVcpu::from_bytes(arg.try_into().unwrap()).port,
        };
        self.calls.borrow_mut().push((op, port));
        if op == Op::BIND_VCPU { self.bind_vcpu.map_or(Ok(()), Err) } else { Ok(()) }
    }
}

impl Xen {
    fn calls(&self) -> Vec<(Op, Port)> {
        self.calls.take()
    }
}

#[test]
fn events_of_both_widths_are_found_and_cleared() {
    for layout in BOTH {
        let guest = guest(layout);
        let ports = [1, 31, 32, 63, 64, layout.nr_channels() - 1];
        for port in ports {
            guest.bind(Port(port), V1);
            raise(&guest, V1, port);
        }
        assert_eq!(numbers(&guest, V1), ports);
        assert!(ports.iter().all(|&port| !guest.is_pending(Port(port))));
        assert_eq!(numbers(&guest, V1), []);
    }
}

#[test]
fn masked_and_foreign_ports_are_left_pending() {
    let guest = wide([5, 6]);
    guest.bind(Port(7), V1);
    (5..9).for_each(|port| raise(&guest, V0, port));
    guest.mask(Port(6));
    assert_eq!(numbers(&guest, V0), [5]);
    assert!([6, 7, 8].map(Port).iter().all(|&port| guest.is_pending(port)));
}

#[test]
fn the_events_of_a_word_are_taken_at_once() {
    let guest = wide([5, 6, 70]);
    raise_all(&guest, V0, &[5, 6, 70]);
    let mut pending = Vec::new();
    guest.upcall(V0, |port| {
        pending.push((port.0, [5, 6, 70].map(|port| guest.is_pending(Port(port)))));
        if port == Port(5) {
            guest.mask(Port(6)); // too late: it comes once more
        }
    });
    let [none, other] = [[false; 3], [false, false, true]];
    assert_eq!(pending, [(5, other), (6, other), (70, none)]);
}

#[test]
fn a_busy_low_port_does_not_starve_the_others() {
    for others in [[6, 40], [70, 4000], [3, 4095]] {
        let guest = wide([others[0], others[1], 5]);
        raise_all(&guest, V0, &[others[0], others[1], 5]);
        let mut order = Vec::new();
        let _ = guest.upcall_while(V0, |port| {
            order.push(port.0);
            raise(&guest, V0, 5); // never stops
            if order.len() < 6 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert!(others.iter().all(|port| order.contains(port)), "{order:?}");
    }
}

#[test]
fn a_scan_begins_after_the_last_port_and_goes_round() {
    let guest = wide([10, 20, 100]);
    raise(&guest, V0, 10);
    assert_eq!(numbers(&guest, V0), [10]);
    raise_all(&guest, V0, &[10, 20, 100]);
    assert_eq!(numbers(&guest, V0), [20, 100, 10]);
}

#[test]
fn what_a_stopped_scan_leaves_is_found_by_the_next_in_its_order() {
    let ports = [1, 2, 63, 64, 200, 4095];
    let guest = wide(ports);
    raise_all(&guest, V0, &ports);
    assert_eq!(ports.map(|_| one(&guest, V0)), ports.map(Some));
    assert_eq!(guest.upcall_while(V0, |_| panic!("no event")), Scan::Done);
    assert!(!guest.upcall_is_pending(V0));
}

#[test]
fn what_a_stopped_scan_has_taken_is_not_pending_any_more() {
    let guest = wide([5, 6, 7]);
    raise_all(&guest, V0, &[5, 6, 7]);
    assert_eq!(one(&guest, V0), Some(5));
    assert!((5..8).map(Port).all(|port| !guest.is_pending(port)), "they are kept");
    // One that comes meanwhile is a new one.
    raise(&guest, V0, 6);
    guest.unbind(Port(7));
    assert_eq!(numbers(&guest, V0), [6, 6], "7 was let go");
}

#[test]
fn what_was_taken_does_not_come_to_the_ports_next_owner() {
    let guest = wide([5, 6, 7]);
    raise_all(&guest, V0, &[5, 6, 7]);
    assert_eq!(one(&guest, V0), Some(5));
    // Between two upcalls.
    guest.unbind(Port(6));
    guest.bind(Port(6), V0);
    assert_eq!(numbers(&guest, V0), [7]);
    // Within one.
    raise_all(&guest, V0, &[5, 6, 7]);
    let mut seen = Vec::new();
    guest.upcall(V0, |port| {
        seen.push(port.0);
        if port == Port(5) {
            guest.unbind(Port(6));
            guest.bind(Port(6), V0);
        }
    });
    assert_eq!(seen, [5, 7]);
    raise(&guest, V0, 6);
    assert_eq!(numbers(&guest, V0), [6]);
}

#[test]
fn unmask_leaves_what_only_xen_can_do_to_xen() {
    let (xen, guest) = (Xen::default(), wide([5]));
    guest.mask(Port(5));
    assert_eq!(guest.unmask(Port(5), &xen), Ok(()));
    assert_eq!((guest.is_masked(Port(5)), xen.calls()), (false, vec![]), "nothing was pending");

    guest.mask(Port(5));
    guest.set_pending(Port(5));
    assert_eq!(guest.unmask(Port(5), &xen), Ok(()));
    assert!(guest.is_masked(Port(5)), "still, for Xen to unmask");
    assert_eq!(xen.calls(), [(Op::UNMASK, Port(5))]);
}

#[test]
fn a_vcpu_announces_to_itself_what_it_unmasks() {
    for layout in BOTH {
        let guest = guest(layout);
        for (vcpu, port) in [(V0, 5), (V1, 40), (V1, layout.nr_channels() - 1)] {
            guest.bind(Port(port), vcpu);
            guest.mask(Port(port));
            assert!(!guest.unmask_here(Port(port), vcpu), "nothing was pending");
            guest.mask(Port(port));
            guest.set_pending(Port(port));
            assert!(guest.unmask_here(Port(port), vcpu) && !guest.is_masked(Port(port)));
            assert_eq!(numbers(&guest, vcpu), [port]);
        }
        assert!(!guest.unmask_here(Port(4096), V0));
    }
}

#[test]
fn a_port_in_use_is_moved_masked_and_unmasked_by_xen() {
    let (xen, guest) = (Xen::default(), wide([5]));
    assert_eq!(guest.move_to_vcpu(Port(5), V1, &xen), Ok(()));
    assert!(guest.is_bound_to(Port(5), V1) && !guest.is_bound_to(Port(5), V0));
    assert_eq!(xen.calls(), [(Op::BIND_VCPU, Port(5)), (Op::UNMASK, Port(5))]);

    guest.mask(Port(5));
    assert_eq!(guest.move_to_vcpu(Port(5), V0, &xen), Ok(()));
    assert_eq!(xen.calls(), [(Op::BIND_VCPU, Port(5))], "was masked, stays masked");
    assert!(guest.is_masked(Port(5)));

    let refusing = Xen { bind_vcpu: Some(Errno::EINVAL), ..Xen::default() };
    assert_eq!(guest.move_to_vcpu(Port(5), V1, &refusing), Err(Errno::EINVAL));
    assert!(guest.is_bound_to(Port(5), V0), "where it was");
}

#[test]
fn an_event_that_xen_announces_late_is_taken_by_the_vcpu_that_had_the_port() {
    let guest = wide([5]);
    guest.bind(Port(5), V1);
    raise(&guest, V0, 5); // on behalf of a sender that had looked before the move
    assert_eq!((numbers(&guest, V1), numbers(&guest, V0)), (vec![], vec![5]));
    // Also after two moves.
    guest.bind(Port(5), VcpuId(2));
    raise(&guest, V0, 5);
    assert_eq!(numbers(&guest, V0), [5]);
}

#[test]
fn an_event_that_the_new_vcpu_is_told_of_is_not_taken_by_the_old() {
    let guest = wide([5, 6]);
    guest.bind(Port(5), V1);
    raise(&guest, V1, 5);
    raise(&guest, V0, 6); // in the same word
    assert_eq!((numbers(&guest, V0), numbers(&guest, V1)), (vec![6], vec![5]));
    // It is told of another word: of this one nobody else knows.
    announce(&guest, V1, 70);
    raise(&guest, V0, 5);
    assert_eq!((numbers(&guest, V0), numbers(&guest, V1)), (vec![5], vec![]));
}

#[test]
fn a_vcpu_takes_no_stray_of_a_port_that_was_never_its_own_or_is_let_go() {
    let guest = wide([5]);
    guest.bind(Port(6), V1);
    guest.unbind(Port(5));
    guest.bind(Port(5), V1);
    raise_all(&guest, V0, &[5, 6]);
    assert_eq!(numbers(&guest, V0), []);
    // One that comes back to it is its own.
    guest.bind(Port(5), V0);
    guest.bind(Port(5), V1);
    guest.bind(Port(5), V0);
    raise(&guest, V0, 5);
    assert_eq!(numbers(&guest, V0), [5]);
}

#[test]
fn an_offline_vcpu_leaves_what_was_announced_to_it_alone() {
    let guest = wide([5, 6, 70]);
    [5, 6, 70].into_iter().for_each(|port| guest.bind(Port(port), V1));
    raise_all(&guest, V0, &[5, 6, 70]); // late
    announce(&guest, V1, 70);
    guest.mask(Port(6));
    let mut left = Vec::new();
    guest.offline(V0, |port| left.push(port.0));
    assert_eq!(left, [5]);
    assert!(guest.is_pending(Port(6)) && guest.is_pending(Port(70)));
    assert_eq!(numbers(&guest, V1), [70]);
}

#[test]
fn ports_can_be_let_go() {
    let guest = wide([5, 99]);
    guest.unbind(Port(5));
    assert!(!guest.is_bound_to(Port(5), V0) && guest.is_bound_to(Port(99), V0));
    guest.offline(V0, |_| panic!("no event"));
    assert!(guest.is_bound_to(Port(99), V0), "until it is moved");
    assert!(!guest.is_bound_to(Port(4096), V0) && !guest.is_bound_to(Port(5), VcpuId(3)));
}

#[test]
fn a_start_masks_the_arrays_and_nothing_else() {
    for layout in BOTH {
        let guest = guest(layout);
        guest.start();
        let end = layout.mask + layout.nr_channels() as usize / 8;
        let is_set = |at: &usize| page(&guest).u8(*at).unwrap().load(SeqCst) != 0;
        assert_eq!((0..4096).filter(is_set).collect::<Vec<_>>(), (layout.mask..end).collect::<Vec<_>>());
    }
}

#[test]
fn a_selector_with_every_bit_set_and_no_event_costs_nobody_anything() {
    for layout in BOTH {
        let guest = guest(layout);
        for at in 0..layout.word_size {
            page(&guest).u8(layout.pending_sel + at).unwrap().store(0xff, SeqCst);
        }
        page(&guest).u8(0).unwrap().store(1, SeqCst);
        assert_eq!(guest.upcall_while(V0, |_| panic!("no event")), Scan::Done);
        assert!((0..4096).all(|at| page(&guest).u8(at).unwrap().load(SeqCst) == 0));
    }
}
