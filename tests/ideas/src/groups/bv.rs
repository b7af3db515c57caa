// SPDX-License-Identifier: MIT OR Apache-2.0
//! BV: `bind_virq`.

use crate::alloc::without_memory;
use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("BV-01", "a VIRQ is bound on vCPU 0", || {
        let w = World::new();
        assert_eq!(w.bind_virq(D1, TIMER, 0), 1);
        assert_eq!(w.status(D1, SELF, 1), virq(TIMER, 0));
    }),
    case("BV-02", "a per-vCPU VIRQ is bound once for each vCPU", || {
        let w = World::new();
        for vcpu in 0..4 {
            let p = port(w.bind_virq(D1, TIMER, vcpu));
            assert_eq!((p, w.status(D1, SELF, p)), (vcpu + 1, virq(TIMER, vcpu)));
        }
    }),
    case("BV-03", "a VIRQ that is bound is EEXIST", || {
        let w = World::new();
        assert_eq!((w.bind_virq(D1, TIMER, 0), w.bind_virq(D1, TIMER, 0)), (1, EEXIST));
    }),
    case("BV-04", "numbers above 23 are EINVAL", || {
        let w = World::new();
        for number in [24, 25, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            assert_eq!(w.bind_virq(D0, number, 0), EINVAL, "{number}");
        }
    }),
    case("BV-05", "an absent vCPU is ENOENT", || {
        assert_eq!(World::new().bind_virq(D1, TIMER, 4), ENOENT);
    }),
    case("BV-06", "a global VIRQ is bound on vCPU 0 alone", || {
        assert_eq!(World::new().bind_virq(D0, CONSOLE, 1), EINVAL);
    }),
    case("BV-07", "that EINVAL comes before ENOENT", || {
        assert_eq!(World::new().bind_virq(D0, CONSOLE, 99), EINVAL);
    }),
    case("BV-08", "the hardware domain binds a global VIRQ", || {
        assert_eq!(World::new().bind_virq(D0, CONSOLE, 0), 1);
    }),
    case(
        "BV-09",
        "who does not handle a global VIRQ gets EBUSY; before 4.21 a port that never fires",
        || {
            assert_eq!(World::new().bind_virq(D1, CONSOLE, 0), EBUSY);
            let w = World::old();
            assert_eq!((w.bind_virq(D1, CONSOLE, 0), w.raise_global(CONSOLE)), (1, false));
            assert!(!w.pending(D1, 1));
        },
    ),
    case("BV-10", "ARGO is bound by any domain, on vCPU 0", || {
        let w = World::new();
        assert_eq!((w.bind_virq(D1, ARGO, 1), w.bind_virq(D1, ARGO, 0)), (EINVAL, 1));
    }),
    case("BV-11", "numbers without a name are global", || {
        let w = World::new();
        for number in [5, 14, 15] {
            assert_eq!(w.bind_virq(D0, number, 1), EINVAL, "{number}");
            assert!(w.bind_virq(D0, number, 0) > 0, "{number}");
        }
    }),
    case("BV-12", "so an ordinary domain gets EBUSY for them", || {
        assert_eq!(World::new().bind_virq(D1, 5, 0), EBUSY);
        assert_eq!(World::old().bind_virq(D1, 5, 0), 1);
    }),
    case("BV-13", "running out of ports is ENOSPC, and the privileged domain's DOM_EXC is untouched", || {
        let w = World::new();
        let p = port(w.bind_virq(D0, DOM_EXC, 0));
        w.fill(D1);
        assert_eq!(w.bind_virq(D1, DEBUG, 0), ENOSPC);
        assert!(w.raise_global(DOM_EXC) && w.pending(D0, p));
        assert_eq!(w.bind_virq(D0, DOM_EXC, 0), EEXIST);
    }),
    case("BV-14", "a closed VIRQ can be bound again", || {
        let w = World::new();
        assert_eq!((w.bind_virq(D1, TIMER, 0), w.close(D1, 1), w.bind_virq(D1, TIMER, 0)), (1, 0, 1));
    }),
    case("BV-15", "a new handler may bind, the hardware domain no more", || {
        let w = World::new();
        assert_eq!(w.set_virq_handler(CONSOLE, D1), 0);
        assert_eq!((w.bind_virq(D1, CONSOLE, 0), w.bind_virq(D0, CONSOLE, 0)), (1, EBUSY));
        let old = World::old();
        assert_eq!(old.set_virq_handler(CONSOLE, D1), 0);
        assert_eq!((old.bind_virq(D1, CONSOLE, 0), old.bind_virq(D0, CONSOLE, 0)), (1, 1));
    }),
    case("BV-16", "while a VIRQ is bound its handler is EBUSY; before 4.21 it was taken over", || {
        let w = World::new();
        assert_eq!((w.bind_virq(D0, CONSOLE, 0), w.set_virq_handler(CONSOLE, D1)), (1, EBUSY));
        let old = World::old();
        assert_eq!((old.bind_virq(D0, CONSOLE, 0), old.set_virq_handler(CONSOLE, D1)), (1, 0));
        assert!(!old.raise_global(CONSOLE) && !old.pending(D0, 1));
    }),
    case("BV-17", "when the handler dies the hardware domain binds again", || {
        let w = World::new();
        assert_eq!((w.set_virq_handler(CONSOLE, D1), w.bind_virq(D1, CONSOLE, 0)), (0, 1));
        w.destroy(D1);
        assert_eq!((w.bind_virq(D0, CONSOLE, 0), w.raise_global(CONSOLE)), (1, true));
    }),
    case("BV-18", "only global VIRQs have a handler", || {
        let w = World::new();
        for number in [TIMER, 24, ARGO] {
            assert_eq!(w.set_virq_handler(number, D1), EINVAL, "{number}");
        }
        assert_eq!(World::old().set_virq_handler(ARGO, D1), 0, "ARGO was global before 4.21");
    }),
    case("BV-19", "making a domain the handler twice succeeds twice", || {
        let w = World::new();
        assert_eq!([(); 2].map(|()| w.set_virq_handler(CONSOLE, D1)), [0, 0]);
        assert_eq!((w.bind_virq(D1, CONSOLE, 0), w.set_virq_handler(CONSOLE, D1)), (1, 0), "bound, too");
    }),
    case("BV-20", "DOM_EXC that finds no memory is ENOMEM, and takes no port", || {
        // Xen keeps a bitmap of domains for it. The engine has none: the port's record is all that may need memory.
        let w = World::new();
        w.fill_to(D0, 511);
        assert_eq!(without_memory(1, || w.bind_virq(D0, DOM_EXC, 0)), ENOMEM);
        assert_eq!((w.counts(D0), w.raise_global(DOM_EXC)), ((511, 0), false));
        assert_eq!((w.bind_virq(D0, DOM_EXC, 0), w.raise_global(DOM_EXC)), (512, true));
        assert_eq!(without_memory(1, || World::bind_virq(&w, D0, CONSOLE, 0)), 513, "a record is there");
    }),
    case("BV-21", "a vCPU that does not run can be bound to", || {
        // Whether a vCPU runs is the embedder's matter: to the engine vCPU 2 exists.
        let w = World::new();
        assert_eq!((w.bind_virq(D1, TIMER, 2), w.raise_virq(D1, 2, TIMER)), (1, true));
        assert_eq!(w.bits(D1, 1, 2), "P.SU");
    }),
    case("BV-22", "EEXIST comes before ENOSPC", || {
        let w = World::new();
        assert_eq!(w.bind_virq(D1, TIMER, 0), 1);
        w.fill(D1);
        assert_eq!(w.bind_virq(D1, TIMER, 0), EEXIST);
    }),
];
