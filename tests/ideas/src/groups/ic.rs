// SPDX-License-Identifier: MIT OR Apache-2.0
//! IC: `init_control`.

use evtchn_engine::Width;

use crate::alloc::{growth, without_memory};
use crate::fifo::{Fifo, L, P, array, control};
use crate::world::*;
use crate::{Case, case};

/// A frame that no domain has.
const MISSING: u64 = 7;
/// What `init_control` answers if it succeeds: the width of links.
const LINKS: i64 = 17;

pub const CASES: &[Case] = &[
    case("IC-01", "the first block switches the domain; links have 17 bits", || {
        let w = Fifo::two_level();
        assert_eq!(w.expand_array(D1, array(0)), EOPNOTSUPP);
        assert_eq!(w.init_control(D1, 0, control(0), 0), LINKS);
        assert_eq!(w.expand_array(D1, array(0)), 0);
    }),
    case("IC-02", "an absent vCPU is ENOENT", || {
        assert_eq!(Fifo::two_level().init_control(D1, 4, control(0), 0), ENOENT);
    }),
    case("IC-03", "the last place in the page is 4024", || {
        assert_eq!(Fifo::two_level().init_control(D1, 0, control(0), 4024), LINKS);
    }),
    case("IC-04", "offsets beyond are EINVAL", || {
        let w = Fifo::two_level();
        for offset in [4025, 4032, 4096, u32::MAX] {
            assert_eq!(w.init_control(D1, 0, control(0), offset), EINVAL, "{offset}");
        }
    }),
    case("IC-05", "offsets that are no multiple of 8 are EINVAL", || {
        let w = Fifo::two_level();
        for offset in [4, 12, 4020] {
            assert_eq!(w.init_control(D1, 0, control(0), offset), EINVAL, "{offset}");
        }
    }),
    case("IC-06", "a frame that is not memory is EINVAL, and the domain stays two-level", || {
        let w = Fifo::two_level();
        for gfn in [MISSING, !1] {
            assert_eq!(w.init_control(D1, 0, gfn, 0), EINVAL);
            assert_eq!(w.expand_array(D1, array(0)), EOPNOTSUPP);
        }
    }),
    case("IC-07", "a good frame after a bad one succeeds", || {
        let w = Fifo::two_level();
        assert_eq!(
            (w.init_control(D1, 0, MISSING, 0), w.init_control(D1, 0, control(0), 0)),
            (EINVAL, LINKS)
        );
    }),
    case("IC-08", "a second block for a vCPU is EINVAL, and the first stays", || {
        let w = Fifo::new(1);
        assert_eq!(w.init_control(D1, 0, control(3), 512), EINVAL);
        let (near, p) = w.channel(0, 7);
        w.raise(near);
        assert_eq!(w.head(0, 7), p);
    }),
    case("IC-09", "two blocks lie in one page", || {
        let w = Fifo::two_level();
        assert_eq!([(0, 0), (1, 72)].map(|(vcpu, at)| w.init_control(D1, vcpu, control(0), at)), [LINKS; 2]);
    }),
    case("IC-10", "ENOENT comes before a bad offset", || {
        assert_eq!(Fifo::two_level().init_control(D1, 4, control(0), 1), ENOENT);
    }),
    case("IC-11", "a frame that the domain may not write is EINVAL", || {
        let w = Fifo::two_level();
        w.engine.hooks().read_only.lock().unwrap().insert((D1, control(0)));
        assert_eq!(w.init_control(D1, 0, control(0), 0), EINVAL);
    }),
    case("IC-12", "what is pending with two levels is raised when its word comes", || {
        let w = Fifo::two_level();
        w.fill_to(D1, 3);
        w.set_pending(D1, 3, true);
        w.switch(1);
        w.expand(0);
        assert_eq!((w.word(3), w.word(2), w.head(0, 7)), (P | L, 0, 3));
        assert!(w.pending(D1, 3), "the bit stays as it was");
    }),
    case("IC-13", "what was closed while pending is not", || {
        let w = Fifo::two_level();
        w.fill_to(D1, 3);
        w.set_pending(D1, 3, true);
        assert_eq!(w.close(D1, 3), 0);
        w.switch(1);
        w.expand(0);
        assert_eq!((w.word(3), w.ready(0)), (0, 0));
    }),
    case("IC-14", "an event for a vCPU without a block is dropped, and not pending", || {
        let w = only_vcpu_1();
        assert_eq!((w.send(D1, 1), w.word(1), w.delivered()), (0, 0, vec![]));
    }),
    case("IC-15", "once there is a block it is delivered", || {
        let w = only_vcpu_1();
        assert_eq!((w.send(D1, 1), w.init_control(D1, 0, control(0), 0), w.send(D1, 1)), (0, LINKS, 0));
        assert_eq!((w.word(1), w.head(0, 7), w.delivered()), (P | L, 1, vec![(D1, 0)]));
    }),
    case("IC-16", "a 32-bit domain with all its 1023 ports gets more", || {
        let w = Fifo::two_level_with(|one| {
            one.width = Width::Bits32;
            one.max_port = None;
        });
        assert_eq!((w.fill(D1), w.init_control(D1, 0, control(0), 0)), (1023, LINKS));
        assert_eq!(w.au(D1, SELF, D2), 1024);
    }),
    case("IC-17", "without memory it is ENOMEM, the domain stays two-level, and nothing leaks", || {
        let w = Fifo::two_level();
        let init = || w.init_control(D1, 0, control(0), 0);
        assert_eq!(growth(|| assert_eq!(without_memory(256, init), ENOMEM)), 0);
        assert_eq!((w.expand_array(D1, array(0)), init()), (EOPNOTSUPP, LINKS));
    }),
    case("IC-18", "a domain that may not use FIFO has the answers of a Xen without", || {
        let w = Fifo::two_level_with(|one| one.fifo = false);
        assert_eq!(
            (w.init_control(D1, 99, MISSING, 1), w.expand_array(D1, MISSING)),
            (EOPNOTSUPP, EOPNOTSUPP)
        );
        assert_eq!((w.bind_ipi(D1, 0), w.set_priority(D1, 1, 0)), (1, ENOSYS));
    }),
    case("IC-19", "a limit of 1023 holds for FIFO, too", || {
        assert_eq!(Fifo::with(1, |_| ()).fill(D1), 1023);
    }),
];

/// Only vCPU 1 has a block; port 1 is an IPI of vCPU 0.
fn only_vcpu_1() -> Fifo {
    let w = Fifo::two_level();
    assert_eq!(w.init_control(D1, 1, control(1), 0), LINKS);
    w.expand(0);
    assert_eq!(w.bind_ipi(D1, 0), 1);
    w
}
