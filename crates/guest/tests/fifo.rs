// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest with the FIFO ABI against the engine, and against memory that no Xen would leave.
#![allow(missing_docs)]

mod common;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering::SeqCst;

use common::{CONTROL, Env, FifoGuest, GUEST, V0, V1, array_gfn};
use evtchn_abi::fifo::{BUSY, ControlBlock, LINKED, MASKED, PENDING};
use evtchn_abi::{DomId, Errno, EventWord, Gfn, Port, Priority, VcpuId};
use evtchn_guest::{Hypercall, Scan};
use evtchn_sync::{PAGE_SIZE, Page};

/// Connections whose events go to unmasked ports: the sender's ports and the guest's.
fn connect<const N: usize>(env: &Env, guest: &FifoGuest) -> ([Port; N], [Port; N]) {
    let pairs = [(); N].map(|()| env.connect());
    pairs.iter().for_each(|(_, far)| guest.unmask(*far, env).unwrap());
    (pairs.map(|(near, _)| near), pairs.map(|(_, far)| far))
}

fn seen(guest: &FifoGuest, vcpu: VcpuId) -> Vec<Port> {
    let mut ports = Vec::new();
    guest.upcall(vcpu, |port| ports.push(port));
    ports
}

/// Writes a port's event word, as only a defect would.
fn damage(env: &Env, port: Port, word: u32) {
    let page = env.engine.hooks().frame(GUEST, array_gfn(0));
    page.u32(port.0 as usize * 4).unwrap().store(word, SeqCst);
}

/// Writes a queue's head and announces it, as only a defect would.
fn damage_head(env: &Env, queue: Priority, head: u32) {
    let block = env.engine.hooks().frame(GUEST, CONTROL);
    block.u32(ControlBlock::head(queue).unwrap()).unwrap().store(head, SeqCst);
    block.u32(ControlBlock::READY).unwrap().fetch_or(queue.ready_bit(), SeqCst);
    env.shared.u8(0).unwrap().store(1, SeqCst);
}

#[test]
fn events_of_one_priority_come_in_the_order_of_sending() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (near, far) = connect::<4>(&env, &guest);
    for at in [2, 0, 3, 0, 1] {
        env.send(near[at]);
    }
    assert_eq!(seen(&guest, V0), [far[2], far[0], far[3], far[1]], "merged where it was");
    assert_eq!(seen(&guest, V0), []);
    assert!(far.iter().all(|port| guest.event_word(*port) == Some(EventWord(0))));
}

#[test]
fn a_higher_priority_goes_first_even_if_it_comes_during_a_handler() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (near, far) = connect::<3>(&env, &guest);
    env.set_priority(far[2], Priority::HIGHEST).unwrap();
    env.send(near[0]);
    env.send(near[1]);
    let mut order = Vec::new();
    guest.upcall(V0, |port| {
        order.push(port);
        if port == far[0] {
            env.send(near[2]);
        }
    });
    assert_eq!(order, [far[0], far[2], far[1]]);
}

#[test]
fn new_ports_are_masked_and_unmasking_needs_xen_only_for_an_event() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (near, far) = env.connect();
    assert!(guest.is_masked(far));
    env.take_calls();
    guest.unmask(far, &env).unwrap();
    assert_eq!((guest.is_masked(far), env.take_calls()), (false, 0));

    assert!(!guest.mask(far) && guest.mask(far));
    env.send(near);
    assert!(guest.is_pending(far) && !guest.upcall_is_pending(V0));
    guest.unmask(far, &env).unwrap();
    assert_eq!((guest.is_masked(far), env.take_calls()), (false, 1));
    assert_eq!(seen(&guest, V0), [far]);
}

#[test]
fn a_port_that_is_masked_in_its_queue_keeps_its_event() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (near, far) = connect::<2>(&env, &guest);
    near.iter().for_each(|port| env.send(*port));
    guest.mask(far[0]);
    assert_eq!(seen(&guest, V0), [far[1]]);
    assert_eq!(guest.event_word(far[0]), Some(EventWord(PENDING | MASKED)));
    guest.unmask(far[0], &env).unwrap();
    assert_eq!(seen(&guest, V0), [far[0]]);
}

