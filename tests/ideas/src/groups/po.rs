// SPDX-License-Identifier: MIT OR Apache-2.0
//! PO: `SCHEDOP_poll`.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use evtchn_engine::Outcome;

use crate::race::wait_until;
use crate::world::*;
use crate::{Case, case, rounds};

/// Masked ports of domain 1: (domain 2's port, port).
fn masked<const N: usize>() -> (World, [(u32, u32); N]) {
    let w = World::new();
    let pairs = [(); N].map(|()| w.pair(D2, D1));
    pairs.iter().for_each(|&(_, p)| w.set_mask(D1, p, true));
    (w, pairs)
}

fn fails(error: i64) -> Outcome {
    Outcome::Done(error)
}

pub const CASES: &[Case] = &[
    case("PO-01", "a port that is pending: 0 at once", || {
        let (w, [(_, p)]) = masked();
        w.set_pending(D1, p, true);
        assert_eq!((w.poll(D1, 0, &[p], 0), w.is_polling(D1, 0)), (DONE, false));
    }),
    case("PO-02", "129 ports are EINVAL", || {
        let (w, [(_, p)]) = masked();
        assert_eq!(w.poll(D1, 0, &[p; 129], 0), fails(EINVAL));
    }),
    case("PO-03", "128 are accepted", || {
        let (w, [(_, p)]) = masked();
        assert_eq!(w.poll(D1, 0, &[p; 128], 0), SLEEPS);
    }),
    case("PO-04", "ports that the guest may not use are EINVAL", || {
        let w = World::new();
        let xens = port(w.consumer(D0, D1, 0, D2));
        for port in [0, 9, 64, u32::MAX, xens] {
            assert_eq!(w.poll(D1, 0, &[port], 0), fails(EINVAL), "{port}");
        }
    }),
    case("PO-05", "what comes after a pending port is not looked at", || {
        let (w, [(_, p)]) = masked();
        w.set_pending(D1, p, true);
        assert_eq!(w.poll(D1, 0, &[p, 0], 0), DONE);
    }),
    case("PO-06", "a bad port after an idle one is EINVAL, and the vCPU does not sleep", || {
        let (w, [(_, p)]) = masked();
        assert_eq!((w.poll(D1, 0, &[p, 0], 0), w.is_polling(D1, 0)), (fails(EINVAL), false));
    }),
    case("PO-07", "an upcall that could be delivered: 0 at once", || {
        let (w, [(_, p)]) = masked();
        w.set(D1, Bit::U, 0, 2, true);
        assert_eq!((w.poll(D1, 2, &[p], 0), w.poll(D1, 1, &[p], 0)), (DONE, SLEEPS));
    }),
    case("PO-08", "a timeout is handed on, and ends the poll when it comes", || {
        // The engine has no clock: the embedder, who has, is told the deadline and ends the poll; the answer is 0.
        let (w, [(near, p)]) = masked();
        assert_eq!(w.poll(D1, 0, &[p], 1), Outcome::Block { deadline: NonZeroU64::new(1) });
        assert!(w.finish_poll(D1, 0) && !w.is_polling(D1, 0));
        assert_eq!((w.send(D2, near), w.woken()), (0, vec![]), "it is over");
    }),
    case("PO-09", "a timeout of 0 is none; a raise of the masked port wakes", || {
        let (w, [(near, p)]) = masked();
        assert_eq!((w.poll(D1, 0, &[p], 0), w.send(D2, near)), (SLEEPS, 0));
        assert_eq!((w.woken(), w.is_polling(D1, 0)), (vec![(D1, 0)], false));
    }),
    case("PO-10", "a raise of another port does not, unless it is an upcall for the vCPU", || {
        let (w, [(_, p), (other, q)]) = masked();
        assert_eq!((w.poll(D1, 0, &[p], 0), w.send(D2, other)), (SLEEPS, 0));
        assert_eq!((w.woken(), w.is_polling(D1, 0)), (vec![], true));
        assert_eq!((w.unmask(D1, q), w.delivered()), (0, vec![(D1, 0)]));
        assert_eq!((w.woken(), w.is_polling(D1, 0)), (vec![(D1, 0)], false));
    }),
    case("PO-11", "unless several are polled (Q8)", || {
        let (w, [(_, p), (other, _), (_, q)]) = masked();
        assert_eq!((w.poll(D1, 0, &[p, q], 0), w.send(D2, other), w.woken()), (SLEEPS, 0, vec![(D1, 0)]));
    }),
    case("PO-12", "a poll of no port wakes for any", || {
        let (w, [(near, _)]) = masked();
        assert_eq!((w.poll(D1, 0, &[], 0), w.send(D2, near), w.woken()), (SLEEPS, 0, vec![(D1, 0)]));
    }),
    case("PO-13", "an array that cannot be read to its end is EFAULT, and the vCPU does not sleep", || {
        let (w, [(near, p)]) = masked();
        assert_eq!(w.poll_more(D1, 0, 4, &[p; 3], 0), fails(EFAULT));
        assert_eq!((w.is_polling(D1, 0), w.send(D2, near), w.woken()), (false, 0, vec![]));
    }),
    case("PO-14", "two vCPUs that poll one port both wake", || {
        let (w, [(near, p)]) = masked();
        assert_eq!([0, 3].map(|vcpu| w.poll(D1, vcpu, &[p], 0)), [SLEEPS; 2]);
        assert_eq!((w.send(D2, near), w.woken()), (0, vec![(D1, 0), (D1, 3)]));
    }),
    case("PO-15", "a raise between the check and the sleep wakes", || {
        let (w, [(near, p)]) = masked();
        w.quiet();
        let rounds = rounds(5_000, 1_000_000);
        let turn = AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for round in 1..=rounds {
                    wait_until(|| turn.load(SeqCst) == round);
                    assert_eq!(w.send(D2, near), 0);
                }
            });
            for round in 1..=rounds {
                turn.store(round, SeqCst); // the send runs against the poll
                while !w.pending(D1, p) {
                    if w.poll(D1, 0, &[p], 0) == SLEEPS {
                        wait_until(|| !w.is_polling(D1, 0));
                    }
                }
                w.set_pending(D1, p, false);
            }
        });
    }),
    case("PO-16", "ports 32 to 4096 that were never opened are EINVAL", || {
        let w = World::unlimited();
        for port in 32..=4096 {
            assert_eq!(w.poll(D1, 0, &[port], 0), fails(EINVAL), "{port}");
        }
    }),
];
