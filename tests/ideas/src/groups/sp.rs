// SPDX-License-Identifier: MIT OR Apache-2.0
//! SP: `set_priority`.

use crate::fifo::{Fifo, L, P};
use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("SP-01", "with two levels it is ENOSYS", || {
        let w = World::new();
        assert_eq!((w.bind_ipi(D1, 0), w.set_priority(D1, 1, 0)), (1, ENOSYS));
    }),
    case("SP-02", "a port without a record is EINVAL", || {
        assert_eq!(World::new().set_priority(D1, 64, 0), EINVAL);
    }),
    case("SP-03", "0 to 15 are priorities", || {
        let w = Fifo::new(1);
        assert_eq!((w.bind_ipi(D1, 0), w.set_priority(D1, 1, 0), w.set_priority(D1, 1, 15)), (1, 0, 0));
    }),
    case("SP-04", "higher numbers are EINVAL", || {
        let w = Fifo::new(1);
        assert_eq!(w.bind_ipi(D1, 0), 1);
        assert_eq!((w.set_priority(D1, 1, 16), w.set_priority(D1, 1, u32::MAX)), (EINVAL, EINVAL));
    }),
    case("SP-05", "a free port is EACCES, before the number is looked at", || {
        assert_eq!(Fifo::new(1).set_priority(D1, 9, 16), EACCES);
    }),
    case("SP-06", "what Xen consumes is EACCES", || {
        let w = Fifo::new(1);
        let p = port(w.consumer(D0, D1, 0, D2));
        assert_eq!(w.set_priority(D1, p, 0), EACCES);
    }),
    case("SP-07", "a linked port stays on its queue", || {
        let w = moved_while_linked();
        assert_eq!((w.send(D2, 1), w.word(1), w.ready(0)), (0, P | L, 1 << 7));
        assert_eq!((w.head(0, 7), w.head(0, 0)), (1, 0));
    }),
    case("SP-08", "its next event goes to the new queue", || {
        let w = moved_while_linked();
        assert_eq!((w.drain(0), w.send(D2, 1)), (vec![1], 0));
        assert_eq!((w.ready(0), w.head(0, 0)), (1, 1));
    }),
    case("SP-09", "a port that is given again has priority 7", || {
        let w = Fifo::new(1);
        let (_, p) = w.channel(0, 2);
        assert_eq!((w.close(D1, p), w.bind_ipi(D1, 0), w.send(D1, p)), (0, p.into(), 0));
        assert_eq!((w.ready(0), w.head(0, 7)), (1 << 7, p));
    }),
    case("SP-10", "the most urgent comes first", || {
        let w = Fifo::new(1);
        let ((late, last), (early, first)) = (w.channel(0, 15), w.channel(0, 0));
        w.raise(late);
        w.raise(early);
        assert_eq!((w.ready(0), w.drain(0)), (1 << 15 | 1, vec![first, last]));
    }),
];

/// Port 1 of domain 1, bound to port 1 of domain 2, is on queue 7 and has priority 0.
fn moved_while_linked() -> Fifo {
    let w = Fifo::new(1);
    assert_eq!(w.channel(0, 7), (1, 1));
    w.raise(1);
    assert_eq!(w.set_priority(D1, 1, 0), 0);
    w
}
