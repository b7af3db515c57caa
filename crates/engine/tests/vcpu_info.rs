// SPDX-License-Identifier: MIT OR Apache-2.0
//! `VCPUOP_register_vcpu_info`: checks, what moves, and what does not get lost.
#![allow(missing_docs)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::memory::{AT, DONE, Memory, failed};
use common::{D1, D2, NOBODY, TestEnv, V0, delivered};
use evtchn_abi::args::VcpuRegisterVcpuInfo;
use evtchn_abi::{DomId, Errno, Gfn, Port, VcpuId, VcpuOp};
use evtchn_engine::test_utils::{Call, page};
use evtchn_engine::{
    DomainConfig, DomainKind, Engine, Hooks, Level, OpError, Outcome, PollOutcome, ResetOutcome, Upcall,
    VcpuInfoPlace, Width,
};
use evtchn_sync::{HeapPage, Page};

const V1: VcpuId = VcpuId(1);
const FRAME: Gfn = Gfn(0x77);

/// A frame of domain 1, which exists from now on.
fn frame(env: &TestEnv) -> Arc<HeapPage> {
    env.engine.hooks().frame(D1, FRAME)
}

fn byte(page: &HeapPage, at: usize) -> u8 {
    page.u8(at).unwrap().load(SeqCst)
}

fn selector(page: &HeapPage, at: usize) -> u64 {
    page.u64(at + 8).unwrap().load(SeqCst)
}

#[test]
fn the_contents_move_then_all_is_announced() {
    let env = TestEnv::new();
    let (old, new) = (env.page(D1), frame(&env));
    for at in 64..128 {
        old.u8(at).unwrap().store(u8::try_from(at).unwrap() | 0x80, SeqCst);
    }
    env.set_upcall(D1, 1, 0);
    env.engine.register_vcpu_info(D1, V1, FRAME, 256).unwrap();
    assert_eq!((byte(&new, 256), selector(&new, 256)), (1, u64::MAX));
    for at in (1..8).chain(16..64) {
        assert_eq!(byte(&new, 256 + at), byte(old, 64 + at), "byte {at}");
    }
    assert!((0..256).chain(320..4096).all(|at| byte(&new, at) == 0), "nothing else is written");
    assert_eq!(env.calls(), [delivered(D1, 1)]);
}

#[test]
fn an_upcall_that_was_pending_is_delivered_again() {
    let env = TestEnv::new();
    frame(&env);
    env.set_upcall(D1, 0, 1);
    env.engine.register_vcpu_info(D1, V0, FRAME, 0).unwrap();
    assert_eq!(env.calls(), [delivered(D1, 0)]);
}

#[test]
fn events_go_to_the_registered_one_and_the_old_one_is_left_alone() {
    let env = TestEnv::new();
    let port = env.engine.bind_ipi(D1, V1).unwrap();
    let new = frame(&env);
    env.engine.register_vcpu_info(D1, V1, FRAME, 64).unwrap();
    new.u64(72).unwrap().store(0, SeqCst);
    new.u8(64).unwrap().store(0, SeqCst);
    env.calls();
    env.engine.send(D1, port).unwrap();
    assert_eq!((byte(&new, 64), selector(&new, 64)), (1, 1));
    assert!(!env.upcall(D1, 1) && !env.selected(D1, 1, port) && env.pending(D1, port));
    assert_eq!(env.calls(), [delivered(D1, 1)]);
}

