// SPDX-License-Identifier: MIT OR Apache-2.0
//! BI: `bind_interdomain`.

use std::thread;

use evtchn_abi::Op;

use crate::fifo::{Fifo, L, P};
use crate::race::Watch;
use crate::world::*;
use crate::{Case, case, rounds};

/// Domain 2 waits for domain 1: its port.
fn waiting(w: &World) -> u32 {
    port(w.au(D2, SELF, D1))
}

pub const CASES: &[Case] = &[
    case("BI-01", "both ends are interdomain and name each other", || {
        let w = World::new();
        let p = waiting(&w);
        assert_eq!(w.bi(D1, D2, p), 1);
        assert_eq!(w.status(D1, SELF, 1), interdomain(D2, p, 0));
        assert_eq!(w.status(D2, SELF, p), interdomain(D1, 1, 0));
    }),
    case("BI-02", "the local end is raised, the remote end is not", || {
        let w = World::new();
        let p = waiting(&w);
        assert_eq!(w.bi(D1, D2, p), 1);
        assert_eq!((w.bits(D1, 1, 0), w.bits(D2, p, 0)), ("P.SU".into(), "....".into()));
        assert_eq!(w.delivered(), [(D1, 0)]);
    }),
    case("BI-03", "a masked local end is only set pending", || {
        let w = World::new();
        w.set_mask(D1, 1, true);
        assert_eq!(w.bi(D1, D2, waiting(&w)), 1);
        assert_eq!(w.bits(D1, 1, 0), "PM..");
    }),
    case("BI-04", "a port that waits for somebody else is EINVAL, and no number is lost", || {
        let w = World::new();
        let p = port(w.au(D2, SELF, D3));
        assert_eq!(w.bi(D1, D2, p), EINVAL);
        assert_eq!(w.bi(D1, D2, waiting(&w)), 1);
    }),
    case("BI-05", "a domain that does not exist is ESRCH", || {
        assert_eq!(World::new().bi(D1, NOBODY, 1), ESRCH);
    }),
    case("BI-06", "port 0 is EINVAL", || {
        assert_eq!(World::new().bi(D1, D2, 0), EINVAL);
    }),
    case("BI-07", "a free port is EINVAL", || {
        assert_eq!(World::new().bi(D1, D2, 9), EINVAL);
    }),
    case("BI-08", "a port without a record is EINVAL", || {
        let w = World::new();
        for port in [u32::MAX, 1 << 31, 64] {
            assert_eq!(w.bi(D1, D2, port), EINVAL, "{port}");
        }
    }),
    case("BI-09", "a port that is connected is EINVAL", || {
        let w = World::new();
        let (_, p) = w.pair(D1, D2);
        assert_eq!(w.bi(D1, D2, p), EINVAL);
    }),
    case("BI-10", "a domain connects two ports of its own", || {
        let w = World::new();
        assert_eq!((w.au(D1, SELF, SELF), w.bi(D1, SELF, 1)), (1, 2));
        assert_eq!(w.status(D1, SELF, 1), interdomain(D1, 2, 0));
        assert_eq!(w.status(D1, SELF, 2), interdomain(D1, 1, 0));
    }),
    case("BI-11", "each of the two raises the other", || {
        let w = World::new();
        assert_eq!((w.au(D1, SELF, SELF), w.bi(D1, SELF, 1)), (1, 2));
        for (from, to) in [(1, 2), (2, 1)] {
            w.calm();
            assert_eq!(w.send(D1, from), 0);
            assert_eq!((w.pending(D1, to), w.pending(D1, from)), (true, false));
        }
    }),
    case("BI-12", "a port cannot be bound to itself", || {
        assert_eq!(World::new().bi(D1, SELF, 1), EINVAL);
    }),
    case("BI-13", "without a free local port it is ENOSPC, and the remote end waits still", || {
        let w = World::new();
        let p = waiting(&w);
        w.fill(D1);
        assert_eq!(w.bi(D1, D2, p), ENOSPC);
        assert_eq!(w.status(D2, SELF, p), unbound(D1, 0));
    }),
    case("BI-14", "ENOSPC comes before a bad remote port", || {
        let w = World::new();
        w.fill(D1);
        assert_eq!(w.bi(D1, D2, 9), ENOSPC);
    }),
    case("BI-15", "the remote end keeps the vCPU that it was moved to", || {
        let w = World::new();
        let p = waiting(&w);
        assert_eq!(w.bind_vcpu(D2, p, 2), 0);
        let near = port(w.bi(D1, D2, p));
        w.calm();
        assert_eq!(w.send(D1, near), 0);
        assert_eq!((w.bits(D2, p, 2), w.delivered()), ("P.SU".into(), vec![(D2, 2)]));
    }),
    case("BI-16", "what was sent before is dropped; binding raises the local end once", || {
        let w = World::new();
        let p = waiting(&w);
        assert_eq!([(); 3].map(|()| w.send(D2, p)), [0; 3]);
        let near = port(w.bi(D1, D2, p));
        assert!(w.pending(D1, near));
        assert_eq!(w.delivered(), [(D1, 0)]);
    }),
    case("BI-17", "VIRQ, IPI and PIRQ ports are EINVAL", || {
        let w = World::new();
        for p in [w.bind_virq(D2, TIMER, 0), w.bind_ipi(D2, 0), w.bind_pirq(D2, 3, 0)] {
            assert_eq!(w.bi(D1, D2, port(p)), EINVAL);
        }
    }),
    case("BI-18", "a bad pointer is EFAULT", || {
        let w = World::new();
        assert_eq!(w.astray(D1, Op::BIND_INTERDOMAIN), EFAULT);
        assert_eq!(w.counts(D1), (0, 0));
    }),
    case("BI-19", "a port that waits in a dying domain can be bound, and is closed with the rest", || {
        let w = World::new();
        let p = waiting(&w);
        w.fill_to(D2, 100);
        w.on_preempt(|_| true);
        assert_eq!((w.tear_down(D2), w.bi(D1, D2, p)), (Ok(false), 1));
        assert_eq!(
            (w.status(D1, SELF, 1), w.status(D0, D2, p)),
            (interdomain(D2, p, 0), interdomain(D1, 1, 0))
        );
        assert_eq!((w.tear_down(D2), w.status(D1, SELF, 1)), (Ok(true), unbound(D2, 0)));
    }),
    case("BI-20", "a port that Xen consumes is bound as any other; the callback does not run", || {
        let w = World::new();
        let p = port(w.consumer(D0, D2, 0, D1));
        let near = port(w.bi(D1, D2, p));
        assert!(w.pending(D1, near));
        assert_eq!(w.callbacks(), []);
    }),
    case("BI-21", "a FIFO port without a word is raised when it gets one", || {
        let w = Fifo::new(0);
        let near = port(w.bi(D1, D2, waiting(&w)));
        assert_eq!(w.word(near), 0);
        w.expand(0);
        assert_eq!((w.word(near), w.head(0, 7)), (P | L, near));
    }),
    case("BI-22", "the remote end keeps its priority, the local end has 7", || {
        let w = Fifo::new(1);
        let p = port(w.au(D1, SELF, D2));
        assert_eq!(w.set_priority(D1, p, 3), 0);
        let near = port(w.bi(D2, D1, p));
        w.raise(near);
        assert_eq!((w.ready(0), w.head(0, 3)), (1 << 3, p));
        let local = port(w.bi(D1, D2, waiting(&w)));
        assert_eq!((w.ready(0), w.head(0, 7)), (1 << 3 | 1 << 7, local));
    }),
    case("BI-23", "of two callers that race for one port exactly one gets it", || {
        let w = World::new();
        w.quiet();
        for _ in 0..rounds(2_000, 100_000) {
            let p = waiting(&w);
            let [first, second] = thread::scope(|scope| {
                let racers = [(); 2].map(|()| scope.spawn(|| w.bi(D1, D2, p)));
                racers.map(|racer| racer.join().unwrap())
            });
            let (won, lost) = (first.max(second), first.min(second));
            assert_eq!(lost, EINVAL);
            assert_eq!(w.status(D2, SELF, p), interdomain(D1, port(won), 0));
            assert_eq!((w.close(D1, port(won)), w.close(D2, p)), (0, 0));
        }
        assert_eq!((w.counts(D1), w.counts(D2)), ((0, 0), (0, 0)));
    }),
    case("BI-24", "two domains that bind to each other at once do not wait for ever", || {
        let _watch = Watch::new();
        let w = World::new();
        w.quiet();
        let cross = |me, other| {
            for _ in 0..rounds(5_000, 500_000) {
                // Domain 0 opens the far end for both.
                let (mine, theirs) = (port(w.au(me, SELF, other)), port(w.au(D0, other, me)));
                let near = port(w.bi(me, other, theirs));
                assert_eq!([near, mine].map(|port| w.close(me, port)), [0, 0]);
                assert_eq!(w.close(other, theirs), 0);
            }
        };
        let cross = &cross;
        thread::scope(|scope| {
            scope.spawn(move || cross(D0, D1));
            scope.spawn(move || cross(D1, D0));
        });
        assert_eq!((w.counts(D0), w.counts(D1)), ((0, 0), (0, 0)));
    }),
];
