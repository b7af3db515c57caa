// SPDX-License-Identifier: MIT OR Apache-2.0
//! TD: the end of a domain.

use std::sync::Arc;
use std::thread;

use evtchn_abi::{DomId, Port};
use evtchn_engine::{DomainConfig, OpError};
use evtchn_sync::HeapPage;

use crate::alloc::growth;
use crate::fifo::{Fifo, control};
use crate::race::Stop;
use crate::world::*;
use crate::xen::UNMAPPED;
use crate::{Case, case, rounds};

pub const CASES: &[Case] = &[
    case("TD-01", "1000 peers are left unbound for the dead id and are not told", || {
        let w = World::new();
        let ports: Vec<_> = (0..1000).map(|_| w.pair(D1, D2).1).collect();
        w.destroy(D1);
        assert!(ports.iter().all(|&far| w.status(D2, SELF, far) == unbound(D1, 0)));
        assert!(ports.iter().all(|&far| w.bits(D2, far, 0) == "...."));
        assert_eq!((w.delivered(), w.status(D2, D1, 1)), (vec![], Err(ESRCH)));
    }),
    case("TD-02", "an end that gives way goes on where it was, and completes", || {
        let w = World::new();
        let pairs: Vec<_> = (1..=200).map(|_| w.pair(D1, D2)).collect();
        w.on_preempt(|_| true);
        for left in [136, 72, 8] {
            assert_eq!((w.tear_down(D1), w.counts(D1)), (Ok(false), (left, 0)));
            assert_eq!(w.status(D0, D1, left + 1), closed());
            assert_eq!(w.status(D0, D1, left), interdomain(D2, pairs[left as usize - 1].1, 0));
            // What is left works.
            assert_eq!((w.send(D2, pairs[0].1), w.pending(D1, 1), w.send(D1, 1)), (0, true, 0));
            assert!(w.pending(D2, pairs[0].1));
            w.calm();
        }
        assert_eq!((w.tear_down(D1), w.tear_down(D1)), (Ok(true), Err(OpError::NoDomain)));
        assert!(pairs.iter().all(|&(_, far)| w.status(D2, SELF, far) == unbound(D1, 0)));
        assert!(pairs.iter().all(|&(_, far)| w.bits(D2, far, 0) == "...."));
        assert_eq!(w.delivered(), []);
    }),
    case("TD-03", "a new domain with the dead one's id can bind to its peers (Q4)", || {
        let w = World::new();
        let (_, far) = w.pair(D1, D2);
        w.destroy(D1);
        assert_eq!(w.bi(D0, D2, far), EINVAL);
        w.create(D1, guest());
        assert_eq!((w.bi(D1, D2, far), w.status(D2, SELF, far)), (1, interdomain(D1, 1, 0)));
    }),
    case("TD-04", "the pages of FIFO are unpinned", || {
        let w = Fifo::new(3);
        let block = w.frame(D1, control(2));
        let users = [w.users(0), w.users(2), Arc::strong_count(&block)];
        w.destroy(D1);
        assert_eq!([w.users(0) + 1, w.users(2) + 1, Arc::strong_count(&block) + 1], users);
    }),
    case("TD-05", "a send that races the end succeeds", || {
        let w = World::new();
        w.quiet();
        let near = port(w.au(D2, SELF, D1));
        let stop = Stop::default();
        thread::scope(|scope| {
            let _end = stop.at_end();
            scope.spawn(|| {
                while !stop.is_set() {
                    assert_eq!(w.send(D2, near), 0);
                }
            });
            for _ in 0..rounds(1_000, 50_000) {
                assert_eq!(w.bi(D1, D2, near), 1);
                w.destroy(D1);
                w.create(D1, guest());
            }
        });
        assert_eq!(w.status(D2, SELF, near), unbound(D1, 0));
    }),
    case("TD-06", "the VIRQs of a dead handler go to the default one", || {
        let w = World::new();
        assert_eq!((w.set_virq_handler(CONSOLE, D1), w.set_virq_handler(DOM_EXC, D2)), (0, 0));
        w.destroy(D1);
        assert_eq!((w.bind_virq(D0, CONSOLE, 0), w.raise_global(CONSOLE)), (1, true));
        assert_eq!(w.bind_virq(D0, DOM_EXC, 0), EBUSY, "the others stay where they are");
    }),
    case("TD-07", "a domain that is given up during its creation leaves nothing", || {
        let w = World::new();
        let give_up = || {
            w.engine.create_domain(DomId(D3), guest()).unwrap();
            assert_eq!(w.au(D0, D3, D0), 1);
            assert_eq!(
                w.engine.destroy_domain(DomId(D3)).unwrap().map(|page| Arc::strong_count(&page)),
                None
            );
        };
        give_up();
        assert_eq!(growth(give_up), 0);
        let refused = || {
            for (id, config) in [(D1, guest()), (SELF, guest()), (D3, DomainConfig::guest(0))] {
                assert!(w.engine.create_domain(DomId(id), config).is_err());
            }
        };
        assert_eq!(growth(refused), 0);
        assert!(!w.engine.domain_exists(DomId(D3)));
        let late = w.engine.set_shared_info(DomId(D3), Some(Arc::new(HeapPage::new())));
        assert_eq!(late.err(), Some(OpError::NoDomain));
    }),
    case("TD-08", "a suspend raises the peer of the registered port, or without one DOM_EXC", || {
        let w = World::new();
        let exc = port(w.bind_virq(D0, DOM_EXC, 0));
        let (near, p) = w.pair(D0, D1);
        let suspend = |dom| {
            w.calm();
            w.engine.suspended(DomId(dom)).unwrap();
            (w.pending(D0, near), w.pending(D0, exc), w.delivered())
        };
        w.engine.set_suspend_port(DomId(D1), Port(p)).unwrap();
        assert_eq!(suspend(D1), (true, false, vec![(D0, 0)]));
        assert_eq!(suspend(D2), (false, true, vec![(D0, 0)]));
        w.engine.set_suspend_port(DomId(D1), Port(0)).unwrap();
        assert_eq!(suspend(D1), (false, true, vec![(D0, 0)]));
    }),
    case("TD-09", "when all is closed nothing is counted as open", || {
        let scenarios: [fn(&World); 4] = [
            |w| {
                w.pair(D1, D2);
                w.pair(D0, D1);
            },
            |w| {
                w.bind_virq(D1, TIMER, 1);
                w.bind_virq(D1, ARGO, 0);
                w.bind_virq(D0, CONSOLE, 0);
            },
            |w| {
                w.bind_ipi(D1, 3);
                w.bind_pirq(D1, 20, 0);
                w.bind_pirq(D1, UNMAPPED, 0);
                w.au(D2, SELF, NOBODY);
            },
            |w| {
                w.au(D1, SELF, SELF);
                w.bi(D1, SELF, 1);
                w.au(D1, D2, D1);
                w.bi(D1, D2, 9);
            },
        ];
        for scenario in scenarios {
            let w = World::new();
            scenario(&w);
            assert_eq!([D0, D1, D2].map(|dom| w.reset(dom, SELF)), [0; 3]);
            assert_eq!([D0, D1, D2].map(|dom| w.counts(dom)), [(0, 0); 3]);
            let p = port(w.consumer(D0, D1, 0, D0));
            assert_eq!((w.bi(D0, D1, p), w.free_consumer(D1, p)), (1, 0));
            assert_eq!((w.counts(D1), w.close(D0, 1), w.counts(D0)), ((0, 0), 0, (0, 0)));
        }
    }),
];
