// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIFO ABI, one event word at a time: every state of a word against everything that happens to it.
#![allow(missing_docs)]

mod common;

use common::fifo::{FifoEnv, OFFSET, array, control};
use common::{D0, D1, D2, TestEnv, V0, delivered};
use evtchn_abi::fifo::{BUSY, LINK_MASK, LINKED, MASKED, PENDING};
use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_engine::test_utils::Call;
use evtchn_engine::{Consumer, DomainConfig, Level, OpError, PollOutcome};

const P: u32 = PENDING;
const M: u32 = MASKED;
const L: u32 = LINKED;
/// Bits that nobody uses; Xen keeps them.
const UNUSED: u32 = 0x0ffe_0000;

/// What became of a word, and what else happened.
#[derive(Debug, PartialEq)]
struct After {
    word: u32,
    queued: bool,
    poller_woken: bool,
}

/// Puts the word into a state and does something with a poller watching.
fn after(before: u32, act: impl FnOnce(&FifoEnv, Port, Port)) -> After {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(2, 5);
    fifo.guest.set_word(port, M);
    assert_eq!(fifo.env.engine.sched_poll(D1, VcpuId(1), &[port]), Ok(PollOutcome::Sleep));
    fifo.guest.set_word(port, before);
    fifo.env.calls();
    act(&fifo, send, port);
    let calls = fifo.env.calls();
    let queued = fifo.guest.ready(2) != 0;
    assert_eq!(queued, calls.contains(&delivered(D1, 2)), "{before:x}");
    assert_eq!(queued, fifo.guest.head(2, 5) == port && fifo.env.upcall(D1, 2), "{before:x}");
    let poller_woken = calls.contains(&Call::WakePoller(D1, VcpuId(1)));
    After { word: fifo.guest.word(port).0, queued, poller_woken }
}

fn expect(word: u32, queued: bool, poller_woken: bool) -> After {
    After { word, queued, poller_woken }
}

#[test]
fn a_raise_follows_the_table_of_word_states() {
    for unused in [0, UNUSED] {
        let raised = |before| after(before | unused, |fifo, send, _| fifo.send(send));
        assert_eq!(raised(0), expect(P | L | unused, true, true));
        assert_eq!(raised(M), expect(P | M | unused, false, true));
        assert_eq!(raised(P | M), expect(P | M | unused, false, false));
        assert_eq!(raised(P), expect(P | L | unused, true, false));
        assert_eq!(raised(P | L), expect(P | L | unused, false, false));
        assert_eq!(raised(P | M | L), expect(P | M | L | unused, false, false));
        assert_eq!(raised(L), expect(P | L | unused, false, true));
        assert_eq!(raised(M | L), expect(P | M | L | unused, false, true));
    }
}

#[test]
fn an_unmask_follows_the_table_of_word_states() {
    for unused in [0, UNUSED] {
        let unmask = |fifo: &FifoEnv, _, port| fifo.env.engine.unmask(D1, port).unwrap();
        let unmasked = |before| after(before | unused, unmask);
        assert_eq!(unmasked(0), expect(unused, false, false));
        assert_eq!(unmasked(M), expect(unused, false, false));
        assert_eq!(unmasked(P | M), expect(P | L | unused, true, false));
        assert_eq!(unmasked(P), expect(P | L | unused, true, false));
        assert_eq!(unmasked(P | L), expect(P | L | unused, false, false));
        assert_eq!(unmasked(P | M | L), expect(P | L | unused, false, false));
        assert_eq!(unmasked(L), expect(L | unused, false, false));
        assert_eq!(unmasked(M | L), expect(L | unused, false, false));
    }
}

#[test]
fn a_close_clears_pending_alone_and_a_linked_port_is_not_handed_out() {
    for before in [0, M, P | M, P, P | L, P | M | L, L, M | L] {
        let close = |fifo: &FifoEnv, _, port| {
            fifo.env.engine.close(D1, port).unwrap();
            let next = fifo.env.engine.bind_ipi(D1, V0).unwrap();
            assert_eq!(next == port, before & L == 0, "{before:x}");
        };
        assert_eq!(after(before, close), expect(before & !P, false, false));
    }
}

