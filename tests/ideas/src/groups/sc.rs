// SPDX-License-Identifier: MIT OR Apache-2.0
//! SC: static channels.

use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("SC-01", "both ends are interdomain and name each other; the second is pending", || {
        let w = World::new();
        assert_eq!((w.connect((D1, 10), (D2, 11)), w.delivered()), (0, vec![(D2, 0)]));
        assert_eq!(w.status(D1, SELF, 10), interdomain(D2, 11, 0));
        assert_eq!(w.status(D2, SELF, 11), interdomain(D1, 10, 0));
        assert_eq!((w.bits(D1, 10, 0), w.bits(D2, 11, 0)), ("....".into(), "P.SU".into()));
    }),
    case("SC-02", "port 200 makes the records 0 to 255; other ports begin at 1 still", || {
        let w = World::new();
        assert_eq!((w.status(D1, SELF, 64), w.connect((D1, 200), (D2, 1))), (Err(EINVAL), 0));
        assert_eq!((w.status(D1, SELF, 255), w.status(D1, SELF, 256)), (closed(), Err(EINVAL)));
        assert!((1..200).all(|expected| w.bind_ipi(D1, 0) == expected));
        assert_eq!((w.bind_ipi(D1, 0), w.bind_ipi(D2, 0)), (201, 2));
    }),
    case("SC-03", "one port twice is EBUSY, one above the limit ENOSPC; nothing is opened", || {
        // That the machine does not start then is the embedder's to see to.
        let w = World::new();
        assert_eq!(w.connect((D1, 10), (D2, 11)), 0);
        for (first, second, answer) in [
            ((D1, 10), (D2, 12), EBUSY),
            ((D1, 12), (D2, 11), EBUSY),
            ((D1, 12), (D1, 12), EBUSY),
            ((D1, 0), (D2, 12), EBUSY),
            ((D1, 1024), (D2, 12), ENOSPC),
            ((D1, 12), (D2, 1024), ENOSPC),
            ((D1, 12), (D0, 4096), ENOSPC),
            ((D1, 12), (NOBODY, 12), ESRCH),
        ] {
            assert_eq!(w.connect(first, second), answer, "{first:?}, {second:?}");
            assert_eq!([D0, D1, D2].map(|dom| w.counts(dom).0), [0, 1, 1], "{first:?}, {second:?}");
        }
        assert_eq!((w.connect((D1, 1023), (D2, 1023)), w.connect((D1, 12), (D0, 4095))), (0, 0));
    }),
    case("SC-04", "a guest may close a static port, which is like any other", || {
        let w = World::new();
        assert_eq!(w.connect((D1, 3), (D2, 4)), 0);
        assert_eq!((w.close(D1, 3), w.status(D1, SELF, 3)), (0, closed()));
        assert_eq!((w.status(D2, SELF, 4), w.send(D2, 4)), (unbound(D1, 0), 0));
        assert_eq!((w.bi(D1, D2, 4), w.send(D2, 4), w.pending(D1, 1)), (1, 0, true));
        assert_eq!([w.bind_ipi(D1, 0), w.bind_ipi(D1, 0)], [2, 3], "its number is given again");
    }),
];
