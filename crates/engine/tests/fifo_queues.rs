// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIFO ABI's queues: order, priorities, ports that move between them.
#![allow(missing_docs)]

mod common;

use common::fifo::FifoEnv;
use common::{D1, D2, V0, delivered};
use evtchn_abi::fifo::{LINKED, MASKED, PENDING};
use evtchn_abi::{Port, VcpuId};

#[test]
fn events_come_in_the_order_in_which_they_were_sent_with_one_upcall() {
    let fifo = FifoEnv::new();
    let ports: [_; 5] = fifo.ports(0, 7);
    let order = [3, 0, 4, 1, 2].map(|index| ports[index]);
    fifo.env.calls();
    for (send, _) in order {
        fifo.send(send);
        fifo.send(send);
    }
    assert_eq!(fifo.env.calls(), [delivered(D1, 0)]);
    assert_eq!(fifo.guest.head(0, 7), order[0].1);
    assert_eq!(fifo.guest.drain(0), order.map(|(_, port)| port.0));
    assert!(order.iter().all(|&(_, port)| fifo.guest.word(port).0 == 0));
    assert!(fifo.guest.drain(0).is_empty());
}

#[test]
fn more_urgent_queues_come_first_whenever_they_were_filled() {
    let fifo = FifoEnv::new();
    let [(low, l)] = fifo.ports(0, 15);
    let [(middle, m), (other, o)] = fifo.ports(0, 7);
    let [(high, h)] = fifo.ports(0, 0);
    for send in [low, middle, other] {
        fifo.send(send);
    }
    assert_eq!(fifo.guest.ready(0), 1 << 15 | 1 << 7);
    let mut sent = false;
    let seen = fifo.guest.consume(0, |port| {
        if port == m && !core::mem::replace(&mut sent, true) {
            fifo.send(high);
        }
    });
    assert_eq!(seen, [m, h, o, l]);
}

#[test]
fn each_queue_has_its_own_ready_bit_and_each_vcpu_its_own_upcall() {
    let fifo = FifoEnv::new();
    let sends: Vec<_> = (0..16).map(|priority| fifo.ports::<1>(priority % 4, priority)[0].0).collect();
    fifo.env.calls();
    sends.into_iter().for_each(|send| fifo.send(send));
    assert_eq!([0, 1, 2, 3].map(|vcpu| fifo.guest.ready(vcpu)), [0x1111, 0x2222, 0x4444, 0x8888]);
    let upcalls = fifo.env.calls();
    assert_eq!(upcalls, [0, 1, 2, 3].map(|vcpu| delivered(D1, vcpu)), "one each");
}

#[test]
fn a_new_priority_counts_from_the_next_linking() {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(0, 7);
    fifo.send(send);
    fifo.env.engine.set_priority(D1, port, 2).unwrap();
    fifo.send(send);
    assert_eq!((fifo.guest.ready(0), fifo.guest.drain(0)), (1 << 7, vec![port.0]));
    fifo.send(send);
    assert_eq!((fifo.guest.ready(0), fifo.guest.drain(0)), (1 << 2, vec![port.0]));
}

#[test]
fn a_moved_port_stays_on_its_old_queue_until_it_is_taken_off() {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(0, 7);
    fifo.send(send);
    fifo.env.engine.bind_vcpu(D1, port, VcpuId(3)).unwrap();
    fifo.send(send);
    assert_eq!((fifo.guest.drain(3), fifo.guest.drain(0)), (vec![], vec![port.0]));
    fifo.send(send);
    assert_eq!((fifo.guest.drain(0), fifo.guest.drain(3)), (vec![], vec![port.0]));
}

#[test]
fn a_port_that_went_to_another_queue_is_no_tail_of_its_old_one() {
    for (vcpu, priority) in [(0, 3), (2, 7), (3, 15)] {
        let fifo = FifoEnv::new();
        let [(moving, m), (staying, s)] = fifo.ports(0, 7);
        fifo.send(moving);
        assert_eq!(fifo.guest.drain(0), [m.0]); // the queue's tail names it still
        fifo.env.engine.set_priority(D1, m, priority).unwrap();
        fifo.env.engine.bind_vcpu(D1, m, VcpuId(vcpu)).unwrap();
        fifo.send(moving); // linked, elsewhere
        fifo.send(staying);
        assert_eq!(fifo.guest.word(m).0, PENDING | LINKED, "nothing was put behind it");
        assert_eq!(fifo.guest.head(0, 7), s);
        let mut all = [fifo.guest.drain(0), if vcpu == 0 { vec![] } else { fifo.guest.drain(vcpu) }].concat();
        all.sort_unstable();
        assert_eq!(all, [m.0, s.0]);
    }
}

