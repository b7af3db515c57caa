// SPDX-License-Identifier: MIT OR Apache-2.0
//! L2: the two-level layout and algorithm.

use std::sync::Barrier;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use evtchn_engine::{DomainConfig, DomainKind, Width};
use evtchn_sync::Page;

use crate::race::{Mail, Random, Watch, until_read};
use crate::world::*;
use crate::{Case, case, rounds};

/// All sixteen combinations of the four bits.
fn combinations() -> impl Iterator<Item = String> {
    let text =
        |n: u32| "PMSU".chars().enumerate().map(move |(i, bit)| if n >> i & 1 == 1 { bit } else { '.' });
    (0..16).map(move |n| text(n).collect())
}

/// A port of domain 1 with these bits, on which vCPU 1 polls; what `act` makes of them: the bits, upcalls, polls that ended.
fn after(before: &str, act: impl FnOnce(&World, u32, u32)) -> (String, usize, usize) {
    let w = World::new();
    let (near, p) = w.pair(D2, D1);
    assert_eq!(w.poll(D1, 1, &[p], 0), SLEEPS);
    w.set_bits(D1, p, 0, before);
    act(&w, near, p);
    (w.bits(D1, p, 0), w.delivered().len(), w.woken().len())
}

/// Does the text have the letter?
fn has(bits: &str, letter: char) -> bool {
    bits.contains(letter)
}

/// The bits with more of them set.
fn with(bits: &str, more: &str) -> String {
    "PMSU".chars().zip(bits.chars()).map(|(bit, was)| if has(more, bit) { bit } else { was }).collect()
}

/// Which bytes of a page differ from an earlier snapshot, and their value now.
fn changes(w: &World, dom: u16, before: &[u8]) -> Vec<(usize, u8)> {
    let now = snapshot(w.page(dom));
    (0..4096).filter(|&at| now[at] != before[at]).map(|at| (at, now[at])).collect()
}