#[test]
fn an_event_that_was_taken_back_is_not_handled() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (near, far) = connect::<2>(&env, &guest);
    near.iter().for_each(|port| env.send(*port));
    assert!(guest.clear_pending(far[0]) && !guest.clear_pending(far[0]));
    assert_eq!(seen(&guest, V0), [far[1]]);
}

#[test]
fn a_guest_raises_its_own_port_by_unmasking_it() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (_, far) = env.connect();
    assert!(guest.mask(far) && !guest.set_pending(far));
    guest.unmask(far, &env).unwrap();
    assert_eq!(seen(&guest, V0), [far]);
}

#[test]
fn an_unmask_that_finds_the_word_busy_for_ever_leaves_it_to_xen() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (_, far) = env.connect();
    damage(&env, far, MASKED | BUSY);
    env.take_calls();
    guest.unmask(far, &env).unwrap();
    assert_eq!((guest.is_masked(far), env.take_calls()), (false, 1));
}

#[test]
fn what_a_stopped_upcall_leaves_is_handled_by_the_next() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (near, far) = connect::<4>(&env, &guest);
    env.set_priority(far[3], Priority::LOWEST).unwrap();
    near.iter().for_each(|port| env.send(*port));
    let mut order = Vec::new();
    let mut step = |port| {
        order.push(port);
        ControlFlow::Break(())
    };
    for _ in far {
        assert_eq!(guest.upcall_while(V0, &mut step), Scan::Stopped);
        assert!(guest.upcall_is_pending(V0));
    }
    assert_eq!(guest.upcall_while(V0, &mut step), Scan::Done);
    assert_eq!(guest.upcall_while(V0, &mut step), Scan::Idle);
    assert_eq!(order, far);
}

#[test]
fn an_event_that_arrives_during_its_handler_is_handled_again() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let ([near], [far]) = connect(&env, &guest);
    env.send(near);
    let mut count = 0;
    guest.upcall(V0, |port| {
        assert_eq!(port, far);
        count += 1;
        if count < 3 {
            env.send(near);
        }
    });
    assert_eq!(count, 3);
}

#[test]
fn a_moved_port_is_handled_by_its_new_vcpu() {
    let env = Env::new(2, 1023);
    let guest = env.fifo(2, 1);
    let ([near], [far]) = connect(&env, &guest);
    guest.move_to_vcpu(far, V1, &env).unwrap();
    env.send(near);
    assert_eq!((seen(&guest, V0), seen(&guest, V1)), (vec![], vec![far]));
    assert_eq!(guest.move_to_vcpu(far, VcpuId(9), &env), Err(Errno::ENOENT));
    assert!(!guest.is_masked(far), "unmasked as before");
}

#[test]
fn an_event_that_is_queued_when_its_port_moves_is_handled_where_it_is() {
    let env = Env::new(2, 1023);
    let guest = env.fifo(2, 1);
    let ([near], [far]) = connect(&env, &guest);
    env.send(near);
    guest.move_to_vcpu(far, V1, &env).unwrap();
    assert_eq!((seen(&guest, V1), seen(&guest, V0)), (vec![], vec![far]));
}

#[test]
fn a_drain_handles_nothing_and_names_what_is_left() {
    let env = Env::new(2, 1023);
    let guest = env.fifo(2, 1);
    let (near, far) = connect::<3>(&env, &guest);
    near.iter().for_each(|port| env.send(*port));
    guest.mask(far[1]);
    guest.clear_pending(far[2]);
    far.iter().for_each(|port| guest.move_to_vcpu(*port, V1, &env).unwrap());
    let mut left = Vec::new();
    guest.drain(V0, |port| left.push(port));
    assert_eq!(left, [far[0]]);
    let words = far.map(|port| guest.event_word(port).unwrap());
    assert_eq!(words, [EventWord(PENDING), EventWord(PENDING | MASKED), EventWord(0)]);

    left.iter().for_each(|port| Hypercall::unmask(&env, *port).unwrap());
    assert_eq!(seen(&guest, V1), [far[0]], "put into its new queue");
    assert_eq!(seen(&guest, V0), []);
}

