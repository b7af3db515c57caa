// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an event does to the shared page, bit by bit.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{D1, D2, TestEnv, V0, bit, delivered};
use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_engine::{DomainConfig, DomainKind, Level, Width};
use evtchn_sync::Page;

/// Pending, mask, selector, upcall.
type Bits = [bool; 4];

fn all_bits() -> impl Iterator<Item = Bits> {
    (0..16).map(|n| [n & 1 != 0, n & 2 != 0, n & 4 != 0, n & 8 != 0])
}

fn put(env: &TestEnv, port: Port, [p, m, s, u]: Bits) {
    env.set_pending(D1, port, p);
    env.set_mask(D1, port, m);
    env.set_selector(D1, 2, port, s);
    env.set_upcall(D1, 2, u.into());
}

fn get(env: &TestEnv, port: Port) -> Bits {
    [env.pending(D1, port), env.masked(D1, port), env.selected(D1, 2, port), env.upcall(D1, 2)]
}

#[test]
fn a_raise_follows_the_truth_table() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, VcpuId(2)).unwrap();
    for before @ [p, m, s, u] in all_bits() {
        put(&env, port, before);
        env.engine.send(D1, port).unwrap();
        let announced = !p && !m;
        assert_eq!(get(&env, port), [true, m, s || announced, u || (announced && !s)], "{before:?}");
        let expected = if announced && !s && !u { vec![delivered(D1, 2)] } else { vec![] };
        assert_eq!(env.calls(), expected, "{before:?}");
    }
}

#[test]
fn an_unmask_follows_the_truth_table() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, VcpuId(2)).unwrap();
    for before @ [p, m, s, u] in all_bits() {
        put(&env, port, before);
        env.engine.unmask(D1, port).unwrap();
        let announced = p && m;
        assert_eq!(get(&env, port), [p, false, s || announced, u || (announced && !s)], "{before:?}");
        let expected = if announced && !s && !u { vec![delivered(D1, 2)] } else { vec![] };
        assert_eq!(env.calls(), expected, "{before:?}");
    }
}

#[test]
fn any_nonzero_low_bit_of_the_upcall_byte_counts_as_set() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, V0).unwrap();
    env.set_upcall(D1, 0, 0xff);
    env.engine.send(D1, port).unwrap();
    assert_eq!(env.calls(), []);
    assert_eq!(env.page(D1).u8(0).unwrap().load(SeqCst), 0xff);
}

#[test]
fn two_ports_of_one_word_make_one_upcall() {
    let env = TestEnv::new();
    let ports: Vec<_> = (0..2).map(|_| env.engine.bind_ipi(D1, V0).unwrap()).collect();
    for &port in &ports {
        env.engine.send(D1, port).unwrap();
    }
    assert_eq!(env.calls(), [delivered(D1, 0)]);
}

#[test]
fn ports_63_and_64_are_in_different_words() {
    let env = TestEnv::new();
    for _ in 1..=64 {
        env.engine.bind_ipi(D1, V0).unwrap();
    }
    env.engine.send(D1, Port(63)).unwrap();
    env.engine.send(D1, Port(64)).unwrap();
    assert_eq!(env.page(D1).u64(8).unwrap().load(SeqCst), 0b11);
    assert_eq!(env.calls(), [delivered(D1, 0)]);
}

#[test]
fn the_last_port_of_each_width_touches_only_its_own_bits() {
    for (width, last, selector) in [(Width::Bits64, 4095, 15), (Width::Bits32, 1023, 7)] {
        let config = DomainConfig { max_port: None, width, ..DomainConfig::guest(1) };
        let env = TestEnv::with(Level::Current, config);
        env.fill(D1);
        env.engine.close(D1, Port(last)).unwrap();
        assert_eq!(env.engine.bind_ipi(D1, V0), Ok(Port(last)));
        env.engine.send(D1, Port(last)).unwrap();
        let changed: Vec<_> =
            (0..4096).filter(|&at| env.page(D1).u8(at).unwrap().load(SeqCst) != 0).collect();
        assert_eq!(changed, [0, selector, 2048 + last as usize / 8]);
    }
}

