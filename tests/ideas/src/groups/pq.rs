// SPDX-License-Identifier: MIT OR Apache-2.0
//! PQ: `bind_pirq`, and raising PIRQs.

use evtchn_engine::DomainKind;

use crate::world::*;
use crate::xen::{FORBIDDEN, UNMAPPED, XENS};
use crate::{Case, case};

const SHARE: u32 = 1;

pub const CASES: &[Case] = &[
    case("PQ-01", "a PIRQ is bound to vCPU 0", || {
        let w = World::new();
        assert_eq!(w.bind_pirq(D1, 20, 0), 1);
        assert_eq!((w.status(D1, SELF, 1), w.engine.hooks().users(20)), (pirq(20, 0), 1));
    }),
    case("PQ-02", "numbers beyond the domain's PIRQs are EINVAL", || {
        let w = World::new();
        assert_eq!((w.bind_pirq(D1, 32, 0), w.bind_pirq(D1, u32::MAX, 0)), (EINVAL, EINVAL));
        assert_eq!(w.bind_pirq(D1, 31, 0), 1);
    }),
    case("PQ-03", "a paravirtual domain without permission has EPERM", || {
        assert_eq!(World::new().bind_pirq(D1, FORBIDDEN, 0), EPERM);
    }),
    case("PQ-04", "a PIRQ that is bound is EEXIST", || {
        let w = World::new();
        assert_eq!((w.bind_pirq(D1, 20, 0), w.bind_pirq(D1, 20, 0)), (1, EEXIST));
    }),
    case("PQ-05", "without an interrupt behind it it is EINVAL, and the port is given back", || {
        let w = World::new();
        assert_eq!(w.bind_pirq(D1, UNMAPPED, 0), EINVAL);
        assert_eq!((w.counts(D1), w.bind_ipi(D1, 0)), ((0, 0), 1));
    }),
    case("PQ-06", "an interrupt that Xen uses, or a guest that does not share it, is EBUSY", || {
        let w = World::new();
        assert_eq!(w.bind_pirq(D2, 20, 0), 1);
        for flags in [0, SHARE] {
            assert_eq!((w.bind_pirq(D1, XENS, flags), w.bind_pirq(D1, 20, flags)), (EBUSY, EBUSY));
        }
        assert_eq!(w.counts(D1), (0, 0));
    }),
    case("PQ-07", "two domains that both share have it both", || {
        let w = World::new();
        assert_eq!((w.bind_pirq(D1, 20, SHARE), w.bind_pirq(D2, 20, SHARE)), (1, 1));
        assert_eq!(w.engine.hooks().users(20), 2);
    }),
    case("PQ-08", "a hardware-assisted domain needs no permission", || {
        assert_eq!(World::hvm().bind_pirq(D1, FORBIDDEN, 0), 1);
    }),
    case("PQ-09", "only the lowest flag counts", || {
        let w = World::new();
        assert_eq!(w.bind_pirq(D2, 20, SHARE), 1);
        assert_eq!(w.bind_pirq(D1, 20, 0xffff_fffe), EBUSY);
        assert_eq!(w.bind_pirq(D1, 20, 0xffff_ffff), 1);
    }),
    case("PQ-10", "closing releases the interrupt, and the PIRQ can be bound again", || {
        let w = World::new();
        assert_eq!((w.bind_pirq(D1, 20, 0), w.close(D1, 1)), (1, 0));
        assert_eq!(w.engine.hooks().users(20), 0);
        assert_eq!(w.bind_pirq(D1, 20, 0), 1);
    }),
    case("PQ-11", "moving the port moves the interrupt, once for each real move", || {
        let w = World::new();
        assert_eq!(w.bind_pirq(D1, 20, 0), 1);
        assert_eq!([2, 2, 1].map(|vcpu| w.bind_vcpu(D1, 1, vcpu)), [0; 3]);
        assert_eq!(w.moved(), [(D1, 20, 2), (D1, 20, 1)]);
        assert_eq!((w.raise_pirq(D1, 20), w.delivered()), (true, vec![(D1, 1)]));
    }),
    case("PQ-12", "sending to it is EINVAL", || {
        let w = World::new();
        assert_eq!((w.bind_pirq(D1, 20, 0), w.send(D1, 1)), (1, EINVAL));
    }),
    case("PQ-13", "a line of a hardware-assisted domain that nobody has bound is dropped", || {
        let w = World::hvm();
        assert_eq!((w.bind_pirq(D1, 20, 0), w.close(D1, 1)), (1, 0));
        assert!(!w.raise_pirq(D1, 20) && !w.raise_pirq(D1, 21) && !w.raise_pirq(D1, u32::MAX));
        assert!(!w.pending(D1, 1));
    }),
    case("PQ-14", "a domain without PIRQs can bind none", || {
        // Xen on a machine without PIRQs answers EOPNOTSUPP; to the engine every number is beyond what the domain has.
        for kind in [DomainKind::Pv, DomainKind::Hvm] {
            let w = World::with(|one| (one.kind, one.nr_pirqs) = (kind, 0));
            assert_eq!([0, 20, u32::MAX].map(|pirq| w.bind_pirq(D1, pirq, SHARE)), [EINVAL; 3]);
            assert_eq!((w.raise_pirq(D1, 0), w.counts(D1), w.bind_ipi(D1, 0)), (false, (0, 0), 1));
        }
    }),
    case("PQ-15", "of three on one vCPU the others stay when the middle one is closed", || {
        let w = World::new();
        assert_eq!([20, 21, 22].map(|pirq| w.bind_pirq(D1, pirq, 0)), [1, 2, 3]);
        assert_eq!(w.close(D1, 2), 0);
        assert_eq!([20, 21, 22].map(|pirq| w.raise_pirq(D1, pirq)), [true, false, true]);
        assert_eq!([1, 2, 3].map(|port| w.pending(D1, port)), [true, false, true]);
    }),
];
