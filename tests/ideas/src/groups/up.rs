// SPDX-License-Identifier: MIT OR Apache-2.0
//! UP: upcalls.

use std::sync::atomic::Ordering::SeqCst;

use evtchn_sync::Page;

use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("UP-01", "an event on an idle vCPU is delivered exactly once", || {
        let w = World::new();
        let (near, _) = w.pair(D2, D1);
        assert_eq!((w.send(D2, near), w.send(D2, near), w.delivered()), (0, 0, vec![(D1, 0)]));
    }),
    case("UP-02", "while an upcall is pending another word gives none", || {
        let w = World::new();
        w.fill_to(D1, 64);
        assert_eq!((w.send(D1, 1), w.delivered()), (0, vec![(D1, 0)]));
        assert_eq!((w.send(D1, 64), w.delivered()), (0, vec![]));
        assert_eq!(w.bits(D1, 64, 0), "P.SU");
    }),
    case("UP-17", "a paravirtual vCPU with upcalls masked is entered when it unmasks them", || {
        // The entry is the embedder's: he is told once, and may enter when the byte is set and the mask is clear.
        let w = World::new();
        let (near, p) = w.pair(D2, D1);
        let mask = w.page(D1).u8(1).unwrap();
        mask.store(1, SeqCst);
        assert_eq!((w.send(D2, near), w.bits(D1, p, 0), w.delivered()), (0, "P.SU".into(), vec![(D1, 0)]));
        let other = port(w.bind_ipi(D1, 1));
        assert_eq!(w.poll(D1, 0, &[other], 0), SLEEPS, "nothing can be entered");
        assert!(w.finish_poll(D1, 0));
        mask.store(0, SeqCst);
        assert_eq!(w.poll(D1, 0, &[other], 0), DONE, "it is entered at once");
    }),
];