#[test]
fn a_drained_port_can_be_closed_and_given_out_again() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let ([near], [far]) = connect(&env, &guest);
    env.send(near);
    Hypercall::close(&env, far).unwrap();
    let next = env.alloc_unbound(DomId::SELF, DomId::SELF).unwrap();
    assert_ne!(next, far, "still in its queue");
    guest.drain(V0, |port| panic!("port {port} has no event any more"));
    assert_eq!(env.alloc_unbound(DomId::SELF, DomId::SELF), Ok(far));
}

#[test]
fn a_closed_port_in_a_queue_is_passed_over() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let (near, far) = connect::<2>(&env, &guest);
    near.iter().for_each(|port| env.send(*port));
    Hypercall::close(&env, far[0]).unwrap();
    assert_eq!(seen(&guest, V0), [far[1]]);
}

#[test]
fn the_array_grows_to_what_is_asked_and_no_further() {
    let env = Env::new(1, 6000);
    let guest = env.fresh_fifo(1, 3);
    guest.init_vcpu(V0, CONTROL, &env).unwrap();
    assert_eq!(guest.nr_channels(), 0);
    assert!(guest.is_masked(Port(5)) && guest.mask(Port(5)) && guest.event_word(Port(5)).is_none());
    guest.cover(Port(1024), array_gfn, &env).unwrap();
    assert_eq!(guest.nr_channels(), 2048);
    env.take_calls();
    guest.cover(Port(2047), array_gfn, &env).unwrap();
    assert_eq!((guest.nr_channels(), env.take_calls()), (2048, 0));
    assert_eq!(guest.cover(Port(3072), array_gfn, &env), Err(Errno::ENOSPC), "there are three pages");
    assert_eq!(guest.nr_channels(), 3072);
    assert_eq!(guest.cover(Port(u32::MAX), array_gfn, &env), Err(Errno::ENOSPC));
    assert!((0..3072).map(Port).all(|port| guest.event_word(port) == Some(EventWord(MASKED))));
}

#[test]
fn a_page_that_xen_refuses_is_not_used() {
    let env = Env::new(1, 6000);
    let guest = env.fifo(1, 1);
    let more = env.fresh_fifo(1, 2);
    assert_eq!(more.add_page(Gfn(0xdead), &env), Err(Errno::EINVAL));
    assert_eq!((more.nr_channels(), guest.nr_channels()), (0, 1024));
    assert_eq!(guest.add_page(array_gfn(1), &env), Err(Errno::ENOSPC), "no handle for it");
}

#[test]
fn an_event_that_came_before_its_page_is_handled_after() {
    let env = Env::new(1, 1023);
    let guest = env.fresh_fifo(1, 1);
    guest.init_vcpu(V0, CONTROL, &env).unwrap();
    let (near, far) = env.connect();
    env.send(near);
    assert_eq!(seen(&guest, V0), []);
    guest.add_page(array_gfn(0), &env).unwrap();
    guest.unmask(far, &env).unwrap();
    assert_eq!(seen(&guest, V0), [far]);
}

#[test]
fn a_control_block_is_given_once_and_not_touched_again() {
    let env = Env::new(2, 1023);
    let guest = env.fifo(1, 1);
    let ([near], [far]) = connect(&env, &guest);
    env.send(near);
    assert_eq!(guest.init_vcpu(V0, CONTROL, &env), Err(Errno::EINVAL));
    assert_eq!(guest.init_vcpu(V1, CONTROL, &env), Err(Errno::EINVAL), "the guest keeps no such vCPU");
    assert_eq!(seen(&guest, V0), [far]);
}

