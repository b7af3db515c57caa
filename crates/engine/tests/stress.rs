// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads against each other: nothing is lost, nothing deadlocks, the books balance.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use common::{D0, D1, D2, TestEnv, V0};
use evtchn_abi::{DomId, Layout, Port, VcpuId, Virq};
use evtchn_engine::PollOutcome;
use evtchn_guest::{InProcess, SelfNotify, TwoLevel, Vcpu};

const ROUNDS: u32 = 20_000;

#[test]
fn every_send_is_followed_by_a_handling() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D1, D2);
    let guest = TwoLevel::new(env.page(D2).clone(), &Layout::X86_64, SelfNotify::Local, [Vcpu::new()]);
    guest.bind_to_vcpu(far, V0);
    let (sent, seen) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                sent.store(round, SeqCst);
                env.engine.send(D1, near).unwrap();
            }
        });
        // A handler that runs after the last send must have seen its number.
        while seen.load(SeqCst) != ROUNDS {
            guest.upcall(V0, |_| seen.store(sent.load(SeqCst), SeqCst));
            std::hint::spin_loop();
        }
    });
    // The handler may have seen the last number before its own event came; that one is announced, too.
    guest.upcall(V0, |_| ());
    assert!(!env.pending(D2, far));
}

#[test]
fn an_unmask_that_races_a_send_loses_nothing() {
    for self_notify in [SelfNotify::Local, SelfNotify::Hypercall] {
        let env = TestEnv::new();
        let (near, far) = env.pair(D1, D2);
        let guest = TwoLevel::new(env.page(D2).clone(), &Layout::X86_64, self_notify, [Vcpu::new()]);
        guest.bind_to_vcpu(far, V0);
        let (sent, seen) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=ROUNDS {
                    sent.store(round, SeqCst);
                    env.engine.send(D1, near).unwrap();
                }
            });
            while seen.load(SeqCst) != ROUNDS {
                let mut fired = false;
                guest.upcall(V0, |port| {
                    guest.mask(port);
                    seen.store(sent.load(SeqCst), SeqCst);
                    fired = true;
                });
                if fired {
                    guest.unmask(far, V0, &InProcess::new(&env.engine, D2, V0)).unwrap();
                }
            }
        });
    }
}

#[test]
fn a_poller_is_always_woken() {
    let env = TestEnv::new();
    let (near, far) = env.pair(D1, D2);
    env.set_mask(D2, far, true);
    let turn = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                while turn.load(SeqCst) != round {
                    std::hint::spin_loop();
                }
                env.engine.send(D1, near).unwrap();
            }
        });
        for round in 0..ROUNDS {
            turn.store(round, SeqCst); // the send runs against the poll
            // The wake-up of the round before may come late and end this poll: poll again then.
            while !env.pending(D2, far) {
                if env.engine.sched_poll(D2, V0, &[far]).unwrap() == PollOutcome::Sleep {
                    while env.engine.is_polling(D2, V0) {
                        std::hint::spin_loop();
                    }
                }
            }
            env.set_pending(D2, far, false);
        }
    });
}

#[test]
fn both_ends_close_and_rebind_at_once() {
    let env = TestEnv::new();
    let work = |own: DomId, peer: DomId| {
        for _ in 0..ROUNDS / 4 {
            if let Ok(port) = env.engine.alloc_unbound(own, DomId::SELF, peer) {
                let _ = env.engine.send(own, port);
                let _ = env.engine.close(own, port);
            }
            if let Ok(port) = env.engine.bind_interdomain(own, peer, Port(1)) {
                let _ = env.engine.send(own, port);
                let _ = env.engine.close(own, port);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| work(D1, D2));
        scope.spawn(|| work(D2, D1));
    });
    env.engine.validate().unwrap();
    assert_eq!(env.engine.ports_in_use(D1), Ok((0, 0)));
    assert_eq!(env.engine.ports_in_use(D2), Ok((0, 0)));
}

#[test]
fn everything_at_once_keeps_the_invariants() {
    let env = TestEnv::new();
    let doms = [D0, D1, D2];
    let stop = AtomicBool::new(false);
    let work = |seed: u32| {
        let mut x = seed;
        for _ in 0..ROUNDS / 2 {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (dom, peer) = (doms[(x >> 8) as usize % 3], doms[(x >> 16) as usize % 3]);
            let (port, vcpu) = (Port((x >> 20) % 12), VcpuId((x >> 12) % 4));
            match (x >> 24) % 12 {
                0 | 1 => {
                    let _ = env.engine.alloc_unbound(dom, DomId::SELF, peer);
                }
                2 | 3 => {
                    let _ = env.engine.bind_interdomain(dom, peer, port);
                }
                4 | 5 => {
                    let _ = env.engine.close(dom, port);
                }
                6 => {
                    let _ = env.engine.bind_ipi(dom, vcpu);
                }
                7 => {
                    let _ = env.engine.bind_virq(dom, Virq::TIMER, vcpu);
                }
                8 => {
                    let _ = env.engine.raise_virq(dom, vcpu, Virq::TIMER);
                }
                9 => {
                    let _ = env.engine.bind_vcpu(dom, port, vcpu);
                }
                10 => {
                    let _ = env.engine.unmask(dom, port);
                }
                _ => {
                    let _ = env.engine.reset(dom, DomId::SELF);
                }
            }
            let _ = env.engine.send(dom, port);
        }
        stop.store(true, SeqCst);
    };
    thread::scope(|scope| {
        let work = &work;
        (1..=4).for_each(|seed| drop(scope.spawn(move || work(seed * 77))));
        while !stop.load(SeqCst) {
            env.engine.validate().unwrap();
            let _ = env.engine.hooks().take();
        }
    });
    env.engine.validate().unwrap();
}

#[test]
fn a_domain_dies_while_others_signal_it() {
    let env = TestEnv::new();
    let id = DomId(9);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                for port in (1..8).map(Port) {
                    let _ = env.engine.bind_interdomain(D1, id, port);
                    let _ = env.engine.send(D1, port);
                }
                let _ = env.engine.reset(D1, DomId::SELF);
            }
        });
        for _ in 0..500 {
            let config = evtchn_engine::DomainConfig::guest(1);
            env.engine.create_domain(id, config).unwrap();
            env.engine.set_shared_info(id, Some(evtchn_engine::test_utils::page())).unwrap();
            for _ in 1..8 {
                env.engine.alloc_unbound(id, DomId::SELF, D1).unwrap();
            }
            thread::yield_now();
            env.engine.destroy_domain(id).unwrap();
        }
        stop.store(true, SeqCst);
    });
}
