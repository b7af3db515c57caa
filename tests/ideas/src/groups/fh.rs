// SPDX-License-Identifier: MIT OR Apache-2.0
//! FH: a hostile guest.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::{Duration, Instant};

use evtchn_abi::fifo::LINK_MASK;
use evtchn_sync::{HeapPage, Page};

use crate::alloc::growth;
use crate::fifo::{B, Fifo, L, P, array, control};
use crate::race::{Random, Stop};
use crate::world::*;
use crate::{Case, case, rounds};

/// One of bits 27 to 17, which nobody uses.
const UNUSED: u32 = 1 << 20;

/// Two channels to queue 7 of vCPU 0, with nothing written down.
fn two() -> (Fifo, [(u32, u32); 2]) {
    let w = Fifo::new(1);
    let channels = w.channels(0, 7);
    w.quiet();
    (w, channels)
}

/// The queue holds `tail` alone, and the guest has taken READY and HEAD.
fn only_tail(w: &Fifo, tail: (u32, u32), other: u32) {
    w.set_word(other, 0);
    w.set_word(tail.1, 0);
    w.raise(tail.0);
    w.ready_cell(0).store(0, SeqCst);
    w.head_cell(0, 7).store(0, SeqCst);
}

pub const CASES: &[Case] = &[
    case("FH-01", "a guest that rewrites the tail without end does not hold senders up", || {
        let (w, [tail, (near, p)]) = two();
        let stop = Stop::default();
        let rounds = rounds(20_000, 1_000_000);
        thread::scope(|scope| {
            let _end = stop.at_end();
            scope.spawn(|| {
                while !stop.is_set() {
                    w.cell(tail.1).fetch_xor(UNUSED, SeqCst);
                }
            });
            let begun = Instant::now();
            for _ in 0..rounds {
                only_tail(&w, tail, p);
                w.raise(near);
                assert_eq!(w.word(p), P | L);
            }
            assert!(begun.elapsed() < Duration::from_millis(5) * rounds, "{:?}", begun.elapsed());
        });
    }),
    case("FH-02", "however often the tail changes, the event counts as linked and BUSY is clear", || {
        // Whether five attempts fail in a row is up to the race; what follows holds for any number.
        let (w, [tail, (near, p)]) = two();
        let stop = Stop::default();
        thread::scope(|scope| {
            let _end = stop.at_end();
            for bit in [UNUSED, UNUSED << 1] {
                let (w, stop) = (&w, &stop);
                scope.spawn(move || {
                    while !stop.is_set() {
                        w.cell(tail.1).fetch_xor(bit, SeqCst);
                    }
                });
            }
            for _ in 0..rounds(20_000, 1_000_000) {
                only_tail(&w, tail, p);
                w.raise(near);
                assert_eq!((w.word(p), w.head(0, 7), w.ready(0)), (P | L, 0, 0));
                assert_eq!(w.word(tail.1) & B, 0);
            }
        });
    }),
    case("FH-03", "a tail that the guest takes off meanwhile: a new HEAD or a link, never neither", || {
        let (w, [tail, (near, p)]) = two();
        for round in 0..rounds(5_000, 200_000) {
            only_tail(&w, tail, p);
            let taken = thread::scope(|scope| {
                let guest = scope.spawn(|| {
                    (0..round % 40 * 5).for_each(|_| std::hint::spin_loop());
                    w.cell(tail.1).fetch_and(!(L | LINK_MASK), SeqCst)
                });
                w.raise(near);
                guest.join().unwrap()
            });
            let expected = if taken & LINK_MASK == p { (0, 0) } else { (p, 1 << 7) };
            assert_eq!((w.head(0, 7), w.ready(0)), expected, "round {round}");
            assert_eq!((w.word(p), w.word(tail.1) & B), (P | L, 0), "round {round}");
        }
    }),
    case("FH-04", "BUSY that the guest has set itself is cleared with the link", || {
        let (w, [tail, (near, p)]) = two();
        w.raise(tail.0);
        w.set_word(tail.1, P | L | B);
        w.raise(near);
        assert_eq!(w.word(tail.1), P | L | p);
    }),
    case(
        "FH-05",
        "LINKED that the guest has set in an idle word: pending, never queued, 0 to the sender",
        || {
            let (w, [(near, p), _]) = two();
            w.set_word(p, L);
            w.raise(near);
            assert_eq!((w.word(p), w.head(0, 7), w.ready(0)), (P | L, 0, 0));
        },
    ),
    case("FH-06", "loops of links and HEADs of rubbish are never followed", || {
        let (w, [(first, a), (second, b)]) = two();
        let mut random = Random::new(6);
        for _ in 0..1_000 {
            w.set_word(a, L | b | random.next() & 0xe000_0000);
            w.set_word(b, L | a | random.next() & 0xe000_0000);
            (0..16).for_each(|queue| w.head_cell(0, queue).store(random.next(), SeqCst));
            w.raise(first);
            w.raise(second);
        }
        for p in [a, b] {
            w.set_word(p, 0);
        }
        w.ready_cell(0).store(0, SeqCst);
        w.raise(first);
        assert_eq!((w.word(a), w.head(0, 7), w.ready(0)), (P | L, a, 1 << 7));
    }),
    case("FH-07", "a guest that changes the priority meanwhile gets the event on one of its queues", || {
        // Xen drops the event after three looks at the changing queue. The engine takes one that the port has had meanwhile,
        // so nothing is dropped.
        let (w, [(near, p), _]) = two();
        let stop = Stop::default();
        thread::scope(|scope| {
            let _end = stop.at_end();
            scope.spawn(|| {
                for priority in (0..16).cycle().take_while(|_| !stop.is_set()) {
                    assert_eq!(w.set_priority(D1, p, priority), 0);
                }
            });
            for round in 0..rounds(5_000, 500_000) {
                w.raise(near);
                assert_eq!((w.word(p), w.ready(0).count_ones()), (P | L, 1), "round {round}");
                assert_eq!(w.handled(0), [p], "round {round}");
            }
        });
    }),
    case("FH-08", "a control block inside a page of the array corrupts that page alone", || {
        let w = Fifo::two_level();
        for vcpu in 0..4 {
            assert_eq!(w.init_control(D1, vcpu, array(0), vcpu * 8), 17);
        }
        w.expand(0);
        let others = [w.page(D0).clone(), w.page(D2).clone(), w.frame(D1, array(1)), w.frame(D1, control(0))];
        let before = others.clone().map(|page| snapshot(&page));
        w.fill_to(D1, 300);
        for p in (1..301).chain((1..301).rev()) {
            assert_eq!(w.send(D1, p), 0);
            assert_eq!(w.unmask(D1, p), 0);
        }
        assert_eq!(others.map(|page| snapshot(&page)), before);
        assert_eq!(w.reset(D1, SELF), 0);
    }),
    case("FH-09", "a guest that flips READY gets no more upcalls than events", || {
        let (w, [(near, p), _]) = two();
        w.engine.hooks().quiet.store(false, SeqCst);
        let rounds = rounds(20_000, 1_000_000);
        let stop = Stop::default();
        thread::scope(|scope| {
            let _end = stop.at_end();
            scope.spawn(|| {
                while !stop.is_set() {
                    w.ready_cell(0).fetch_xor(!0, SeqCst);
                    w.set(D1, Bit::U, 0, 0, false);
                }
            });
            for _ in 0..rounds {
                w.set_word(p, 0);
                w.raise(near);
            }
        });
        assert!(w.delivered().len() <= rounds as usize);
    }),
    case(
        "FH-10",
        "random operations and random writes: no panic, no harm to others, the books balance",
        || {
            fuzz(&Fifo::new(2), rounds(40_000, 50_000_000));
            fuzz(&Fifo::two_level(), rounds(40_000, 50_000_000));
        },
    ),
    case("FH-11", "an upcall byte of 0xff is an upcall that is pending", || {
        let w = World::new();
        let (near, p) = w.pair(D2, D1);
        w.page(D1).u8(0).unwrap().store(0xff, SeqCst);
        assert_eq!((w.send(D2, near), w.bits(D1, p, 0), w.delivered()), (0, "P.SU".into(), vec![]));
        assert_eq!(byte(w.page(D1), 0), 0xff);
    }),
    case("FH-12", "ports that are closed while linked use up numbers, and no more memory", || {
        let w = Fifo::with(1, |_| ());
        let wear_out = || {
            let answer = w.bind_ipi(D1, 0);
            if answer > 0 {
                w.set_word(port(answer), L);
                assert_eq!(w.close(D1, port(answer)), 0);
            }
            answer
        };
        assert!((1..1024).all(|expected| wear_out() == expected));
        let rounds = rounds(4_000, 1_000_000);
        assert_eq!(growth(|| assert!((0..rounds).all(|_| wear_out() == ENOSPC))), 0);
        w.set_word(77, 0);
        assert_eq!((w.bind_ipi(D1, 0), w.counts(D1)), (77, (1, 0)));
    }),
];

