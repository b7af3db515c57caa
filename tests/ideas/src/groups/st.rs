// SPDX-License-Identifier: MIT OR Apache-2.0
//! ST: `status`.

use evtchn_abi::args::Status;
use evtchn_abi::{DomId, Op, Port};

use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("ST-01", "port 0 is closed", || {
        assert_eq!(World::new().status(D1, SELF, 0), closed());
    }),
    case("ST-02", "a port that was never used is closed", || {
        assert_eq!(World::new().status(D1, SELF, 63), closed());
    }),
    case("ST-03", "a port without a record is EINVAL", || {
        assert_eq!(World::new().status(D1, SELF, 64), Err(EINVAL));
    }),
    case("ST-04", "records never go away", || {
        let w = World::new();
        w.fill_to(D1, 64);
        assert_eq!(w.reset(D1, SELF), 0);
        assert!((64..128).all(|port| w.status(D1, SELF, port) == closed()));
        assert_eq!(w.status(D1, SELF, 128), Err(EINVAL));
    }),
    case("ST-05", "another domain's port is EPERM", || {
        assert_eq!(World::new().status(D1, D2, 1), Err(EPERM));
    }),
    case("ST-06", "a bad port of another domain is EINVAL, not EPERM", || {
        assert_eq!(World::new().status(D1, D2, 5000), Err(EINVAL));
    }),
    case("ST-07", "a domain that does not exist is ESRCH", || {
        assert_eq!(World::new().status(D1, NOBODY, 1), Err(ESRCH));
    }),
    case("ST-08", "the control domain sees everything", || {
        let (w, states) = six_states();
        for (port, state) in states {
            assert_eq!(w.status(D0, D1, port), state, "{port}");
        }
    }),
    case("ST-09", "each of the six states has its fields", || {
        let (w, states) = six_states();
        for (port, state) in states {
            assert_eq!(w.status(D1, SELF, port), state, "{port}");
        }
    }),
    case("ST-10", "a port that Xen consumes is reported; from 4.15 to 4.18 it was EACCES", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 2, D2));
        assert_eq!(w.status(D1, SELF, p), unbound(D2, 2));
        let old = World::old();
        let p = port(old.consumer(D0, D1, 2, D2));
        assert_eq!((old.status(D1, SELF, p), old.status(D0, D1, p)), (Err(EACCES), Err(EACCES)));
    }),
    case("ST-11", "counting up ends at a multiple of 64 (Q1)", || {
        let w = World::new();
        for last in [1, 64, 700] {
            w.fill_to(D1, last);
            let end = (0..).find(|&port| w.status(D1, SELF, port) == Err(EINVAL)).unwrap();
            assert_eq!(end, (last / 64 + 1) * 64);
        }
    }),
    case("ST-12", "a bad pointer is EFAULT, coming and going, and changes nothing", || {
        let w = World::new();
        assert_eq!((w.bind_ipi(D1, 1), w.astray(D1, Op::STATUS)), (1, EFAULT));
        let arg = Status { dom: DomId::SELF, port: Port(1), ..Default::default() };
        let mut ram = Ram { read_only: true, ..Ram::holding(&arg) };
        assert_eq!(w.raw(D1, Op::STATUS.0, 0, &mut ram), EFAULT);
        assert_eq!((ram.bytes, w.status(D1, SELF, 1)), (Ram::holding(&arg).bytes, ipi(1)));
    }),
    case("ST-13", "DOMID_SELF and the own number are the same", || {
        let w = World::new();
        assert_eq!(w.bind_virq(D0, TIMER, 3), 1);
        for port in 0..=64 {
            assert_eq!(w.status(D0, SELF, port), w.status(D0, D0, port), "{port}");
        }
        assert_eq!(w.status(D0, SELF, 1), virq(TIMER, 3));
    }),
];

/// Ports of domain 1 in all states, with what their status is.
fn six_states() -> (World, [(u32, Answer); 6]) {
    let w = World::new();
    let waiting = port(w.au(D1, SELF, D0));
    let (near, far) = w.pair(D1, D2);
    let (line, timer, own) =
        (port(w.bind_pirq(D1, 20, 0)), port(w.bind_virq(D1, TIMER, 1)), port(w.bind_ipi(D1, 3)));
    for (port, vcpu) in [(waiting, 1), (near, 2), (line, 3)] {
        assert_eq!(w.bind_vcpu(D1, port, vcpu), 0);
    }
    let states = [
        (9, closed()),
        (waiting, unbound(D0, 1)),
        (near, interdomain(D2, far, 2)),
        (line, pirq(20, 3)),
        (timer, virq(TIMER, 1)),
        (own, ipi(3)),
    ];
    (w, states)
}
