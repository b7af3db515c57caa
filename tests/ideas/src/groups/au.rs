// SPDX-License-Identifier: MIT OR Apache-2.0
//! AU: `alloc_unbound`.

use evtchn_abi::args::AllocUnbound;
use evtchn_abi::{DomId, Op};
use evtchn_engine::DomainConfig;

use crate::alloc::without_memory;
use crate::fifo::{Fifo, L};
use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("AU-01", "the first port is 1, unbound, for vCPU 0", || {
        let w = World::new();
        assert_eq!(w.au(D1, SELF, D2), 1);
        assert_eq!(w.status(D1, SELF, 1), unbound(D2, 0));
    }),
    case("AU-02", "three calls give ports 1, 2, 3", || {
        let w = World::new();
        assert_eq!([(); 3].map(|()| w.au(D1, SELF, D2)), [1, 2, 3]);
    }),
    case("AU-03", "the lowest free port is given", || {
        let w = World::new();
        w.fill_to(D1, 3);
        assert_eq!(w.close(D1, 2), 0);
        assert_eq!(w.au(D1, SELF, D2), 2);
    }),
    case("AU-04", "a remote of DOMID_SELF is stored as the caller's id", || {
        let w = World::new();
        assert_eq!(w.au(D1, SELF, SELF), 1);
        assert_eq!(w.status(D1, SELF, 1), unbound(D1, 0));
    }),
    case("AU-05", "a domain may name itself by its number", || {
        assert_eq!(World::new().au(D1, D1, D2), 1);
    }),
    case("AU-06", "another domain's ports are EPERM, and no number is lost", || {
        let w = World::new();
        assert_eq!(w.au(D1, D2, D1), EPERM);
        assert_eq!(w.au(D2, SELF, D1), 1);
    }),
    case("AU-07", "the control domain opens a port in a guest", || {
        let w = World::new();
        assert_eq!(w.au(D0, D1, D0), 1);
        assert_eq!(w.status(D1, SELF, 1), unbound(D0, 0));
    }),
    case("AU-08", "DOMID_SELF as remote is the caller, in another domain too", || {
        let w = World::new();
        assert_eq!(w.au(D0, D1, SELF), 1);
        assert_eq!(w.status(D1, SELF, 1), unbound(D0, 0));
    }),
    case("AU-09", "a domain that does not exist is ESRCH", || {
        let w = World::new();
        assert_eq!((w.au(D1, NOBODY, D1), w.au(D0, NOBODY, D1)), (ESRCH, ESRCH));
    }),
    case("AU-10", "the special ids are ESRCH", || {
        let w = World::new();
        for dom in [0x7ff1, 0x7ff2, 0x7ff3, 0x7ff4, 0x7ff5, 0x7fff] {
            assert_eq!(w.au(D0, dom, D1), ESRCH, "{dom:#x}");
        }
    }),
    case("AU-11", "the remote is not looked up", || {
        let w = World::new();
        assert_eq!(w.au(D1, SELF, NOBODY), 1);
        assert_eq!(w.status(D1, SELF, 1), unbound(NOBODY, 0));
    }),
    case("AU-12", "a limit of 1023 gives 1023 ports, then ENOSPC", || {
        let w = World::new();
        for expected in (1..1024).chain([ENOSPC]) {
            assert_eq!(w.au(D1, SELF, D2), expected);
        }
    }),
    case("AU-13", "without a limit a 64-bit two-level domain has 4095 ports", || {
        let w = World::unlimited();
        for expected in (1..4096).chain([ENOSPC]) {
            assert_eq!(w.au(D1, SELF, D2), expected);
        }
    }),
    case("AU-14", "without a limit a 32-bit two-level domain has 1023 ports", || {
        let w = World::narrow();
        for expected in (1..1024).chain([ENOSPC]) {
            assert_eq!(w.au(D1, SELF, D2), expected);
        }
    }),
    case("AU-15", "without a limit a FIFO domain has 131071 ports", || {
        let w = Fifo::new(0);
        for expected in (1..131_072).chain([ENOSPC]) {
            assert_eq!(w.au(D1, SELF, D2), expected);
        }
    }),
    case("AU-16", "a limit of 0 is ENOSPC at once", || {
        assert_eq!(World::with(|one| one.max_port = Some(0)).au(D1, SELF, D1), ENOSPC);
    }),
    case("AU-17", "a port for a domain that is dying is EINVAL", || {
        let w = World::new();
        w.fill_to(D1, 100);
        w.on_preempt(|_| true);
        assert_eq!(w.tear_down(D1), Ok(false));
        assert_eq!((w.au(D0, D1, D0), w.au(D1, SELF, D0), w.counts(D1)), (EINVAL, EINVAL, (36, 0)));
        assert_eq!((w.tear_down(D1), w.au(D0, D1, D0)), (Ok(true), ESRCH));
    }),
    case("AU-18", "ENOSPC comes before EPERM", || {
        let w = World::new();
        w.fill(D2);
        assert_eq!(w.au(D1, D2, D1), ENOSPC);
    }),
    case("AU-19", "a bad pointer is EFAULT and takes no port", || {
        let w = World::new();
        assert_eq!(w.astray(D1, Op::ALLOC_UNBOUND), EFAULT);
        assert_eq!(w.au(D1, SELF, D2), 1);
    }),
    case("AU-20", "an argument that cannot be written back is EFAULT, and the port stays open (Q5)", || {
        let w = World::new();
        let arg = AllocUnbound { dom: DomId::SELF, remote_dom: DomId(D2), ..Default::default() };
        let mut ram = Ram { read_only: true, ..Ram::holding(&arg) };
        assert_eq!(w.raw(D1, Op::ALLOC_UNBOUND.0, 0, &mut ram), EFAULT);
        assert_eq!(w.status(D1, SELF, 1), unbound(D2, 0));
    }),
    case("AU-21", "a port that was closed while pending is not pending when it is given again", || {
        let w = World::new();
        w.fill_to(D1, 5);
        w.set_pending(D1, 5, true);
        assert_eq!(w.close(D1, 5), 0);
        assert_eq!(w.au(D1, SELF, D2), 5);
        assert!(!w.pending(D1, 5));
    }),
    case("AU-22", "a port that was closed while masked is masked when it is given again", || {
        let w = World::new();
        w.fill_to(D1, 5);
        w.set_mask(D1, 5, true);
        assert_eq!(w.close(D1, 5), 0);
        assert_eq!(w.au(D1, SELF, D2), 5);
        assert!(w.masked(D1, 5));
    }),
    case("AU-23", "a closed port that is linked is passed over until it is not", || {
        let w = Fifo::new(1);
        w.fill_to(D1, 3);
        w.set_word(2, L);
        assert_eq!(w.close(D1, 2), 0);
        assert_eq!(w.au(D1, SELF, D2), 4);
        w.set_word(2, 0);
        assert_eq!(w.au(D1, SELF, D2), 2);
    }),
    case("AU-24", "if all free ports are linked the answer is ENOSPC", || {
        let w = Fifo::with(1, |one| one.max_port = Some(63));
        (1..64).for_each(|port| w.set_word(port, L));
        assert_eq!(w.au(D1, SELF, D2), ENOSPC);
    }),
    case("AU-25", "a device model opens ports in its target", || {
        let w = World::new();
        w.create(D3, DomainConfig { target: Some(DomId(D1)), ..guest() });
        assert_eq!(w.au(D3, D1, D3), 1);
        assert_eq!(w.status(D1, SELF, 1), unbound(D3, 0));
        assert_eq!(w.au(D3, D2, D3), EPERM);
    }),
    case("AU-26", "memory that runs out is ENOMEM, and a later try succeeds", || {
        // The engine allocates the records of eight buckets at once, so here it is port 512 that needs memory, not 64.
        let w = World::new();
        w.fill_to(D1, 511);
        assert_eq!(without_memory(1, || w.au(D1, SELF, D2)), ENOMEM);
        assert_eq!((w.counts(D1), w.status(D1, SELF, 512)), ((511, 0), Err(EINVAL)));
        assert_eq!(w.au(D1, SELF, D2), 512);
    }),
];
