// SPDX-License-Identifier: MIT OR Apache-2.0
//! CL: `close`.

use std::thread;

use crate::fifo::{Fifo, L, P};
use crate::race::Stop;
use crate::world::*;
use crate::{Case, case, rounds};

pub const CASES: &[Case] = &[
    case("CL-01", "port 0 is EINVAL", || {
        assert_eq!(World::new().close(D1, 0), EINVAL);
    }),
    case("CL-02", "ports that are free or have no record are EINVAL", || {
        let w = World::new();
        for port in [9, 64, u32::MAX, 1 << 31] {
            assert_eq!(w.close(D1, port), EINVAL, "{port}");
        }
    }),
    case("CL-03", "an unbound port is closed", || {
        let w = World::new();
        assert_eq!((w.au(D1, SELF, D2), w.close(D1, 1)), (1, 0));
        assert_eq!(w.status(D1, SELF, 1), closed());
    }),
    case(
        "CL-04",
        "the peer becomes unbound for the closer, keeps its bits and vCPU, and is not told",
        || {
            for bits in ["....", "PM..", "P.SU"] {
                let w = World::new();
                let (near, far) = w.pair(D1, D2);
                assert_eq!(w.bind_vcpu(D2, far, 2), 0);
                w.set_bits(D2, far, 2, bits);
                assert_eq!(w.close(D1, near), 0);
                assert_eq!((w.status(D2, SELF, far), w.bits(D2, far, 2)), (unbound(D1, 2), bits.into()));
                assert_eq!(w.delivered(), []);
            }
        },
    ),
    case("CL-05", "what the peer sends then is dropped", || {
        let w = World::new();
        let (near, far) = w.pair(D1, D2);
        assert_eq!((w.close(D1, near), w.send(D2, far)), (0, 0));
        assert!(!w.pending(D1, near) && w.delivered().is_empty());
    }),
    case("CL-06", "the closer can bind to the peer again", || {
        let w = World::new();
        let (near, far) = w.pair(D1, D2);
        assert_eq!((w.close(D1, near), w.bi(D1, D2, far)), (0, near.into()));
        assert_eq!(w.status(D2, SELF, far), interdomain(D1, near, 0));
    }),
    case("CL-07", "the peer can close, too", || {
        let w = World::new();
        let (near, far) = w.pair(D1, D2);
        assert_eq!((w.close(D1, near), w.close(D2, far)), (0, 0));
        assert_eq!(w.status(D2, SELF, far), closed());
    }),
    case("CL-08", "the other port of a loop becomes unbound for its own domain", || {
        let w = World::new();
        assert_eq!((w.au(D1, SELF, SELF), w.bi(D1, SELF, 1), w.close(D1, 2)), (1, 2, 0));
        assert_eq!(w.status(D1, SELF, 1), unbound(D1, 0));
    }),
    case("CL-09", "the pending bit is cleared; the selector and the upcall are not taken back", || {
        let w = World::new();
        assert_eq!(w.bind_ipi(D1, 0), 1);
        assert_eq!((w.send(D1, 1), w.bits(D1, 1, 0)), (0, "P.SU".into()));
        assert_eq!((w.close(D1, 1), w.bits(D1, 1, 0)), (0, "..SU".into()));
    }),
    case("CL-10", "a port that is given again notifies vCPU 0", || {
        let w = World::new();
        assert_eq!((w.au(D1, SELF, D2), w.bind_vcpu(D1, 1, 3), w.close(D1, 1)), (1, 0, 0));
        assert_eq!((w.au(D1, SELF, D2), w.status(D1, SELF, 1)), (1, unbound(D2, 0)));
    }),
    case("CL-11", "a guest cannot close what Xen consumes, and it works on", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D2));
        let near = port(w.bi(D2, D1, p));
        assert_eq!(w.close(D1, p), EINVAL);
        assert_eq!((w.send(D2, near), w.callbacks()), (0, vec![(D1, 0, p)]));
    }),
    case("CL-12", "closing twice is EINVAL the second time", || {
        let w = World::new();
        assert_eq!((w.bind_ipi(D1, 0), w.close(D1, 1), w.close(D1, 1)), (1, 0, EINVAL));
    }),
    case("CL-13", "a VIRQ whose port is closed goes nowhere", || {
        let w = World::new();
        assert_eq!((w.bind_virq(D1, TIMER, 0), w.close(D1, 1)), (1, 0));
        assert!(!w.raise_virq(D1, 0, TIMER) && !w.pending(D1, 1));
        assert_eq!(w.delivered(), []);
    }),
    case("CL-14", "a FIFO port on a queue loses PENDING, stays linked and busy", || {
        let w = Fifo::new(1);
        let (near, p) = w.channel(0, 7);
        w.raise(near);
        assert_eq!((w.word(p), w.close(D1, p), w.word(p)), (P | L, 0, L));
        assert_ne!(w.bind_ipi(D1, 0), p.into());
    }),
    case("CL-15", "once it is off its queue it is given again, with priority 7", || {
        let w = Fifo::new(1);
        let (near, p) = w.channel(0, 2);
        w.raise(near);
        assert_eq!((w.close(D1, p), w.drain(0)), (0, vec![p]));
        assert_eq!((w.bind_ipi(D1, 0), w.send(D1, p)), (p.into(), 0));
        assert_eq!((w.ready(0), w.head(0, 7)), (1 << 7, p));
    }),
    case("CL-16", "both ends closed at once: each 0 or EINVAL, and the counts return to 0", || {
        let w = World::new();
        w.quiet();
        for _ in 0..rounds(3_000, 100_000) {
            let far = port(w.au(D2, SELF, D1));
            let near = port(w.bi(D1, D2, far));
            let answers = thread::scope(|scope| {
                let closers = [scope.spawn(|| w.close(D1, near)), scope.spawn(|| w.close(D2, far))];
                closers.map(|closer| closer.join().unwrap())
            });
            assert!(answers.iter().all(|answer| [0, EINVAL].contains(answer)), "{answers:?}");
            // Whoever was refused closes it now.
            for ((dom, port), answer) in [(D1, near), (D2, far)].into_iter().zip(answers) {
                assert_eq!(w.close(dom, port), if answer == 0 { EINVAL } else { 0 });
            }
        }
        assert_eq!((w.counts(D1), w.counts(D2)), ((0, 0), (0, 0)));
    }),
    case("CL-17", "a send that races a close never raises another owner's port", || {
        // With one port the number is given again at once; with more another may be, while the send is under way.
        for max_port in [1, 1023] {
            let w = World::with(|one| one.max_port = Some(max_port));
            w.quiet();
            let far = port(w.au(D2, SELF, D1));
            let stop = Stop::default();
            thread::scope(|scope| {
                let _end = stop.at_end();
                scope.spawn(|| {
                    while !stop.is_set() {
                        assert_eq!(w.send(D2, far), 0);
                    }
                });
                for _ in 0..rounds(10_000, 100_000) {
                    let near = port(w.bi(D1, D2, far));
                    assert_eq!(w.close(D1, near), 0);
                    // A number is given to an IPI, to which nobody sends: whatever was under way is over.
                    let own = port(w.bind_ipi(D1, 0));
                    assert_eq!((w.pending(D1, own), w.close(D1, own)), (false, 0));
                }
            });
        }
    }),
];