#[test]
fn every_state_answers_each_operation_as_xen_does() {
    let fifo = FifoEnv::with(DomainConfig::guest(4), 1);
    let engine = &fifo.env.engine;
    let unbound = engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
    let (_, connected) = fifo.env.pair(D2, D1);
    let virq = engine.bind_virq(D1, evtchn_abi::Virq::TIMER, V0).unwrap();
    let ipi = engine.bind_ipi(D1, VcpuId(3)).unwrap();
    let xen = engine.alloc_consumer(D0, D1, V0, D0, Consumer::new(1).unwrap()).unwrap();
    let free = Port(40);
    let (no, bad, acc) = (OpError::NoPort, OpError::WrongState, OpError::NotInUse);
    let ok = Ok(());
    // send, set_priority, unmask, bind_vcpu, close
    let table = [
        (Port(64), [Err(no); 5]),
        (Port(0), [Err(bad), Err(acc), ok, Err(bad), Err(bad)]),
        (free, [Err(bad), Err(acc), ok, Err(bad), Err(bad)]),
        (unbound, [ok; 5]),
        (connected, [ok; 5]),
        (virq, [Err(bad), ok, ok, Err(bad), ok]),
        (ipi, [ok, ok, ok, Err(bad), ok]),
        (xen, [Err(OpError::XenOwned), Err(acc), ok, Err(OpError::XenOwned), Err(OpError::XenOwned)]),
    ];
    for (port, expected) in table {
        let answers = [
            engine.send(D1, port),
            engine.set_priority(D1, port, 3),
            engine.unmask(D1, port),
            engine.bind_vcpu(D1, port, V0),
            engine.close(D1, port),
        ];
        assert_eq!(answers, expected, "port {port}");
    }
}

#[test]
fn a_closed_ports_word_is_left_alone_by_unmask() {
    let fifo = FifoEnv::new();
    fifo.guest.set_word(Port(9), P | M);
    fifo.env.engine.unmask(D1, Port(9)).unwrap();
    assert_eq!(fifo.guest.word(Port(9)).0, P | M);
}

#[test]
fn a_port_keeps_its_mask_when_it_is_bound_anew_but_not_its_priority() {
    let fifo = FifoEnv::new();
    let [(_, port)] = fifo.ports(2, 1);
    fifo.guest.set_word(port, M);
    fifo.env.engine.close(D1, port).unwrap();
    let (send, again) = fifo.env.pair(D2, D1);
    assert_eq!((again, fifo.guest.word(again).0), (port, M));
    fifo.guest.set_word(again, 0);
    fifo.send(send);
    assert_eq!((fifo.guest.ready(0), fifo.guest.ready(2)), (1 << 7, 0));
}

#[test]
fn an_event_for_a_vcpu_without_control_block_is_dropped() {
    let env = TestEnv::new();
    let guest = common::fifo::Guest::new(&env, 4, 1);
    common::fifo::switch(&env, 1);
    env.engine.expand_array(D1, array(0)).unwrap();
    let (send, port) = env.pair(D2, D1);
    env.engine.bind_vcpu(D1, port, VcpuId(3)).unwrap();
    env.engine.send(D2, send).unwrap();
    assert_eq!(guest.word(port).0, 0, "PENDING would keep later events back");
    guest.set_word(port, P | M);
    env.engine.unmask(D1, port).unwrap();
    assert_eq!(guest.word(port).0, P);
    env.engine.init_control(D1, VcpuId(3), control(3), OFFSET).unwrap();
    env.engine.send(D2, send).unwrap();
    assert_eq!((guest.word(port).0, guest.head(3, 7)), (P | L, port));
}

#[test]
fn a_ready_bit_that_is_set_holds_the_upcall_back() {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(0, 4);
    fifo.guest.set_ready(0, 1 << 4);
    fifo.send(send);
    assert_eq!((fifo.guest.head(0, 4), fifo.env.upcall(D1, 0)), (port, false));
}