#[test]
fn a_vcpu_without_a_slot_begins_with_zeroes_and_upcalls_held_back() {
    for width in [Width::Bits64, Width::Bits32] {
        let env = TestEnv::with(Level::Current, DomainConfig { width, ..DomainConfig::guest(48) });
        let new = frame(&env);
        (0..4096).for_each(|at| new.u8(at).unwrap().store(0xee, SeqCst));
        let vcpu = VcpuId(40);
        assert_eq!(env.engine.vcpu_info(D1, vcpu), Ok(VcpuInfoPlace::Nowhere));
        env.engine.register_vcpu_info(D1, vcpu, FRAME, 64).unwrap();
        let layout = width.layout();
        let selector = layout.pending_sel..layout.pending_sel + layout.word_size;
        for at in 0..64 {
            let expected = match at {
                0 | 1 => 1,
                at if selector.contains(&at) => 0xff,
                _ => 0,
            };
            assert_eq!(byte(&new, 64 + at), expected, "byte {at}, {width:?}");
        }
        assert_eq!((byte(&new, 63), byte(&new, 128)), (0xee, 0xee));
        assert_eq!(env.calls(), [delivered(D1, 40)]);
        assert_eq!(env.engine.upcall_pending(D1, vcpu), Ok(false), "held back");

        let port = env.engine.bind_ipi(D1, vcpu).unwrap();
        new.u8(64).unwrap().store(0, SeqCst);
        new.u64(72).unwrap().store(0, SeqCst);
        new.u32(68).unwrap().store(0, SeqCst);
        env.engine.send(D1, port).unwrap();
        assert_eq!(env.calls(), [delivered(D1, 40)]);
    }
}

#[test]
fn where_it_is_can_be_read() {
    let env = TestEnv::new();
    frame(&env);
    assert_eq!(env.engine.vcpu_info(D1, V1), Ok(VcpuInfoPlace::SharedInfo { offset: 64 }));
    env.engine.register_vcpu_info(D1, V1, FRAME, 128).unwrap();
    let registered = VcpuInfoPlace::Registered { gfn: FRAME, offset: 128 };
    assert_eq!(env.engine.vcpu_info(D1, V1), Ok(registered));
    assert_eq!(env.engine.vcpu_info(D1, V0), Ok(VcpuInfoPlace::SharedInfo { offset: 0 }));
    env.engine.set_shared_info(D1, None).unwrap();
    assert_eq!(env.engine.vcpu_info(D1, V0), Ok(VcpuInfoPlace::Nowhere));
    assert_eq!(env.engine.vcpu_info(D1, V1), Ok(registered), "not the page's");
    assert_eq!(env.engine.vcpu_info(D1, VcpuId(4)), Err(OpError::NoVcpu));
    assert_eq!(env.engine.vcpu_info(NOBODY, V0), Err(OpError::NoDomain));
}

#[test]
fn each_place_is_checked_as_the_release_does() {
    let beyond = Gfn(1 << 52);
    let last = Gfn((1 << 52) - 1);
    // Frame, offset, the answer of today's Xen, and of 4.17.
    let table = [
        (FRAME, 4033, OpError::Misplaced, OpError::Misplaced),
        (FRAME, 4040, OpError::Misplaced, OpError::Misplaced),
        (FRAME, 4095, OpError::Misplaced, OpError::Misplaced),
        (FRAME, 1, OpError::Misplaced, OpError::Misplaced),
        (FRAME, 4, OpError::Misplaced, OpError::Misplaced),
        (FRAME, 4096, OpError::Invalid, OpError::Misplaced),
        (FRAME, u32::MAX, OpError::Invalid, OpError::Misplaced),
        (beyond, 0, OpError::Invalid, OpError::BadFrame),
        (last, 4095, OpError::Invalid, OpError::Misplaced),
        (last, 4088, OpError::Misplaced, OpError::Misplaced),
        (last, 0, OpError::BadFrame, OpError::BadFrame),
        (Gfn(0x78), 0, OpError::BadFrame, OpError::BadFrame),
    ];
    for level in [Level::Current, Level::Xen4_17] {
        let env = TestEnv::at(level);
        frame(&env);
        for (gfn, offset, current, before) in table {
            let expected = if level == Level::Current { current } else { before };
            let result = env.engine.register_vcpu_info(D1, V0, gfn, offset);
            assert_eq!(result, Err(expected), "{gfn} + {offset}, {level:?}");
        }
        assert_eq!(env.engine.register_vcpu_info(D1, VcpuId(4), FRAME, 1), Err(OpError::NoVcpu));
        assert_eq!(env.engine.register_vcpu_info(NOBODY, V0, FRAME, 0), Err(OpError::NoDomain));
        assert_eq!(env.calls(), []);
        assert_eq!(env.engine.register_vcpu_info(D1, V0, FRAME, 4032), Ok(()), "the last that fits");
    }
}