#[test]
fn a_control_block_that_xen_refuses_can_be_given_again() {
    let env = Env::new(1, 1023);
    let guest = env.fresh_fifo(1, 1);
    assert_eq!(guest.init_vcpu(V0, Gfn(0xdead), &env), Err(Errno::EINVAL));
    assert_eq!(guest.init_vcpu(V0, CONTROL, &env), Ok(()));
}

#[test]
fn after_a_reset_the_same_pages_are_given_again() {
    let env = Env::new(2, 1023);
    let guest = env.fifo(2, 1);
    let ([near], [_]) = connect(&env, &guest);
    env.send(near);
    env.reset(DomId::SELF).unwrap();
    guest.forget_all();
    assert_eq!(guest.nr_channels(), 0);
    [V0, V1].into_iter().for_each(|vcpu| guest.init_vcpu(vcpu, CONTROL, &env).unwrap());
    guest.add_page(array_gfn(0), &env).unwrap();
    let ([near], [far]) = connect(&env, &guest);
    env.send(near);
    assert_eq!(seen(&guest, V0), [far]);
}

#[test]
fn links_in_a_circle_end() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    damage(&env, Port(5), PENDING | LINKED | 6);
    damage(&env, Port(6), PENDING | LINKED | 5);
    damage(&env, Port(7), PENDING | LINKED | 7);
    damage_head(&env, Priority::DEFAULT, 5);
    damage_head(&env, Priority::LOWEST, 7);
    assert_eq!(seen(&guest, V0), [5, 6, 7].map(Port));
    assert_eq!(seen(&guest, V0), []);
}

#[test]
fn links_to_nowhere_end_the_queue_and_no_more() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    let ([near], [far]) = connect(&env, &guest);
    env.set_priority(far, Priority::LOWEST).unwrap();
    for beyond in [1024, 0x1_ffff] {
        damage(&env, Port(5), PENDING | LINKED | beyond);
        damage_head(&env, Priority::HIGHEST, 5);
        damage_head(&env, Priority::DEFAULT, beyond);
        env.send(near);
        assert_eq!(seen(&guest, V0), [Port(5), far], "link {beyond}");
    }
    damage(&env, Port(9), PENDING);
    damage_head(&env, Priority::DEFAULT, 9);
    // On no queue, but pending, and Xen points at it: handled, as an event that is passed over is lost.
    assert_eq!(seen(&guest, V0), [Port(9)]);
    assert_eq!(seen(&guest, V0), []);
}

#[test]
fn numbers_and_pages_out_of_range_do_nothing() {
    let env = Env::new(1, 1023);
    let guest = env.fifo(1, 1);
    for port in [Port(1024), Port(131_072), Port(u32::MAX)] {
        assert!(guest.mask(port) && guest.is_masked(port) && !guest.is_pending(port));
        assert!(!guest.set_pending(port) && !guest.clear_pending(port));
        assert_eq!(guest.unmask(port, &env), Err(Errno::EINVAL));
    }
    assert!(!guest.upcall(VcpuId(99), |_| panic!("no such vCPU")));
    guest.drain(VcpuId(99), |_| panic!("no such vCPU"));
    let ready_beyond = u32::MAX << 16;
    env.engine.hooks().frame(GUEST, CONTROL).u32(0).unwrap().store(ready_beyond, SeqCst);
    env.shared.u8(0).unwrap().store(1, SeqCst);
    assert_eq!(seen(&guest, V0), []);
}

#[test]
fn a_block_that_does_not_fit_its_page_is_refused_before_xen_is_asked() {
    use evtchn_guest::{Fifo, FifoVcpu};
    let env = Env::new(1, 1023);
    for offset in [PAGE_SIZE - 64, PAGE_SIZE, usize::MAX - 3, 2] {
        let block = env.engine.hooks().frame(GUEST, CONTROL);
        let vcpus = [FifoVcpu::new(block.clone(), offset)];
        let guest = Fifo::new(block, &evtchn_abi::Layout::X86_64, vcpus, []);
        assert_eq!(guest.init_vcpu(V0, CONTROL, &env), Err(Errno::EINVAL), "offset {offset}");
    }
    assert_eq!(env.take_calls(), 0);
}