#[test]
fn a_poll_looks_at_words() {
    let fifo = FifoEnv::new();
    let [(_, port)] = fifo.ports(0, 4);
    let poll = |port| {
        let outcome = fifo.env.engine.sched_poll(D1, VcpuId(1), &[port]);
        fifo.env.engine.finish_poll(D1, VcpuId(1));
        outcome
    };
    assert_eq!(poll(port), Ok(PollOutcome::Sleep));
    fifo.env.set_pending(D1, port, true); // the two-level bit says nothing
    assert_eq!(poll(port), Ok(PollOutcome::Sleep));
    fifo.guest.set_word(port, P | M);
    assert_eq!(poll(port), Ok(PollOutcome::Ready));
}

// What a hostile guest can do to its own words, and that it hurts nobody else.

#[test]
fn links_and_heads_that_a_guest_writes_are_never_followed() {
    let fifo = FifoEnv::new();
    let [(a, first), (b, second)] = fifo.ports(0, 7);
    for junk in [1, 77, LINK_MASK] {
        fifo.guest.set_word(first, UNUSED | junk);
        fifo.guest.set_word(second, UNUSED | junk);
        fifo.send(a);
        fifo.send(b);
        assert_eq!(fifo.guest.word(first).0, P | L | UNUSED | second.0);
        assert_eq!(fifo.guest.word(second).0, P | L | UNUSED | junk, "its own link is the guest's");
        fifo.guest.set_ready(0, 0);
        fifo.guest.set_word(first, 0);
        fifo.guest.set_word(second, 0);
    }
}

#[test]
fn a_tail_whose_linked_bit_the_guest_cleared_is_not_appended_to() {
    let fifo = FifoEnv::new();
    let [(a, first), (b, second)] = fifo.ports(0, 7);
    fifo.send(a);
    fifo.guest.set_word(first, P);
    fifo.send(b);
    assert_eq!((fifo.guest.word(first).0, fifo.guest.head(0, 7)), (P, second));
}

#[test]
fn a_busy_bit_that_the_guest_set_is_cleared_by_the_next_append() {
    let fifo = FifoEnv::new();
    let [(a, first), (b, second)] = fifo.ports(0, 7);
    fifo.send(a);
    fifo.guest.set_word(first, P | L | BUSY);
    fifo.send(b);
    assert_eq!(fifo.guest.word(first).0, P | L | second.0);
}

#[test]
fn a_guest_that_links_all_its_words_runs_out_of_ports_alone() {
    let config = DomainConfig { max_port: Some(200), ..DomainConfig::guest(4) };
    let fifo = FifoEnv::with(config, 1);
    (0..1024).for_each(|port| fifo.guest.set_word(Port(port), L));
    // Records that do not exist yet were never on a queue: the first of each new bucket is handed out.
    let got: Vec<_> = (0..4).map(|_| fifo.env.engine.bind_ipi(D1, V0).map(|port| port.0)).collect();
    assert_eq!(got, [Ok(64), Ok(128), Ok(192), Err(OpError::NoSpace)]);
    fifo.guest.set_word(Port(3), 0);
    assert_eq!(fifo.env.engine.bind_ipi(D1, V0), Ok(Port(3)));
    assert!(fifo.env.engine.bind_ipi(D2, V0).is_ok());
}

#[test]
fn one_frame_as_block_and_array_corrupts_only_itself() {
    let env = TestEnv::with(Level::Current, DomainConfig { max_port: None, ..DomainConfig::guest(4) });
    let frame = env.engine.hooks().frame(D1, array(0));
    for vcpu in 0..4 {
        env.engine.init_control(D1, VcpuId(vcpu), array(0), vcpu * 8).unwrap();
    }
    (0..3).for_each(|_| env.engine.expand_array(D1, array(0)).unwrap());
    let mut ports = vec![];
    for index in 0..300u32 {
        let (send, port) = env.pair(D2, D1);
        env.engine.bind_vcpu(D1, port, VcpuId(index % 4)).unwrap();
        ports.push(send);
    }
    for &send in ports.iter().chain(&ports) {
        env.engine.send(D2, send).unwrap();
    }
    drop(frame);
    env.engine.reset(D1, DomId::SELF).unwrap();
}
