// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIFO ABI, threads against each other: no event is lost, and the books balance.
//!
//! The senders' loops are finite, so a lost event is a failed assertion here, not a hang.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::fifo::{FifoEnv, Guest, OFFSET, array, control};
use common::{D0, D1, D2, TestEnv, V0};
use evtchn_abi::fifo::{LINKED, MASKED, PENDING};
use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_engine::{DomainConfig, Level, PollOutcome};

const ROUNDS: u32 = 20_000;

/// A number that a sender writes before each send, and what the handler saw of it.
#[derive(Default)]
struct Mail {
    sent: AtomicU32,
    seen: AtomicU32,
}

impl Mail {
    fn write(&self) {
        self.sent.fetch_add(1, SeqCst);
    }

    fn read(&self) {
        self.seen.store(self.sent.load(SeqCst), SeqCst);
    }
}

/// Runs `round` until all mail is read. An event that is lost shows as mail that stays unread although all is written. How
/// long the writing takes depends on what else the machine does.
fn until_read(mails: &[Mail], expected: u32, mut round: impl FnMut()) {
    let mut deadline = Instant::now() + Duration::from_secs(60);
    while mails.iter().any(|mail| mail.seen.load(SeqCst) != expected) {
        if mails.iter().any(|mail| mail.sent.load(SeqCst) != expected) {
            deadline = Instant::now() + Duration::from_secs(60);
        }
        assert!(Instant::now() < deadline, "an event was lost");
        round();
    }
}

fn random(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *state >> 8
}

#[test]
fn every_send_is_followed_by_a_handling() {
    let fifo = FifoEnv::new();
    let ports: [_; 4] = fifo.ports(0, 7);
    let mails: [Mail; 4] = Default::default();
    thread::scope(|scope| {
        for (mail, (send, _)) in mails.iter().zip(ports) {
            let fifo = &fifo;
            scope.spawn(move || {
                (0..ROUNDS).for_each(|_| {
                    mail.write();
                    fifo.send(send);
                });
            });
        }
        until_read(&mails, ROUNDS, || {
            fifo.guest.consume(0, |port| {
                let index = ports.iter().position(|&(_, known)| known == port).unwrap();
                mails[index].read();
            });
        });
    });
    fifo.guest.drain(0);
    assert!(ports.iter().all(|&(_, port)| fifo.guest.word(port).0 == 0));
}

#[test]
fn two_senders_to_one_port_lose_nothing() {
    let fifo = FifoEnv::new();
    let port = fifo.env.engine.bind_ipi(D1, V0).unwrap();
    let mails = [Mail::default()];
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                (0..ROUNDS).for_each(|_| {
                    mails[0].write();
                    fifo.env.engine.send(D1, port).unwrap();
                });
            });
        }
        until_read(&mails, 2 * ROUNDS, || drop(fifo.guest.consume(0, |_| mails[0].read())));
    });
}

#[test]
fn an_unmask_that_races_a_send_loses_nothing() {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(0, 7);
    let mails = [Mail::default()];
    thread::scope(|scope| {
        scope.spawn(|| {
            (0..ROUNDS).for_each(|_| {
                mails[0].write();
                fifo.send(send);
            });
        });
        until_read(&mails, ROUNDS, || {
            let mut fired = false;
            fifo.guest.consume(0, |port| {
                fifo.guest.cell(port).fetch_or(MASKED, SeqCst);
                mails[0].read();
                fired = true;
            });
            if fired {
                fifo.guest.unmask(&fifo.env, port);
            }
        });
    });
}

#[test]
fn ports_that_move_between_queues_lose_nothing() {
    let fifo = FifoEnv::new();
    let ports: [_; 3] = fifo.ports(0, 7);
    let mails: [Mail; 3] = Default::default();
    thread::scope(|scope| {
        // Two senders for each port, so that one links it while the other looks for its queue.
        for _ in 0..2 {
            scope.spawn(|| {
                for index in (0..ROUNDS).flat_map(|_| 0..3) {
                    mails[index].write();
                    fifo.send(ports[index].0);
                }
            });
        }
        let mut seed = 1;
        until_read(&mails, 2 * ROUNDS, || {
            let (_, port) = ports[random(&mut seed) as usize % 3];
            fifo.env.engine.bind_vcpu(D1, port, VcpuId(random(&mut seed) % 4)).unwrap();
            fifo.env.engine.set_priority(D1, port, random(&mut seed) % 16).unwrap();
            for vcpu in 0..4 {
                fifo.guest.consume(vcpu, |port| {
                    let index = ports.iter().position(|&(_, known)| known == port).unwrap();
                    mails[index].read();
                });
            }
        });
    });
    fifo.env.engine.validate().unwrap();
}

