// SPDX-License-Identifier: MIT OR Apache-2.0
//! VQ: raising VIRQs.

use std::thread;

use evtchn_abi::Virq;
use evtchn_engine::Engine;

use crate::race::Stop;
use crate::world::*;
use crate::xen::Xen;
use crate::{Case, case, rounds};

pub const CASES: &[Case] = &[
    case("VQ-01", "a VIRQ that is not bound goes nowhere", || {
        let w = World::new();
        assert!(!w.raise_virq(D1, 0, TIMER));
        assert_eq!(w.delivered(), []);
    }),
    case("VQ-02", "a per-vCPU VIRQ comes to its vCPU, on which it is bound", || {
        let w = World::new();
        assert_eq!(
            (w.bind_virq(D1, TIMER, 2), w.raise_virq(D1, 1, TIMER), w.pending(D1, 1)),
            (1, false, false)
        );
        assert!(w.raise_virq(D1, 2, TIMER));
        assert_eq!((w.bits(D1, 1, 2), w.delivered()), ("P.SU".into(), vec![(D1, 2)]));
    }),
    case("VQ-03", "a global VIRQ comes to its handler alone", || {
        let w = World::new();
        assert_eq!((w.bind_virq(D0, CONSOLE, 0), w.raise_global(CONSOLE)), (1, true));
        assert_eq!(w.delivered(), [(D0, 0)]);
    }),
    case("VQ-04", "without a hardware domain and a handler it is forgotten", || {
        let engine = Engine::new(Xen::default());
        for virq in [CONSOLE, DOM_EXC, 5] {
            assert_eq!(engine.raise_global_virq(Virq(virq)), Ok(false));
        }
        let w = World::new();
        w.destroy(D0);
        assert!(!w.raise_global(CONSOLE));
    }),
    case("VQ-05", "what was raised before the binding is not pending", || {
        let w = World::new();
        assert!(!w.raise_virq(D1, 0, TIMER));
        assert_eq!((w.bind_virq(D1, TIMER, 0), w.bits(D1, 1, 0)), (1, "....".into()));
    }),
    case("VQ-06", "a VIRQ that races close and bind never raises another's port", || {
        // As CL-17.
        for max_port in [1, 1023] {
            let w = World::with(|one| one.max_port = Some(max_port));
            w.quiet();
            let stop = Stop::default();
            thread::scope(|scope| {
                let _end = stop.at_end();
                scope.spawn(|| {
                    while !stop.is_set() {
                        w.raise_virq(D1, 0, TIMER);
                    }
                });
                for _ in 0..rounds(10_000, 100_000) {
                    let bound = port(w.bind_virq(D1, TIMER, 0));
                    assert_eq!(w.close(D1, bound), 0);
                    // The number is an IPI's now, to which nobody sends.
                    let own = port(w.bind_ipi(D1, 0));
                    assert_eq!((w.pending(D1, own), w.close(D1, own)), (false, 0));
                }
            });
        }
    }),
];