#[test]
fn a_narrow_guest_needs_less_alignment() {
    let config = DomainConfig { width: Width::Bits32, ..DomainConfig::guest(4) };
    let env = TestEnv::with(Level::Current, config);
    let new = frame(&env);
    assert_eq!(env.engine.register_vcpu_info(D1, V0, FRAME, 2), Err(OpError::Misplaced));
    env.engine.register_vcpu_info(D1, V0, FRAME, 4).unwrap();
    assert_eq!(new.u32(8).unwrap().load(SeqCst), u32::MAX);
    assert_eq!(new.u32(12).unwrap().load(SeqCst), 0, "a word of 32 bits");
}

#[test]
fn once_is_enough() {
    let again = [(Level::Current, Errno::EBUSY, Errno::EBUSY), (Level::Xen4_17, Errno::EINVAL, Errno::ENXIO)];
    for (level, errno, misplaced) in again {
        let env = TestEnv::at(level);
        frame(&env);
        env.engine.register_vcpu_info(D1, V0, FRAME, 0).unwrap();
        env.calls();
        let again = |offset| env.engine.register_vcpu_info(D1, V0, FRAME, offset).map_err(OpError::errno);
        assert_eq!((again(64), again(1)), (Err(errno), Err(misplaced)), "which check is first");
        assert_eq!(env.engine.vcpu_info(D1, V0), Ok(VcpuInfoPlace::Registered { gfn: FRAME, offset: 0 }));
        assert_eq!(env.calls(), []);
    }
}

/// Gives frames 1 and 2, of which 2 cannot be written.
struct ReadOnly;

impl Hooks for ReadOnly {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, _: DomId, gfn: Gfn) -> Option<Arc<HeapPage>> {
        (gfn == Gfn(1)).then(page)
    }

    fn is_read_only(&self, _: DomId, gfn: Gfn) -> bool {
        gfn == Gfn(2)
    }
}

#[test]
fn a_frame_that_cannot_be_written_is_eacces_today() {
    for (level, errno) in [(Level::Current, Errno::EACCES), (Level::Xen4_17, Errno::EINVAL)] {
        let engine = Engine::with_level(ReadOnly, level);
        engine.create_domain(D1, DomainConfig::guest(1)).unwrap();
        let register = |gfn| engine.register_vcpu_info(D1, V0, Gfn(gfn), 0).map_err(OpError::errno);
        assert_eq!((register(2), register(3), register(1)), (Err(errno), Err(Errno::EINVAL), Ok(())));
    }
}

fn raw(env: &TestEnv, current: VcpuId, vcpu: u64, memory: &mut Memory) -> Outcome {
    let args = [VcpuOp::REGISTER_VCPU_INFO.0.into(), vcpu, AT, 0, 0];
    env.engine.hypercall(D1, current, 24, args, memory)
}

#[test]
fn the_raw_door_registers() {
    let env = TestEnv::new();
    let new = frame(&env);
    let mut memory = Memory::with(&VcpuRegisterVcpuInfo { mfn: FRAME, offset: 64, rsvd: 0xffff });
    assert_eq!(raw(&env, V0, 4, &mut memory), failed(Errno::ENOENT));
    assert_eq!(memory.reads, 0, "before the argument is read");
    assert_eq!(raw(&env, V0, 1 << 32 | 1, &mut memory), DONE, "the upper half is no part of an int");
    assert_eq!(selector(&new, 64), u64::MAX);
    assert_eq!(raw(&env, V1, 1, &mut memory), failed(Errno::EBUSY));
    let args = [VcpuOp::REGISTER_VCPU_INFO.0.into(), 0, 1020, 0, 0];
    assert_eq!(env.engine.hypercall(D1, V0, 24, args, &mut memory), failed(Errno::EFAULT));
}

