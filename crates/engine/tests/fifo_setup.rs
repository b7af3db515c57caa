// SPDX-License-Identifier: MIT OR Apache-2.0
//! Into the FIFO ABI and out of it: the three operations, their checks in order, what survives.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;

use common::fifo::{FifoEnv, Guest, OFFSET, array, control, switch};
use common::{D0, D1, D2, NOBODY, TestEnv, V0};
use evtchn_abi::args::{ExpandArray, InitControl, StatusKind};
use evtchn_abi::fifo::{LINKED, MASKED, PENDING};
use evtchn_abi::{DomId, Gfn, Op, Port, VcpuId, Virq};
use evtchn_engine::{Consumer, DomainConfig, Level, OpError, Outcome, ResetOutcome, Width};

const MISSING: Gfn = Gfn(7);

fn unlimited() -> DomainConfig {
    DomainConfig { max_port: None, ..DomainConfig::guest(4) }
}

fn reset(env: &TestEnv) {
    assert_eq!(env.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
}

/// Two-level answers: the sign that a domain is not FIFO.
fn assert_two_level(env: &TestEnv) {
    assert_eq!(env.engine.expand_array(D1, array(0)), Err(OpError::NotSupported));
    assert_eq!(env.engine.set_priority(D1, Port(1), 99), Err(OpError::NotImplemented));
}

#[test]
fn init_control_checks_in_xens_order() {
    let env = TestEnv::with(Level::Current, unlimited());
    let _frames = Guest::new(&env, 4, 1);
    let init = |vcpu, gfn, offset| env.engine.init_control(D1, VcpuId(vcpu), gfn, offset);
    assert_eq!(init(4, MISSING, 1), Err(OpError::NoVcpu));
    for offset in [1, 4, 4020, 4025, 4028, 4032, u32::MAX - 7] {
        assert_eq!(init(0, control(0), offset), Err(OpError::Invalid), "{offset}");
    }
    assert_eq!(init(0, MISSING, 0), Err(OpError::BadFrame));
    assert_two_level(&env);
    assert_eq!(init(0, control(0), 4024), Ok(()));
    assert_eq!(init(0, MISSING, 0), Err(OpError::HasControlBlock));
    assert_eq!(init(1, MISSING, 0), Err(OpError::BadFrame));
    assert_eq!(init(1, control(0), 0), Ok(()), "two blocks in one frame");
    assert_eq!(env.engine.init_control(NOBODY, V0, control(0), 0), Err(OpError::NoDomain));
}

#[test]
fn a_domain_that_may_not_use_fifo_hears_so_first() {
    let env = TestEnv::with(Level::Current, DomainConfig { fifo: false, ..unlimited() });
    assert_eq!(env.engine.init_control(D1, VcpuId(99), MISSING, 1), Err(OpError::NotSupported));
    assert_two_level(&env);
    assert_eq!(env.engine.set_priority(D1, Port(64), 0), Err(OpError::NoPort));
}

#[test]
fn the_raw_door_tells_the_width_of_links() {
    let env = TestEnv::with(Level::Current, unlimited());
    let _frames = Guest::new(&env, 2, 1);
    let call = |op: Op, memory: &mut [u8]| env.engine.event_channel_op(D1, op.0, 0, memory);
    let argument =
        InitControl { control_gfn: control(1), offset: OFFSET, vcpu: VcpuId(1), ..Default::default() };
    let mut memory = argument.to_bytes();
    assert_eq!(call(Op::INIT_CONTROL, &mut memory[..23]), Outcome::Done(-14));
    assert_two_level(&env);
    assert_eq!(call(Op::INIT_CONTROL, &mut memory), Outcome::Done(0));
    assert_eq!(memory[16], 17);
    assert_eq!(call(Op::INIT_CONTROL, &mut memory), Outcome::Done(-22));
    let mut memory = ExpandArray { array_gfn: array(0) }.to_bytes();
    assert_eq!(call(Op::EXPAND_ARRAY, &mut memory), Outcome::Done(0));
}

#[test]
fn the_array_has_128_pages_and_a_refused_one_does_not_count() {
    let env = TestEnv::with(Level::Current, unlimited());
    let _frames = Guest::new(&env, 1, 1);
    assert_two_level(&env);
    switch(&env, 1);
    assert_eq!(env.engine.expand_array(D1, MISSING), Err(OpError::BadFrame));
    for _ in 0..128 {
        assert_eq!(env.engine.expand_array(D1, array(0)), Ok(()), "the same frame, again and again");
    }
    assert_eq!(env.engine.expand_array(D1, MISSING), Err(OpError::NoSpace));
}

#[test]
fn set_priority_checks_in_xens_order() {
    let env = TestEnv::new();
    let _frames = Guest::new(&env, 1, 1);
    let open = env.engine.bind_virq(D1, Virq::TIMER, V0).unwrap();
    let consumer = env.engine.alloc_consumer(D0, D1, V0, D0, Consumer::new(1).unwrap()).unwrap();
    let set = |port, priority| env.engine.set_priority(D1, port, priority);
    assert_eq!(set(Port(64), 0), Err(OpError::NoPort));
    assert_eq!(set(open, 0), Err(OpError::NotImplemented));
    switch(&env, 1);
    assert_eq!(set(Port(64), 99), Err(OpError::NoPort));
    for port in [Port(0), Port(9), consumer] {
        assert_eq!(set(port, 99), Err(OpError::NotInUse));
    }
    for priority in [16, 256, u32::MAX] {
        assert_eq!(set(open, priority), Err(OpError::Invalid));
    }
    assert!((0..16).all(|priority| set(open, priority) == Ok(())));
}

#[test]
fn there_are_131071_ports_and_each_can_be_raised() {
    let fifo = FifoEnv::with(DomainConfig { width: Width::Bits32, ..unlimited() }, 128);
    assert_eq!(fifo.env.fill(D1), 131_071);
    let last = Port(131_071);
    let near = fifo.env.engine.bind_interdomain(D0, D1, last).unwrap();
    fifo.env.engine.send(D0, near).unwrap();
    assert_eq!(fifo.guest.word(last).0, PENDING | LINKED);
    assert_eq!(fifo.guest.drain(0), [131_071]);
}

#[test]
fn a_port_limit_holds_for_fifo_too() {
    let fifo = FifoEnv::with(DomainConfig { max_port: Some(6000), ..unlimited() }, 1);
    assert_eq!(fifo.env.fill(D1), 6000);
}

#[test]
fn what_the_bits_had_pending_comes_back_with_the_array() {
    let env = TestEnv::with(Level::Current, unlimited());
    let guest = Guest::new(&env, 4, 1);
    let [(_, pending), (_, masked), (_, quiet)] = [(); 3].map(|()| env.pair(D2, D1));
    env.engine.bind_vcpu(D1, masked, VcpuId(2)).unwrap();
    env.set_mask(D1, masked, true);
    let stale = Port(9); // bound to nothing; its record exists
    for port in [pending, masked, stale, Port(70)] {
        env.set_pending(D1, port, true);
    }
    switch(&env, 4);
    env.calls();
    env.engine.expand_array(D1, array(0)).unwrap();
    let words = [pending, masked, quiet, stale, Port(70)].map(|port| guest.word(port).0);
    let queued = PENDING | LINKED;
    assert_eq!(words, [queued | stale.0, queued, 0, queued, 0], "new words are not masked");
    assert_eq!(guest.ready(0), 1 << 7);
    assert_eq!((guest.head(0, 7), guest.head(2, 7)), (pending, masked));
    assert!(env.upcall(D1, 0) && env.upcall(D1, 2));
    assert!(env.pending(D1, pending), "the bits stay");
}

#[test]
fn an_event_without_a_word_is_kept_until_there_is_one() {
    let fifo = FifoEnv::with(unlimited(), 0);
    let [(send, port), (_, other)] = fifo.ports(1, 3);
    fifo.env.calls();
    fifo.send(send);
    fifo.send(send);
    assert!(!fifo.env.upcall(D1, 1) && fifo.env.calls().is_empty());
    let guest = Guest::new(&fifo.env, 4, 1);
    guest.set_word(other, MASKED);
    fifo.env.engine.expand_array(D1, array(0)).unwrap();
    assert_eq!(guest.word(port).0, PENDING | LINKED);
    assert_eq!(guest.word(other).0, MASKED);
    assert_eq!((guest.ready(1), guest.head(1, 3)), (1 << 3, port));
    assert!(fifo.env.upcall(D1, 1));
}

#[test]
fn a_kept_event_is_forgotten_with_its_port() {
    let fifo = FifoEnv::with(unlimited(), 0);
    let [(send, port)] = fifo.ports(0, 7);
    fifo.send(send);
    fifo.env.engine.close(D1, port).unwrap();
    let again = fifo.env.engine.bind_ipi(D1, V0).unwrap();
    assert_eq!(again, port);
    let guest = Guest::new(&fifo.env, 4, 1);
    fifo.env.engine.expand_array(D1, array(0)).unwrap();
    assert_eq!(guest.word(port).0, 0);
}

#[test]
fn a_kept_event_does_not_survive_a_reset() {
    let env = TestEnv::with(Level::Current, unlimited());
    let guest = Guest::new(&env, 4, 1);
    env.set_pending(D1, Port(9), true); // a stale bit of a closed port
    switch(&env, 4);
    reset(&env);
    env.set_pending(D1, Port(9), false);
    switch(&env, 4);
    env.engine.expand_array(D1, array(0)).unwrap();
    assert_eq!(guest.word(Port(9)).0, 0);
}

#[test]
fn a_reset_brings_the_bits_back_and_drops_the_pages() {
    for by in [D1, D0] {
        let fifo = FifoEnv::new();
        let env = &fifo.env;
        let frame = env.engine.hooks().frame(D1, array(0));
        let pinned = Arc::strong_count(&frame);
        env.engine.set_paused(D1, true).unwrap();
        assert_eq!(env.engine.reset(by, D1), Ok(ResetOutcome::Done));
        assert_eq!(Arc::strong_count(&frame), pinned - 1);
        assert_two_level(env);
        let (send, port) = env.pair(D2, D1);
        fifo.send(send);
        assert!(env.pending(D1, port) && env.selected(D1, 0, port) && env.upcall(D1, 0));
        assert_eq!(fifo.guest.word(port).0, 0);
        switch(env, 4);
    }
}

#[test]
fn a_reset_leaves_the_fifo_abi_though_xen_keeps_a_port() {
    let fifo = FifoEnv::new();
    let consumer = Consumer::new(1).unwrap();
    fifo.env.engine.alloc_consumer(D0, D1, V0, D0, consumer).unwrap();
    reset(&fifo.env);
    assert_two_level(&fifo.env);
    assert_eq!(fifo.env.engine.ports_in_use(D1), Ok((1, 1)), "what Xen consumes survives");
}

#[test]
fn a_destroyed_domains_pages_are_dropped() {
    let fifo = FifoEnv::new();
    let frame = fifo.env.engine.hooks().frame(D1, array(0));
    let pinned = Arc::strong_count(&frame);
    fifo.env.engine.destroy_domain(D1).unwrap();
    assert_eq!(Arc::strong_count(&frame), pinned - 1);
}

#[test]
fn a_vcpu_beyond_shared_info_has_queues_but_no_upcall() {
    let fifo = FifoEnv::with(DomainConfig { max_port: None, ..DomainConfig::guest(40) }, 1);
    let [(send, port)] = fifo.ports(39, 15);
    fifo.env.calls();
    fifo.send(send);
    assert_eq!((fifo.guest.ready(39), fifo.guest.head(39, 15)), (1 << 15, port));
    assert!(fifo.env.calls().is_empty());
}

#[test]
fn the_dump_shows_words_as_xen_does() {
    let fifo = FifoEnv::with(unlimited(), 1);
    let [(first, a), (second, b), _, (_, d)] = fifo.ports(0, 7);
    fifo.send(first);
    fifo.send(second);
    fifo.guest.set_word(d, MASKED | (1 << 28));
    fifo.env.engine.set_shared_info(D2, None).unwrap();
    let lines: Vec<_> = fifo.env.engine.debug_dump(D1).unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "   1 [1/0/2]: s=3 n=0 x=0 d=2 p=1",
        "   2 [1/0/0]: s=3 n=0 x=0 d=2 p=2",
        "   3 [0/0/-]: s=3 n=0 x=0 d=2 p=3",
        "   4 [0/1/B-]: s=3 n=0 x=0 d=2 p=4",
    ];
    assert_eq!((a, b), (Port(1), Port(2)));
    assert_eq!(lines, expected);
    let bare = FifoEnv::with(unlimited(), 0);
    bare.env.engine.bind_ipi(D1, V0).unwrap();
    let row = bare.env.engine.debug_dump(D1).unwrap()[0];
    assert_eq!(row.to_string(), "   1 [0/1/?]: s=6 n=0 x=0");
}

#[test]
fn records_stay_valid_when_the_limit_falls() {
    let fifo = FifoEnv::with(DomainConfig { max_port: Some(5000), ..unlimited() }, 1);
    assert_eq!(fifo.env.fill(D1), 5000);
    assert_eq!(fifo.env.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
    let status = |port| fifo.env.engine.status(D1, DomId::SELF, Port(port));
    for port in [4095, 4096, 5000, 5055] {
        assert_eq!(status(port).map(|status| status.kind), Ok(StatusKind::Closed), "{port}");
        assert_eq!(fifo.env.engine.unmask(D1, Port(port)), Ok(()));
    }
    assert_eq!(status(5056), Err(OpError::NoPort));
    assert_eq!(fifo.env.fill(D1), 4095);
}