#[test]
fn the_32_bit_layout_has_its_mask_elsewhere() {
    let config = DomainConfig { width: Width::Bits32, ..DomainConfig::guest(1) };
    let env = TestEnv::with(Level::Current, config);
    let port = env.engine.bind_ipi(D1, V0).unwrap();
    common::set_bit(env.page(D1), 2176, port.0, true);
    env.engine.send(D1, port).unwrap();
    assert!(bit(env.page(D1), 2048, port.0));
    assert_eq!(env.calls(), []);
    env.engine.unmask(D1, port).unwrap();
    assert!(!bit(env.page(D1), 2176, port.0));
    assert_eq!(env.page(D1).u32(4).unwrap().load(SeqCst), 1);
    assert_eq!(env.calls(), [delivered(D1, 0)]);
}

#[test]
fn a_port_above_a_narrowed_layout_is_dropped() {
    let config = DomainConfig { kind: DomainKind::Hvm, max_port: None, ..DomainConfig::guest(1) };
    let env = TestEnv::with(Level::Current, config);
    env.fill(D1);
    env.engine.close(D1, Port(2000)).unwrap();
    env.engine.bind_ipi(D1, V0).unwrap();
    env.engine.set_width(D1, Width::Bits32).unwrap();
    env.engine.send(D1, Port(2000)).unwrap();
    env.engine.unmask(D1, Port(2000)).unwrap();
    assert!((0..4096).all(|at| env.page(D1).u8(at).unwrap().load(SeqCst) == 0));
    assert_eq!(env.calls(), []);
}

#[test]
fn vcpu_31_has_a_slot_and_vcpu_32_reaches_nobody() {
    let env = TestEnv::with(Level::Current, DomainConfig::guest(40));
    let seen = env.engine.bind_ipi(D1, VcpuId(31)).unwrap();
    let unseen = env.engine.bind_ipi(D1, VcpuId(32)).unwrap();
    env.engine.send(D1, seen).unwrap();
    assert_eq!(env.calls(), [delivered(D1, 31)]);
    env.engine.send(D1, unseen).unwrap();
    assert_eq!(env.calls(), []);
    assert!(env.pending(D1, unseen));
    // vCPU 32's slot would begin where the pending bits are: only those two bits may be set there.
    let bits: u32 = (0..512).map(|at| env.page(D1).u8(2048 + at).unwrap().load(SeqCst).count_ones()).sum();
    assert_eq!(bits, 2);
}

#[test]
fn a_moved_pending_event_stays_on_the_old_vcpu_until_unmasked() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D2, D1);
    env.engine.send(D2, near).unwrap();
    env.engine.bind_vcpu(D1, far, VcpuId(1)).unwrap();
    assert!(env.selected(D1, 0, far) && !env.selected(D1, 1, far) && !env.upcall(D1, 1));
    env.engine.unmask(D1, far).unwrap();
    assert!(!env.upcall(D1, 1), "the port was not masked");
    env.set_mask(D1, far, true);
    env.engine.unmask(D1, far).unwrap();
    assert!(env.selected(D1, 1, far) && env.upcall(D1, 1));
}

#[test]
fn a_page_can_be_taken_away_and_moved() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D2, D1);
    let old = env.engine.set_shared_info(D1, None).unwrap().unwrap();
    env.engine.send(D2, near).unwrap();
    assert!(!bit(&old, 2048, far.0));
    let moved = evtchn_engine::test_utils::page();
    assert!(env.engine.set_shared_info(D1, Some(moved.clone())).unwrap().is_none());
    env.engine.send(D2, near).unwrap();
    assert!(bit(&moved, 2048, far.0));
    assert_eq!(env.calls(), [delivered(D1, 0)]);
}

#[test]
fn a_scribbled_page_changes_no_answer() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D1, D2);
    for round in 0..4 {
        for at in (0..4096).step_by(8) {
            env.page(D1).u64(at).unwrap().store(0x9e37_79b9_7f4a_7c15 << round, SeqCst);
        }
        env.engine.send(D2, far).unwrap();
        env.engine.unmask(D1, near).unwrap();
        let other = env.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
        env.engine.close(D1, other).unwrap();
    }
    env.engine.validate().unwrap();
}

#[test]
fn other_bits_of_the_upcall_byte_do_not_count() {
    let env = TestEnv::new();
    let (send, _) = env.pair(D2, D1);
    for byte in [0, 2, 0x80, 0xfe] {
        let (again, _) = env.pair(D2, D1);
        env.quiet(D1);
        env.set_upcall(D1, 0, byte);
        env.engine.send(D2, again).unwrap();
        assert_eq!(env.calls(), [delivered(D1, 0)], "{byte:#x}");
    }
    env.engine.send(D2, send).unwrap();
    assert_eq!(env.calls(), []);
}