/// Domain 1 does what it likes with its hypercalls and pages; domains 0 and 2 do nothing.
fn fuzz(w: &Fifo, steps: u32) {
    w.quiet();
    let others = [D0, D2].map(|dom| (w.counts(dom), snapshot(w.page(dom))));
    let shared: Vec<Arc<HeapPage>> = (0..4)
        .map(|vcpu| w.frame(D1, control(vcpu)))
        .chain((0..2).map(|page| w.frame(D1, array(page))))
        .chain([w.page(D1).clone()])
        .collect();
    let mut random = Random::new(10);
    for step in 0..steps {
        let (p, vcpu) = (random.below(80), random.below(5));
        match random.below(24) {
            0..=2 => drop(w.bind_ipi(D1, vcpu)),
            3 => drop(w.bind_virq(D1, random.below(25), vcpu)),
            4 => drop(w.au(D1, SELF, SELF)),
            5 => drop(w.bi(D1, SELF, p)),
            6 => drop(w.close(D1, p)),
            7..=9 => drop(w.send(D1, p)),
            10..=11 => drop(w.unmask(D1, p)),
            12 => drop(w.bind_vcpu(D1, p, vcpu)),
            13 => drop(w.set_priority(D1, p, random.below(17))),
            14 => drop((w.poll(D1, vcpu, &[p], 0), w.finish_poll(D1, vcpu))),
            15 => drop(w.status(D1, SELF, p)),
            16 => drop(w.engine.raise_virq(
                evtchn_abi::DomId(D1),
                evtchn_abi::VcpuId(vcpu),
                evtchn_abi::Virq(0),
            )),
            17 if random.below(50) == 0 => drop(w.reset(D1, SELF)),
            17 => drop(w.init_control(D1, vcpu, control(random.below(6)), random.below(5) * 8)),
            18 if random.below(20) == 0 => drop(w.expand_array(D1, array(random.below(2)))),
            _ => {
                let page = random.of(&[0, 1, 2, 3, 4, 4, 5, 6, 6]);
                let at = random.below(128) + random.of(&[0, 512, 640]);
                shared[page].u32(at as usize * 4).unwrap().store(random.next(), SeqCst);
            }
        }
        if step % 1024 == 0 {
            w.engine.validate().unwrap();
        }
    }
    assert_eq!([D0, D2].map(|dom| (w.counts(dom), snapshot(w.page(dom)))), others);
}
