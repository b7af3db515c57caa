// SPDX-License-Identifier: MIT OR Apache-2.0
//! UM: `unmask`.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use crate::fifo::{Fifo, L, M, P};
use crate::race::{Mail, until_read};
use crate::world::*;
use crate::{Case, case, rounds};

/// The bits of a port of domain 1 after it was unmasked with `before` in them, and the upcalls.
fn unmasked(before: &str) -> (String, usize) {
    let w = World::new();
    let (_, p) = w.pair(D2, D1);
    w.set_bits(D1, p, 0, before);
    assert_eq!(w.unmask(D1, p), 0);
    (w.bits(D1, p, 0), w.delivered().len())
}

/// A FIFO port on vCPU 0, queue 7, after it was unmasked with `before` in its word: the word, and HEAD, READY and upcalls.
fn unmasked_word(before: u32) -> (u32, (bool, u32, usize)) {
    let w = Fifo::new(1);
    let (_, p) = w.channel(0, 7);
    w.set_word(p, before);
    assert_eq!(w.unmask(D1, p), 0);
    (w.word(p), (w.head(0, 7) == p, w.ready(0), w.delivered().len()))
}

/// Queued on queue 7 with an upcall.
const QUEUED: (bool, u32, usize) = (true, 1 << 7, 1);
const NOT_QUEUED: (bool, u32, usize) = (false, 0, 0);

pub const CASES: &[Case] = &[
    case("UM-01", "nothing pending: the mask is cleared, and no more", || {
        assert_eq!(unmasked(".M.."), ("....".into(), 0));
    }),
    case("UM-02", "what is pending is selected and announced, with one delivery", || {
        assert_eq!(unmasked("PM.."), ("P.SU".into(), 1));
    }),
    case("UM-03", "an unmasked port is left alone, though it is pending", || {
        assert_eq!(unmasked("P..."), ("P...".into(), 0));
    }),
    case("UM-04", "a selected word gives no delivery", || {
        assert_eq!(unmasked("PMS."), ("P.S.".into(), 0));
    }),
    case("UM-05", "free ports and port 0 keep their mask, with success", || {
        let w = World::new();
        for port in [0, 9] {
            w.set_bits(D1, port, 0, "PM..");
            assert_eq!((w.unmask(D1, port), w.bits(D1, port, 0)), (0, "PM..".into()));
        }
    }),
    case("UM-06", "a port without a record is EINVAL", || {
        let w = World::new();
        assert_eq!([64, u32::MAX].map(|port| w.unmask(D1, port)), [EINVAL; 2]);
    }),
    case("UM-07", "what Xen consumes keeps its mask, with success", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D2));
        w.set_bits(D1, p, 0, "PM..");
        assert_eq!((w.unmask(D1, p), w.bits(D1, p, 0)), (0, "PM..".into()));
    }),
    case("UM-08", "the port's vCPU is told, not the caller's", || {
        // The operation does not know which vCPU called: the port's alone decides.
        for vcpu in [0, 1] {
            let w = World::new();
            let (_, p) = w.pair(D2, D1);
            assert_eq!(w.bind_vcpu(D1, p, vcpu), 0);
            w.set_bits(D1, p, vcpu, "PM..");
            assert_eq!((w.unmask(D1, p), w.delivered()), (0, vec![(D1, vcpu)]));
            assert_eq!(w.bits(D1, p, vcpu), "P.SU");
        }
    }),
    case("UM-09", "FIFO: what is pending is linked, with HEAD, READY and an upcall", || {
        assert_eq!(unmasked_word(P | M), (P | L, QUEUED));
    }),
    case("UM-10", "FIFO: so it is if the mask was clear already", || {
        assert_eq!(unmasked_word(P), (P | L, QUEUED));
    }),
    case("UM-11", "FIFO: nothing pending: the mask is cleared, and no more", || {
        assert_eq!(unmasked_word(M), (0, NOT_QUEUED));
    }),
    case("UM-12", "FIFO: a linked port is not linked twice", || {
        assert_eq!(unmasked_word(P | M | L), (P | L, NOT_QUEUED));
    }),
    case("UM-13", "FIFO: a port without a word: success", || {
        let w = Fifo::new(0);
        assert_eq!((w.bind_ipi(D1, 0), w.unmask(D1, 1)), (1, 0));
    }),
    case("UM-14", "an unmask that races a raise loses no event, with either ABI", || {
        let rounds = rounds(20_000, 1_000_000);
        race_two_level(rounds);
        race_fifo(rounds);
    }),
    case("UM-15", "an unmask wakes no poller of the port", || {
        let w = World::new();
        let (_, p) = w.pair(D2, D1);
        w.set_mask(D1, p, true);
        assert_eq!(w.poll(D1, 1, &[p], 0), SLEEPS);
        w.set_pending(D1, p, true);
        assert_eq!((w.unmask(D1, p), w.bits(D1, p, 0)), (0, "P.SU".into()));
        assert_eq!((w.woken(), w.is_polling(D1, 1)), (vec![], true));
    }),
];

fn race_two_level(rounds: u32) {
    let w = World::new();
    let (near, p) = w.pair(D2, D1);
    w.quiet();
    let mails = [Mail::default()];
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                mails[0].write();
                assert_eq!(w.send(D2, near), 0);
            }
        });
        until_read(&mails, rounds, || {
            if w.get(D1, Bit::U, p, 0) {
                w.scan(D1, 0, |port| {
                    w.set_mask(D1, port, true);
                    mails[0].read();
                });
                assert_eq!(w.unmask(D1, p), 0);
            }
        });
    });
}

fn race_fifo(rounds: u32) {
    let w = Fifo::new(1);
    let (near, p) = w.channel(0, 7);
    w.quiet();
    let mails = [Mail::default()];
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                mails[0].write();
                w.raise(near);
            }
        });
        until_read(&mails, rounds, || {
            let mut handled = false;
            w.consume(0, |port| {
                w.cell(port).fetch_or(M, SeqCst);
                mails[0].read();
                handled = true;
            });
            if handled {
                assert_eq!(w.unmask(D1, p), 0);
            }
        });
    });
}