pub const CASES: &[Case] = &[
    case(
        "L2-01",
        "64-bit: pending bits are at 2048, mask bits at 2560, the selector at 8 of vcpu_info",
        || {
            for p in [1, 63, 64, 1000, 4095] {
                let w = World::unlimited();
                w.fill_to(D1, p);
                let before = snapshot(w.page(D1));
                assert_eq!(w.send(D1, p), 0);
                let (bit, word) = (1 << (p % 8), p / 64);
                let selector = (8 + word as usize / 8, 1 << (word % 8));
                let pending = (2048 + p as usize / 8, bit);
                assert_eq!(changes(&w, D1, &before), [(0, 1), selector, pending], "{p}");
                w.page(D1).u8(2560 + p as usize / 8).unwrap().store(bit, SeqCst);
                assert_eq!(w.unmask(D1, p), 0);
                assert_eq!(byte(w.page(D1), 2560 + p as usize / 8), 0);
            }
        },
    ),
    case(
        "L2-02",
        "32-bit: pending bits are at 2048, mask bits at 2176, the selector at 4 of vcpu_info",
        || {
            for p in [1, 31, 32, 1000, 1023] {
                let w = World::narrow();
                w.fill_to(D1, p);
                let before = snapshot(w.page(D1));
                assert_eq!(w.send(D1, p), 0);
                let (bit, word) = (1 << (p % 8), p / 32);
                let selector = (4 + word as usize / 8, 1 << (word % 8));
                let pending = (2048 + p as usize / 8, bit);
                assert_eq!(changes(&w, D1, &before), [(0, 1), selector, pending], "{p}");
                w.page(D1).u8(2176 + p as usize / 8).unwrap().store(bit, SeqCst);
                assert_eq!(w.unmask(D1, p), 0);
                assert_eq!(byte(w.page(D1), 2176 + p as usize / 8), 0);
            }
        },
    ),
    case("L2-03", "a raise follows the truth table in all sixteen states", || {
        for before in combinations() {
            let expected = match () {
                () if has(&before, 'P') => (before.clone(), 0, 0),
                () if has(&before, 'M') || has(&before, 'S') => (with(&before, "P"), 0, 1),
                () if has(&before, 'U') => (with(&before, "PS"), 0, 1),
                () => (with(&before, "PSU"), 1, 1),
            };
            assert_eq!(after(&before, |w, near, _| assert_eq!(w.send(D2, near), 0)), expected, "{before}");
        }
    }),
    case("L2-04", "an unmask follows the truth table in all sixteen states", || {
        for before in combinations() {
            let open = before.replace('M', ".");
            let uncovered = has(&before, 'M') && has(&before, 'P') && !has(&before, 'S');
            let expected = match uncovered {
                false => (open, 0, 0),
                true => (with(&open, "SU"), usize::from(!has(&before, 'U')), 0),
            };
            assert_eq!(after(&before, |w, _, p| assert_eq!(w.unmask(D1, p), 0)), expected, "{before}");
        }
    }),
    case("L2-05", "a guest that leaves a port pending is not told again until it unmasks", || {
        let w = World::new();
        let (near, p) = w.pair(D2, D1);
        assert_eq!(w.send(D2, near), 0);
        w.set_bits(D1, p, 0, "PM..");
        assert_eq!((w.send(D2, near), w.bits(D1, p, 0)), (0, "PM..".into()));
        w.set_mask(D1, p, false);
        assert_eq!((w.send(D2, near), w.bits(D1, p, 0), w.delivered().len()), (0, "P...".into(), 1));
        w.set_mask(D1, p, true);
        assert_eq!((w.unmask(D1, p), w.bits(D1, p, 0), w.delivered().len()), (0, "P.SU".into(), 1));
    }),
    case("L2-06", "a guest that clears U, S, then P loses no event", || {
        let w = World::new();
        let pairs = [(); 3].map(|()| w.pair(D2, D1));
        w.quiet();
        let rounds = rounds(20_000, 1_000_000);
        let mails: [Mail; 3] = Default::default();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..rounds {
                    for (mail, (near, _)) in mails.iter().zip(pairs) {
                        mail.write();
                        assert_eq!(w.send(D2, near), 0);
                    }
                }
            });
            until_read(&mails, rounds, || {
                if w.get(D1, Bit::U, 0, 0) {
                    w.scan(D1, 0, |port| {
                        mails[pairs.iter().position(|&(_, p)| p == port).unwrap()].read();
                    });
                }
            });
        });
    }),
    case("L2-07", "a raise of a masked port wakes its poller", || {
        assert_eq!(after(".M..", |w, near, _| assert_eq!(w.send(D2, near), 0)), ("PM..".into(), 0, 1));
    }),
    case("L2-08", "a raise of a pending port does not", || {
        assert_eq!(after("P...", |w, near, _| assert_eq!(w.send(D2, near), 0)), ("P...".into(), 0, 0));
    }),
    case("L2-09", "vCPU 31 has a place in the page; of vCPU 32 only the pending bit is seen", || {
        for (vcpu, written) in [(31, 3), (32, 1)] {
            let w = World::with(|one| *one = DomainConfig::guest(40));
            let p = port(w.bind_ipi(D1, vcpu));
            let before = snapshot(w.page(D1));
            assert_eq!(w.send(D1, p), 0);
            let changed = changes(&w, D1, &before);
            assert_eq!((changed.len(), changed.last()), (written, Some(&(2048, 1 << p))));
            assert_eq!(w.delivered(), if vcpu == 31 { vec![(D1, 31)] } else { vec![] });
        }
    }),
    case("L2-10", "a guest that scribbles over its page harms nobody else", || {
        let w = World::new();
        let (_, far) = w.pair(D1, D2);
        w.fill_to(D1, 200);
        w.quiet();
        let others = [D0, D2].map(|dom| snapshot(w.page(dom)));
        let mut random = Random::new(10);
        for _ in 0..rounds(20_000, 1_000_000) {
            w.page(D1).u32(random.below(1024) as usize * 4).unwrap().store(random.next(), SeqCst);
            let p = random.below(220);
            match random.below(6) {
                0 => drop(w.unmask(D1, p)),
                1 => drop(w.poll(D1, 2, &[p], 0)),
                2 => drop(w.status(D1, SELF, p)),
                3 if p > 1 => drop((w.close(D1, p), w.bind_ipi(D1, random.below(4)))),
                4 => drop(w.bind_vcpu(D1, p, random.below(4))),
                // Not port 1, which would rightly raise domain 2's.
                _ if p > 1 => drop(w.send(D1, p)),
                _ => assert_eq!(w.send(D2, far), 0),
            }
            w.finish_poll(D1, 2);
        }
        assert_eq!([D0, D2].map(|dom| snapshot(w.page(dom))), others);
    }),
    case("L2-11", "after a guest has narrowed its layout, ports beyond it are dropped (Q2)", || {
        // Xen has no check there and writes behind the bits.
        let w = World::with(|one| {
            one.kind = DomainKind::Hvm;
            one.max_port = None;
        });
        w.fill_to(D1, 2000);
        w.set_width(D1, Width::Bits32);
        let before = snapshot(w.page(D1));
        assert_eq!((w.send(D1, 2000), w.unmask(D1, 2000)), (0, 0));
        assert_eq!((changes(&w, D1, &before), w.delivered()), (vec![], vec![]));
        assert_eq!((w.send(D1, 1000), w.pending(D1, 1000)), (0, true));
    }),
    case("L2-12", "raise, unmask and consume at once: what is pending and unmasked is announced", || {
        let _watch = Watch::new();
        let w = World::new();
        let (near, p) = w.pair(D2, D1);
        w.quiet();
        let rounds = rounds(5_000, 500_000);
        let (begin, end) = (Barrier::new(3), Barrier::new(3));
        let in_step = |act: &dyn Fn()| {
            for _ in 0..rounds {
                begin.wait();
                act();
                end.wait();
            }
        };
        let failed = thread::scope(|scope| {
            scope.spawn(|| in_step(&|| assert_eq!(w.send(D2, near), 0)));
            scope.spawn(|| in_step(&|| assert_eq!(w.unmask(D1, p), 0)));
            let mut failed = None;
            for round in 0..rounds {
                w.set_bits(D1, p, 0, [".M..", "PM..", "....", "PMS."][round as usize % 4]);
                begin.wait();
                w.scan(D1, 0, |_| ());
                end.wait();
                let bits = w.bits(D1, p, 0);
                if has(&bits, 'P') && !has(&bits, 'M') && !has(&bits, 'S') {
                    failed.get_or_insert(round);
                }
            }
            failed
        });
        assert_eq!(failed, None, "a round left an event unannounced");
    }),
];
