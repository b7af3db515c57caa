// SPDX-License-Identifier: MIT OR Apache-2.0
//! XC: channels that Xen consumes.

use evtchn_engine::Consumer;

use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("XC-01", "the port lies in the guest, unbound for the consumer's domain", || {
        let w = World::new();
        assert_eq!((w.consumer(D0, D1, 1, D0), w.counts(D1)), (1, (1, 1)));
        assert_eq!(w.status(D1, SELF, 1), unbound(D0, 1));
        let old = World::old();
        assert_eq!((old.consumer(D0, D1, 1, D0), old.status(D1, SELF, 1)), (1, Err(EACCES)));
    }),
    case("XC-02", "a creator without power over the domain gets EPERM, and nothing is left", || {
        let w = World::new();
        assert_eq!((w.consumer(D2, D1, 0, D2), w.counts(D1), w.bind_ipi(D1, 0)), (EPERM, (0, 0), 1));
    }),
    case("XC-03", "there are seven kinds of consumers and no eighth", || {
        let w = World::new();
        assert!((1..8).all(|which| w.consumer_of(D0, D1, 0, D0, which) == i64::from(which)));
        assert_eq!((Consumer::new(8), Consumer::new(0)), (None, None));
    }),
    case("XC-04", "what Xen signals comes to the peer", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D0));
        let near = port(w.bi(D0, D1, p));
        w.calm();
        assert_eq!((w.notify_consumer(D1, p), w.bits(D0, near, 0)), (0, "P.SU".into()));
        assert_eq!((w.delivered(), w.bits(D1, p, 0)), (vec![(D0, 0)], "....".into()));
    }),
    case("XC-05", "without a peer it is dropped", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D0));
        assert_eq!((w.notify_consumer(D1, p), w.delivered()), (0, vec![]));
        assert_eq!(w.notify_consumer(D1, port(w.bind_ipi(D1, 0))), EINVAL, "that is not Xen's");
    }),
    case("XC-06", "Xen may free the port of a domain that is gone", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D0));
        w.destroy(D1);
        assert_eq!((w.free_consumer(D1, p), w.notify_consumer(D1, p)), (ESRCH, ESRCH));
    }),
    case("XC-07", "when the peer closes its end Xen's is unbound, and Xen's still", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D0));
        let near = port(w.bi(D0, D1, p));
        assert_eq!((w.close(D0, near), w.status(D1, SELF, p), w.close(D1, p)), (0, unbound(D0, 0), EINVAL));
        assert_eq!((w.counts(D1), w.free_consumer(D1, p), w.counts(D1)), ((1, 1), 0, (0, 0)));
    }),
];
