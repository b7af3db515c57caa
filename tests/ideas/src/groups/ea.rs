// SPDX-License-Identifier: MIT OR Apache-2.0
//! EA: `expand_array`.

use std::thread;

use crate::fifo::{Fifo, L, M, P, array};
use crate::world::*;
use crate::{Case, case, rounds};

const MISSING: u64 = 7;

/// One page of words, and an event for port 1030, which has none.
fn event_for_1030() -> Fifo {
    let w = Fifo::new(1);
    w.fill_to(D1, 1030);
    assert_eq!((w.send(D1, 1030), w.delivered()), (0, vec![]));
    w
}

/// No page of words, and an event for port 5.
fn event_for_5() -> Fifo {
    let w = Fifo::new(0);
    w.fill_to(D1, 4);
    assert_eq!((w.au(D1, SELF, D2), w.bi(D2, D1, 5), w.send(D2, 1)), (5, 1, 0));
    w.calm();
    w
}

pub const CASES: &[Case] = &[
    case("EA-01", "with two levels it is EOPNOTSUPP", || {
        assert_eq!(Fifo::two_level().expand_array(D1, array(0)), EOPNOTSUPP);
    }),
    case("EA-02", "the first page has the words of ports 0 to 1023", || {
        let w = Fifo::new(0);
        w.fill_to(D1, 1024);
        assert_eq!(w.expand_array(D1, array(0)), 0);
        assert_eq!([1, 1023, 1024].map(|port| w.send(D1, port)), [0; 3]);
        assert_eq!([1, 1023, 1024].map(|port| w.word(port) & P != 0), [true, true, false]);
    }),
    case("EA-03", "128 pages are accepted", || {
        let w = Fifo::new(128);
        assert_eq!([0, 127].map(|page| w.users(page)), [3; 2]);
    }),
    case("EA-04", "the next is ENOSPC", || {
        assert_eq!(Fifo::new(128).expand_array(D1, array(0)), ENOSPC);
    }),
    case("EA-05", "a frame that is not memory is EINVAL and does not count", || {
        let w = Fifo::new(0);
        assert_eq!(w.expand_array(D1, MISSING), EINVAL);
        assert!((0..128).all(|_| w.expand_array(D1, array(0)) == 0));
    }),
    case("EA-06", "ENOSPC comes before a bad frame", || {
        assert_eq!(Fifo::new(128).expand_array(D1, MISSING), ENOSPC);
    }),
    case("EA-07", "an event that was kept is raised with its word", || {
        let w = event_for_1030();
        w.expand(1);
        assert_eq!((w.word(1030), w.head(0, 7), w.delivered()), (P | L, 1030, vec![(D1, 0)]));
    }),
    case("EA-08", "a masked word becomes pending and is not linked", || {
        let w = event_for_1030();
        w.set_word(1030, M);
        w.expand(1);
        assert_eq!((w.word(1030), w.delivered()), (P | M, vec![]));
    }),
    case("EA-09", "it is raised on the vCPU that the port notifies by then", || {
        let w = event_for_5();
        assert_eq!(w.bind_vcpu(D1, 5, 1), 0);
        w.expand(0);
        assert_eq!((w.word(5), w.head(1, 7), w.delivered()), (P | L, 5, vec![(D1, 1)]));
    }),
    case("EA-10", "an event that was kept is forgotten with its port (Q3)", || {
        // Xen raises the free port. We forget the event at the close.
        let w = event_for_5();
        assert_eq!(w.close(D1, 5), 0);
        w.expand(0);
        assert_eq!((w.word(5), w.ready(0), w.delivered()), (0, 0, vec![]));
    }),
    case("EA-11", "nor does it survive a reset (Q3)", || {
        // As above: Xen raises it after the next switch.
        let w = event_for_5();
        assert_eq!(w.reset(D1, SELF), 0);
        w.switch(4);
        w.expand(0);
        assert_eq!((w.word(5), w.ready(0), w.delivered()), (0, 0, vec![]));
    }),
    case("EA-12", "to a poll it is not pending", || {
        let w = event_for_5();
        assert_eq!(w.poll(D1, 0, &[5], 0), SLEEPS);
    }),
    case("EA-13", "a raise that races it is not lost", || {
        for round in 0..rounds(1_000, 20_000) {
            let w = Fifo::new(0);
            let channels: [_; 3] = w.channels(1, 4);
            thread::scope(|scope| {
                scope.spawn(|| {
                    for (near, _) in channels {
                        (0..round % 50 * 10).for_each(|_| std::hint::spin_loop());
                        w.raise(near);
                    }
                });
                w.expand(0);
            });
            let mut handled = w.handled(1);
            handled.sort_unstable();
            assert_eq!(handled, channels.map(|(_, port)| port), "round {round}");
        }
    }),
];