#[test]
fn another_vcpu_that_is_online_registered_for_itself_only_before() {
    for (level, expected) in [(Level::Current, DONE), (Level::Xen4_17, failed(Errno::EINVAL))] {
        let env = TestEnv::at(level);
        frame(&env);
        let arg = |offset| Memory::with(&VcpuRegisterVcpuInfo { mfn: FRAME, offset, rsvd: 0 });
        assert_eq!(raw(&env, V0, 1, &mut arg(64)), DONE, "vCPU 1 is offline");
        if level == Level::Xen4_17 {
            assert_eq!(raw(&env, V1, 0, &mut arg(1)), failed(Errno::ENXIO), "that comes first");
        }
        assert_eq!(raw(&env, V1, 0, &mut arg(128)), expected);
    }
}

#[test]
fn a_reset_keeps_it_and_dropping_goes_back_to_shared_info() {
    let env = TestEnv::new();
    let new = frame(&env);
    let before = Arc::strong_count(&new);
    env.engine.register_vcpu_info(D1, V1, FRAME, 0).unwrap();
    assert_eq!(Arc::strong_count(&new), before + 1);
    assert_eq!(env.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
    assert_eq!(env.engine.vcpu_info(D1, V1), Ok(VcpuInfoPlace::Registered { gfn: FRAME, offset: 0 }));
    env.engine.drop_vcpu_infos(D1).unwrap();
    assert_eq!(env.engine.vcpu_info(D1, V1), Ok(VcpuInfoPlace::SharedInfo { offset: 64 }));
    assert_eq!(Arc::strong_count(&new), before);
    env.engine.register_vcpu_info(D1, V1, FRAME, 64).unwrap();
    assert_eq!(env.engine.drop_vcpu_infos(NOBODY), Err(OpError::NoDomain));
}

#[test]
fn a_destroyed_domains_areas_are_dropped_though_a_caller_remains() {
    let env = TestEnv::new();
    let new = frame(&env);
    let before = Arc::strong_count(&new);
    let mut caller = env.engine.caller(D1, V0).unwrap();
    env.engine.register_vcpu_info(D1, V0, FRAME, 0).unwrap();
    env.engine.destroy_domain(D1).unwrap();
    assert_eq!(Arc::strong_count(&new), before);
    let mut memory = Memory::with(&VcpuRegisterVcpuInfo { mfn: FRAME, offset: 64, rsvd: 0 });
    let args = [VcpuOp::REGISTER_VCPU_INFO.0.into(), 1, AT, 0, 0];
    assert_eq!(caller.hypercall(24, args, &mut memory), failed(Errno::ESRCH));
    assert_eq!(Arc::strong_count(&new), before);
}

#[test]
fn with_fifo_the_upcall_byte_is_in_the_registered_one() {
    let env = TestEnv::new();
    let new = frame(&env);
    let _array_and_block = [1, 2].map(|gfn| env.engine.hooks().frame(D1, Gfn(gfn)));
    env.engine.init_control(D1, V1, Gfn(1), 0).unwrap();
    env.engine.expand_array(D1, Gfn(2)).unwrap();
    env.engine.register_vcpu_info(D1, V1, FRAME, 0).unwrap();
    new.u8(0).unwrap().store(0, SeqCst);
    env.calls();
    let port = env.engine.bind_ipi(D1, V1).unwrap();
    env.engine.send(D1, port).unwrap();
    assert_eq!(byte(&new, 0), 1);
    assert_eq!(env.calls(), [delivered(D1, 1)]);
}

#[test]
fn registering_ends_a_poll() {
    let env = TestEnv::new();
    frame(&env);
    assert_eq!(env.engine.sched_poll(D1, V1, &[]), Ok(PollOutcome::Sleep));
    env.engine.register_vcpu_info(D1, V1, FRAME, 0).unwrap();
    assert_eq!(env.calls(), [delivered(D1, 1), Call::WakePoller(D1, V1)]);
}

/// A guest that takes what a selector at `at` announces: ports of words that are selected, and pending.
fn take(page: &HeapPage, at: usize, shared: &HeapPage) -> u32 {
    page.u8(at).unwrap().store(0, SeqCst);
    let selector = page.u64(at + 8).unwrap().swap(0, SeqCst);
    let words = (0..64).filter(|word| selector >> word & 1 == 1);
    words.map(|word| shared.u64(2048 + 8 * word).unwrap().swap(0, SeqCst).count_ones()).sum()
}

#[test]
fn registering_while_others_send_loses_no_event() {
    const ROUNDS: u32 = 3_000;
    const PORTS: u32 = 3;
    for round in 0..ROUNDS {
        let env = TestEnv::new();
        let new = frame(&env);
        // Ports in different words, so that each needs a selector bit of its own.
        let ports: Vec<Port> = (0..64 * PORTS).map(|_| env.engine.bind_ipi(D1, V1).unwrap()).collect();
        let start = AtomicBool::new(false);
        let sent = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !start.load(SeqCst) {
                    std::hint::spin_loop();
                }
                for word in 0..PORTS {
                    env.engine.send(D1, ports[64 * word as usize]).unwrap();
                    sent.fetch_add(1, SeqCst);
                }
            });
            start.store(true, SeqCst);
            (0..round % 64).for_each(|_| std::hint::spin_loop());
            env.engine.register_vcpu_info(D1, V1, FRAME, 0).unwrap();
        });
        assert_eq!(sent.load(SeqCst), PORTS);
        assert_eq!(take(&new, 0, env.page(D1)), PORTS, "round {round}");
        assert!(env.calls().contains(&delivered(D1, 1)));
    }
}

