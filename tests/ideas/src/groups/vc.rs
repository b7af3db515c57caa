// SPDX-License-Identifier: MIT OR Apache-2.0
//! VC: `bind_vcpu`.

use crate::fifo::{Fifo, L, P};
use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("VC-01", "unbound, interdomain, global VIRQ and PIRQ ports move", || {
        let w = World::new();
        let (near, _) = w.pair(D0, D2);
        let line = port(w.bind_pirq(D0, 20, 0));
        let (waiting, console) = (port(w.au(D0, SELF, D1)), port(w.bind_virq(D0, CONSOLE, 0)));
        for port in [waiting, near, console, line] {
            assert_eq!(w.bind_vcpu(D0, port, 2), 0);
            assert_eq!(w.status(D0, SELF, port).unwrap().1, 2);
        }
    }),
    case("VC-02", "per-vCPU VIRQ, IPI, free and reserved ports are EINVAL", || {
        let w = World::new();
        let (timer, own) = (port(w.bind_virq(D1, TIMER, 0)), port(w.bind_ipi(D1, 0)));
        assert_eq!([timer, own, 9, 0].map(|port| w.bind_vcpu(D1, port, 2)), [EINVAL; 4]);
    }),
    case("VC-03", "an absent vCPU is ENOENT, whatever the port", || {
        assert_eq!(World::new().bind_vcpu(D1, 9999, 99), ENOENT);
    }),
    case("VC-04", "a bad port is EINVAL", || {
        assert_eq!(World::new().bind_vcpu(D1, 9999, 0), EINVAL);
    }),
    case("VC-05", "what is pending stays announced on the old vCPU only", || {
        let w = pending_and_moved();
        assert_eq!((w.bits(D1, 1, 1), w.bits(D1, 1, 0)), ("P...".into(), "P.SU".into()));
        assert_eq!(w.delivered(), [(D1, 0)]);
    }),
    case("VC-06", "an unmask of the unmasked port changes nothing", || {
        let w = pending_and_moved();
        assert_eq!(w.unmask(D1, 1), 0);
        assert_eq!((w.bits(D1, 1, 1), w.delivered()), ("P...".into(), vec![(D1, 0)]));
    }),
    case("VC-07", "an unmask announces on the new vCPU", || {
        let w = World::new();
        assert_eq!(w.au(D1, SELF, D2), 1);
        w.set_bits(D1, 1, 0, "PM..");
        assert_eq!((w.bind_vcpu(D1, 1, 1), w.unmask(D1, 1)), (0, 0));
        assert_eq!((w.bits(D1, 1, 1), w.delivered()), ("P.SU".into(), vec![(D1, 1)]));
    }),
    case("VC-08", "what Xen consumes does not move", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D2));
        assert_eq!(w.bind_vcpu(D1, p, 1), EINVAL);
    }),
    case("VC-09", "the same vCPU again is no error", || {
        let w = World::new();
        assert_eq!((w.au(D1, SELF, D2), w.bind_vcpu(D1, 1, 0)), (1, 0));
    }),
    case("VC-10", "a linked FIFO port stays on its old queue; its next event goes to the new vCPU", || {
        let w = Fifo::new(1);
        let (near, p) = w.channel(0, 7);
        w.raise(near);
        assert_eq!(w.bind_vcpu(D1, p, 1), 0);
        w.raise(near);
        assert_eq!((w.word(p), w.ready(1), w.drain(0)), (P | L, 0, vec![p]));
        w.raise(near);
        assert_eq!((w.ready(0), w.drain(1)), (0, vec![p]));
    }),
    case("VC-11", "events wait at a vCPU that does not run", || {
        // Whether vCPU 3 runs is the embedder's matter; its bits are set all the same.
        let w = World::new();
        let (near, far) = w.pair(D1, D2);
        assert_eq!((w.bind_vcpu(D2, far, 3), w.send(D1, near)), (0, 0));
        assert_eq!(w.bits(D2, far, 3), "P.SU");
    }),
    case("VC-12", "a moved global VIRQ comes to its new vCPU, and is bound on vCPU 0 still", || {
        let w = World::new();
        let p = port(w.bind_virq(D0, CONSOLE, 0));
        assert_eq!((w.bind_vcpu(D0, p, 3), w.raise_global(CONSOLE)), (0, true));
        assert_eq!((w.bits(D0, p, 3), w.delivered()), ("P.SU".into(), vec![(D0, 3)]));
        assert_eq!(w.bind_virq(D0, CONSOLE, 0), EEXIST);
    }),
];

/// Port 1 of domain 1 got an event on vCPU 0 and was moved to vCPU 1.
fn pending_and_moved() -> World {
    let w = World::new();
    let (near, _) = w.pair(D2, D1);
    assert_eq!((w.send(D2, near), w.bind_vcpu(D1, 1, 1)), (0, 0));
    w
}