#[test]
fn a_port_that_comes_back_to_its_queue_is_its_head() {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(0, 7);
    for _ in 0..3 {
        fifo.send(send);
        assert_eq!((fifo.guest.word(port).0, fifo.guest.ready(0)), (PENDING | LINKED, 1 << 7));
        assert_eq!(fifo.guest.drain(0), [port.0]);
    }
}

#[test]
fn a_masked_port_is_passed_by_and_comes_back_with_its_unmask() {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(1, 7);
    fifo.send(send);
    fifo.guest.set_word(port, PENDING | LINKED | MASKED);
    let mut handled = vec![];
    assert_eq!(fifo.guest.consume(1, |port| handled.push(port)), [port]);
    assert!(handled.is_empty());
    fifo.guest.unmask(&fifo.env, port);
    fifo.guest.consume(1, |port| handled.push(port));
    assert_eq!(handled, [port]);
}

#[test]
fn a_send_links_what_a_drain_left_pending() {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(0, 7);
    fifo.guest.set_word(port, PENDING);
    fifo.env.engine.bind_vcpu(D1, port, VcpuId(1)).unwrap();
    fifo.send(send);
    assert_eq!(fifo.guest.drain(1), [port.0]);
}

#[test]
fn a_closed_port_is_passed_over_until_it_is_taken_off_its_queue() {
    let fifo = FifoEnv::new();
    let [(first, a), (second, b)] = fifo.ports(0, 7);
    fifo.send(first);
    fifo.send(second);
    fifo.env.engine.close(D1, a).unwrap();
    let next = fifo.env.engine.bind_ipi(D1, V0).unwrap();
    assert!(next > b);
    let mut handled = vec![];
    assert_eq!(fifo.guest.consume(0, |port| handled.push(port)), [a, b]);
    assert_eq!(handled, [b]);
    assert_eq!(fifo.env.engine.bind_ipi(D1, V0), Ok(a));
}

#[test]
fn a_reused_port_remembers_where_it_was_last() {
    let fifo = FifoEnv::new();
    let [(first, a), (second, b)] = fifo.ports(2, 3);
    fifo.send(first);
    assert_eq!(fifo.guest.drain(2), [a.0]);
    fifo.env.engine.close(D1, a).unwrap();
    let (reused, again) = fifo.env.pair(D2, D1);
    assert_eq!(again, a);
    fifo.send(reused); // on vCPU 0, priority 7 now
    fifo.send(second);
    assert_eq!(fifo.guest.word(a).0, PENDING | LINKED);
    assert_eq!((fifo.guest.drain(2), fifo.guest.drain(0)), (vec![b.0], vec![a.0]));
}

#[test]
fn many_ports_on_many_pages_keep_their_order() {
    let fifo = FifoEnv::new();
    let sends: Vec<_> = (0..1010).map(|_| fifo.ports::<1>(3, 7)[0]).collect();
    let order = |step: usize| (0..sends.len()).map(move |index| index * step % 1010);
    for step in [1, 7, 333] {
        order(step).for_each(|index| fifo.send(sends[index].0));
        let expected: Vec<_> = order(step).map(|index| sends[index].1).collect();
        assert_eq!(fifo.guest.consume(3, |_| ()), expected);
    }
    assert!(sends.iter().all(|&(_, port)| port < Port(2048)));
}

#[test]
fn what_is_linked_behind_another_sets_no_ready_bit() {
    let fifo = FifoEnv::new();
    let [(first, a), (second, b)] = fifo.ports(0, 7);
    fifo.send(first);
    // The guest is about to look at the queue.
    fifo.guest.set_ready(0, 0);
    fifo.env.set_upcall(D1, 0, 0);
    fifo.env.calls();
    fifo.send(second);
    assert_eq!((fifo.guest.ready(0), fifo.guest.head(0, 7)), (0, a));
    assert_eq!(fifo.guest.word(a).link(), b);
    assert_eq!(fifo.env.calls(), []);
}