/// Waits for something that must come.
fn wait_for(what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < end, "an event was lost");
        thread::yield_now();
    }
}

#[test]
fn a_guest_that_looks_where_an_upcall_is_pending_gets_every_event_while_it_moves() {
    const ROUNDS: u32 = 3_000;
    let env = TestEnv::new();
    let (old, new) = (env.page(D1), frame(&env));
    let (near, far) = env.pair(D2, D1);
    let (sent, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                env.engine.send(D2, near).unwrap();
                wait_for(|| !env.pending(D1, far));
                sent.fetch_add(1, SeqCst);
            }
            sent.store(u32::MAX, SeqCst);
        });
        scope.spawn(|| {
            while sent.load(SeqCst) != u32::MAX {
                for area in [old, &new] {
                    if byte(area, 0) != 0 {
                        take(area, 0, old);
                    }
                }
            }
        });
        for _ in 0..ROUNDS {
            env.engine.register_vcpu_info(D1, V0, FRAME, 0).unwrap();
            env.engine.drop_vcpu_infos(D1).unwrap();
            // Whoever drops it, looks at all.
            old.u64(8).unwrap().store(u64::MAX, SeqCst);
            old.u8(0).unwrap().store(1, SeqCst);
        }
        wait_for(|| sent.load(SeqCst) > 100);
        stop.store(true, SeqCst);
    });
}

#[test]
fn two_that_register_at_once_do_not_both_succeed() {
    for _ in 0..500 {
        let env = TestEnv::new();
        frame(&env);
        let register = |offset| env.engine.register_vcpu_info(D1, V0, FRAME, offset);
        let results = thread::scope(|scope| {
            let other = scope.spawn(|| register(64));
            [register(0), other.join().unwrap()]
        });
        assert!(results.contains(&Ok(())) && results.contains(&Err(OpError::HasVcpuInfo)));
    }
}

#[test]
fn an_hvm_guest_is_told_its_own_way() {
    let config = DomainConfig { kind: DomainKind::Hvm, ..DomainConfig::guest(4) };
    let env = TestEnv::with(Level::Current, config);
    frame(&env);
    env.engine.register_vcpu_info(D1, V0, FRAME, 0).unwrap();
    assert_eq!(env.calls(), [], "it has not said how");
    env.engine.set_upcall_vector(D1, V1, 0x30).unwrap();
    env.calls();
    env.engine.register_vcpu_info(D1, V1, FRAME, 64).unwrap();
    assert_eq!(env.calls(), [Call::Deliver(D1, V1, Upcall::VcpuVector(0x30))]);
}