#[test]
fn a_poller_is_always_woken() {
    let fifo = FifoEnv::new();
    let [(send, port)] = fifo.ports(0, 7);
    fifo.guest.set_word(port, MASKED);
    let turn = AtomicU32::new(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let in_time = || assert!(Instant::now() < deadline, "a poller was not woken");
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                while turn.load(SeqCst) != round {
                    in_time();
                }
                fifo.send(send);
            }
        });
        for round in 0..ROUNDS {
            turn.store(round, SeqCst); // the send runs against the poll
            while !fifo.guest.word(port).is_pending() {
                if fifo.env.engine.sched_poll(D1, V0, &[port]).unwrap() == PollOutcome::Sleep {
                    while fifo.env.engine.is_polling(D1, V0) {
                        in_time();
                    }
                }
            }
            fifo.guest.cell(port).fetch_and(!PENDING, SeqCst);
        }
    });
}

#[test]
fn an_event_that_races_the_switch_or_the_array_is_announced_in_the_end() {
    for round in 0..500u32 {
        let env = TestEnv::with(Level::Current, DomainConfig { max_port: None, ..DomainConfig::guest(1) });
        let guest = Guest::new(&env, 1, 1);
        let ports = [(); 3].map(|()| env.pair(D2, D1));
        thread::scope(|scope| {
            scope.spawn(|| {
                for (send, _) in ports {
                    (0..round % 50 * 10).for_each(|_| std::hint::spin_loop());
                    env.engine.send(D2, send).unwrap();
                }
            });
            env.engine.init_control(D1, V0, control(0), OFFSET).unwrap();
            env.engine.expand_array(D1, array(0)).unwrap();
        });
        for (_, port) in ports {
            assert_eq!(guest.word(port).without(0x1_ffff).0, PENDING | LINKED, "round {round}");
        }
        assert_eq!(guest.consume(0, |_| ()).len(), 3);
    }
}

#[test]
fn everything_at_once_keeps_the_invariants() {
    let fifo = FifoEnv::new();
    let env = &fifo.env;
    let engine = &env.engine;
    let work = |seed: u32| {
        let mut seed = seed;
        let mut next = |below| random(&mut seed) % below;
        for _ in 0..ROUNDS / 4 {
            let (port, vcpu) = (Port(next(20)), VcpuId(next(4)));
            match next(40) {
                0..6 => drop(engine.alloc_unbound(D1, DomId::SELF, D2)),
                6..12 => drop(engine.bind_interdomain(D2, D1, port)),
                12..14 => drop(engine.bind_ipi(D1, vcpu)),
                14..18 => drop(engine.close(D1, port)),
                18..22 => drop(engine.bind_vcpu(D1, port, vcpu)),
                22..26 => drop(engine.set_priority(D1, port, next(17))),
                26..30 => drop(engine.unmask(D1, port)),
                30..32 => drop(engine.init_control(D1, vcpu, control(vcpu.0), OFFSET)),
                32..34 => drop(engine.expand_array(D1, array(next(2)))),
                34 => drop(engine.reset(D1, DomId::SELF)),
                35 => drop(engine.debug_dump(D1)),
                // The guest writes what it likes.
                _ => fifo.guest.cell(port).store(next(1 << 16) << 16, SeqCst),
            }
            let _ = engine.send(D2, port);
            let _ = engine.send(D1, port);
        }
    };
    thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (1..=3).map(|seed| scope.spawn(move || work(seed * 77))).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            engine.validate().unwrap();
            env.calls();
            thread::sleep(Duration::from_millis(1));
        }
    });
    engine.validate().unwrap();
    assert!(engine.destroy_domain(D1).is_ok() && engine.ports_in_use(D0).is_ok());
}
