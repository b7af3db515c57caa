// SPDX-License-Identifier: MIT OR Apache-2.0
//! CC: everything at once.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use evtchn_abi::args::StatusKind;
use evtchn_abi::fifo::LINK_MASK;

use crate::fifo::{Fifo, L, P, array, control};
use crate::race::{Random, Stop, Watch};
use crate::world::*;
use crate::{Case, case, rounds};

pub const CASES: &[Case] = &[
    case(
        "CC-01",
        "all operations on four threads and four domains: no deadlock, and the books balance",
        || {
            let _watch = Watch::new();
            let w = Fifo::two_level();
            w.create(D3, guest());
            w.quiet();
            let steps = rounds(20_000, 10_000_000) / 4;
            thread::scope(|scope| {
                let w = &w;
                let workers: Vec<_> = (1..=4).map(|seed| scope.spawn(move || work(w, seed, steps))).collect();
                while workers.iter().any(|worker| !worker.is_finished()) {
                    w.engine.validate().unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
            });
            w.engine.validate().unwrap();
            // Whatever the mix was, all of it can be closed.
            for dom in DOMAINS {
                assert_eq!(w.reset(dom, SELF), 0);
                assert_eq!(w.counts(dom), (0, 0));
            }
        },
    ),
    case("CC-02", "a record that can be seen is complete, and stays", || {
        for _ in 0..rounds(10, 500) {
            let w = World::unlimited();
            let stop = Stop::default();
            thread::scope(|scope| {
                let end = stop.at_end();
                let reader = scope.spawn(|| {
                    let (mut seen, mut looks) = (0, 0);
                    while !stop.is_set() || looks == 0 {
                        looks += 1;
                        while let Ok((kind, vcpu)) = w.status(D1, SELF, seen) {
                            let free = kind == StatusKind::Closed && vcpu == 0;
                            let opened = kind == StatusKind::Ipi && vcpu == seen % 4;
                            assert!(free || opened, "port {seen}: {kind:?} for vCPU {vcpu}");
                            seen += 1;
                        }
                        assert!(seen == 0 || w.status(D1, SELF, seen - 1).is_ok());
                        assert_eq!((seen % 64, w.unmask(D1, seen / 2)), (0, 0));
                    }
                });
                for p in 1..4096 {
                    assert_eq!(w.bind_ipi(D1, p % 4), i64::from(p));
                }
                drop(end);
                reader.join().unwrap();
            });
        }
    }),
    case("CC-03", "a raise while a control block appears: queued with its HEAD, or dropped", || {
        for round in 0..rounds(1_000, 50_000) {
            let w = Fifo::two_level();
            w.switch(1);
            w.expand(0);
            let (near, p) = w.pair(D2, D1);
            assert_eq!(w.bind_vcpu(D1, p, 1), 0);
            thread::scope(|scope| {
                scope.spawn(|| {
                    (0..round % 50 * 10).for_each(|_| std::hint::spin_loop());
                    assert_eq!(w.send(D2, near), 0);
                });
                assert_eq!(w.init_control(D1, 1, control(1), 0), 17);
            });
            let seen = (w.word(p), w.head(1, 7), w.ready(1));
            assert!([(0, 0, 0), (P | L, p, 1 << 7)].contains(&seen), "round {round}: {seen:x?}");
            assert_eq!((w.send(D2, near), w.handled(1)), (0, vec![p]), "round {round}");
        }
    }),
    case(
        "CC-04",
        "a raise while the ABI changes: by the old one or the new one, and announced in the end",
        || {
            for round in 0..rounds(500, 20_000) {
                let w = Fifo::two_level();
                let pairs = [(); 3].map(|()| w.pair(D2, D1));
                thread::scope(|scope| {
                    scope.spawn(|| {
                        for (near, _) in pairs {
                            (0..round % 50 * 10).for_each(|_| std::hint::spin_loop());
                            assert_eq!(w.send(D2, near), 0);
                        }
                    });
                    w.switch(1);
                    w.expand(0);
                });
                for (_, p) in pairs {
                    assert_eq!(w.word(p) & !LINK_MASK, P | L, "round {round}");
                }
                let mut handled = w.handled(0);
                handled.sort_unstable();
                assert_eq!(handled, pairs.map(|(_, p)| p), "round {round}");
            }
        },
    ),
    case(
        "CC-05",
        "operations that lock two domains or queues in opposite orders do not wait for ever",
        || {
            // The engine's locks are private; that they have one order shows in that every pair of paths comes to its end.
            let _watch = Watch::new();
            let w = Fifo::new(1);
            w.quiet();
            let channels: [_; 2] = w.channels(0, 7);
            let rounds = rounds(200, 2_000);
            let cross = |me: u16, other: u16| {
                for _ in 0..rounds {
                    let far = w.au(D0, other, me);
                    if far > 0 {
                        let near = w.bi(me, other, port(far));
                        assert!(near > 0 || near == EINVAL, "{near}");
                        if near > 0 {
                            let _ = w.send(me, port(near));
                            let _ = w.close(me, port(near));
                        }
                        let _ = w.close(other, port(far));
                    }
                    let _ = w.status(D0, other, 1);
                }
            };
            let move_queues = |first: u32, second: u32| {
                for _ in 0..rounds {
                    for (vcpu, (near, p)) in [(first, channels[0]), (second, channels[1])] {
                        assert_eq!(w.bind_vcpu(D1, p, vcpu), 0);
                        w.cell(p).store(0, SeqCst);
                        w.raise(near);
                    }
                }
            };
            let (cross, move_queues) = (&cross, &move_queues);
            thread::scope(|scope| {
                scope.spawn(move || cross(D0, D2));
                scope.spawn(move || cross(D2, D0));
                scope.spawn(move || move_queues(0, 1));
                scope.spawn(move || move_queues(1, 0));
                scope.spawn(|| (0..rounds).for_each(|_| w.engine.validate().unwrap()));
            });
        },
    ),
    case("CC-06", "a VIRQ that is raised while its port is closed comes before or after (Q7)", || {
        // Xen gives up on a busy lock and drops the event. The engine waits for one operation at most.
        let w = World::new();
        w.quiet();
        for _ in 0..rounds(2_000, 100_000) {
            let p = port(w.bind_virq(D1, TIMER, 0));
            let (_came, closed) = thread::scope(|scope| {
                let raiser = scope.spawn(|| w.raise_virq(D1, 0, TIMER));
                let closed = w.close(D1, p);
                (raiser.join().unwrap(), closed)
            });
            assert_eq!((closed, w.pending(D1, p), w.raise_virq(D1, 0, TIMER)), (0, false, false));
        }
    }),
];

const DOMAINS: [u16; 4] = [D0, D1, D2, D3];

/// Random operations of random domains.
fn work(w: &Fifo, seed: u64, steps: u32) {
    let mut random = Random::new(seed);
    for _ in 0..steps {
        let (caller, other) = (random.of(&DOMAINS), random.of(&DOMAINS));
        let (p, vcpu) = (random.below(24), random.below(4));
        match random.below(40) {
            0..=4 => drop(w.au(caller, SELF, other)),
            5..=9 => drop(w.bi(caller, other, p)),
            10 => drop(w.bind_ipi(caller, vcpu)),
            11 => drop(w.bind_virq(caller, random.below(24), vcpu)),
            12 => drop(w.bind_pirq(caller, random.below(32), 1)),
            13..=16 => drop(w.close(caller, p)),
            17..=23 => drop(w.send(caller, p)),
            24..=25 => drop(w.unmask(caller, p)),
            26..=27 => drop(w.bind_vcpu(caller, p, vcpu)),
            28 => drop(w.set_priority(caller, p, random.below(16))),
            29 => drop((w.poll(caller, vcpu, &[p], 0), w.finish_poll(caller, vcpu))),
            30 => drop(w.status(caller, other, p)),
            31 => drop(w.raise_virq(caller, vcpu, TIMER)),
            32 => drop(w.raise_global(random.of(&[CONSOLE, DOM_EXC]))),
            33 => drop(w.raise_pirq(caller, random.below(32))),
            34 => drop(w.set_virq_handler(CONSOLE, other)),
            35 => drop(w.init_control(D1, vcpu, control(vcpu), 0)),
            36 => drop(w.expand_array(D1, array(random.below(2)))),
            37 if random.below(10) == 0 => reset(w, caller),
            38 => drop(w.engine.debug_dump(evtchn_abi::DomId(caller))),
            _ => w.set_mask(caller, p, random.below(2) == 0),
        }
    }
}

/// Domain 1 clears its words, too. Otherwise its ports would stay linked for ever, and all the time go into passing them over.
fn reset(w: &Fifo, caller: u16) {
    let _ = w.reset(caller, SELF);
    if caller == D1 {
        (0..2048).for_each(|p| w.set_word(p, 0));
    }
}
