// SPDX-License-Identifier: MIT OR Apache-2.0
//! SE: `send`.

use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use evtchn_abi::{DomId, Op, Port, VcpuId};
use evtchn_sync::{HeapPage, Page};

use crate::race::{Mail, until_read};
use crate::world::*;
use crate::{Case, case, rounds};

/// The bits of domain 2's port after domain 1 has sent to it, with `before` in them, and the upcalls.
fn sent(before: &str) -> (String, usize) {
    let w = World::new();
    let (near, far) = w.pair(D1, D2);
    w.set_bits(D2, far, 0, before);
    assert_eq!(w.send(D1, near), 0);
    (w.bits(D2, far, 0), w.delivered().len())
}

/// Bytes of shared_info outside the pending and mask arrays and vCPU 0's block that are not zero.
fn strays(page: &HeapPage, arrays: std::ops::Range<usize>) -> Vec<usize> {
    (64..4096).filter(|at| !arrays.contains(at) && page.u8(*at).unwrap().load(SeqCst) != 0).collect()
}

pub const CASES: &[Case] = &[
    case("SE-01", "an idle port is set pending, selected and announced, with one delivery", || {
        assert_eq!(sent("...."), ("P.SU".into(), 1));
    }),
    case("SE-02", "a masked port is only set pending", || {
        assert_eq!(sent(".M.."), ("PM..".into(), 0));
    }),
    case("SE-03", "a pending port stays as it is", || {
        assert_eq!(sent("P..."), ("P...".into(), 0));
    }),
    case("SE-04", "a selected word gives no new delivery", || {
        assert_eq!(sent("..S."), ("P.S.".into(), 0));
    }),
    case("SE-05", "an upcall that is pending gives no new delivery", || {
        assert_eq!(sent("...U"), ("P.SU".into(), 0));
    }),
    case("SE-06", "an unbound port takes the event", || {
        let w = World::new();
        assert_eq!((w.au(D1, SELF, D2), w.send(D1, 1)), (1, 0));
        assert_eq!(w.delivered(), []);
    }),
    case("SE-07", "VIRQ, PIRQ, free and reserved ports are EINVAL", || {
        let w = World::new();
        let (virq, pirq) = (port(w.bind_virq(D1, TIMER, 0)), port(w.bind_pirq(D1, 3, 0)));
        assert_eq!([virq, pirq, 9, 0].map(|port| w.send(D1, port)), [EINVAL; 4]);
    }),
    case("SE-08", "a port without a record is EINVAL", || {
        let w = World::new();
        assert_eq!([64, u32::MAX].map(|port| w.send(D1, port)), [EINVAL; 2]);
    }),
    case("SE-09", "the selector and the upcall are those of the port's vCPU", || {
        let w = World::new();
        let (near, far) = w.pair(D1, D2);
        assert_eq!((w.bind_vcpu(D2, far, 2), w.send(D1, near)), (0, 0));
        assert_eq!((w.bits(D2, far, 2), w.bits(D2, far, 0)), ("P.SU".into(), "P...".into()));
    }),
    case("SE-10", "a peer that Xen consumes gets its callback and no bits", || {
        let w = World::new();
        let p = port(w.consumer(D0, D2, 3, D1));
        let near = port(w.bi(D1, D2, p));
        assert_eq!((w.send(D1, near), w.callbacks()), (0, vec![(D2, 3, p)]));
        assert_eq!(w.bits(D2, p, 3), "....");
    }),
    case("SE-11", "a guest cannot send from a port that Xen consumes", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D2));
        assert_eq!((w.send(D1, p), w.bi(D2, D1, p), w.send(D1, p)), (EINVAL, 1, EINVAL));
        assert!(w.pending(D2, 1), "by the binding");
    }),
    case("SE-12", "what is sent to a domain that is gone is dropped", || {
        let w = World::new();
        let (near, _) = w.pair(D1, D2);
        w.destroy(D2);
        assert_eq!((w.send(D1, near), w.status(D1, SELF, near)), (0, unbound(D2, 0)));
    }),
    case("SE-13", "two ports of one word give one delivery", || {
        let w = World::new();
        let ports = [w.pair(D1, D2), w.pair(D1, D2)];
        assert_eq!(ports.map(|(near, _)| w.send(D1, near)), [0; 2]);
        assert_eq!(ports.map(|(_, far)| w.bits(D2, far, 0)), ["P.SU", "P.SU"]);
        assert_eq!(w.delivered(), [(D2, 0)]);
    }),
    case("SE-14", "ports 63 and 64 have different selector bits", || {
        let w = World::new();
        w.fill_to(D1, 64);
        assert_eq!([63, 64].map(|port| w.send(D1, port)), [0; 2]);
        assert_eq!((w.bits(D1, 63, 0), w.bits(D1, 64, 0)), ("P.SU".into(), "P.SU".into()));
        assert_eq!(byte(w.page(D1), 8), 0b11);
        assert_eq!(w.delivered(), [(D1, 0)], "the upcall was pending the second time");
    }),
    case(
        "SE-15",
        "the last port has the last selector bit, and nothing outside the arrays is written",
        || {
            for (w, last, arrays) in
                [(World::unlimited(), 4095, 2048..3072), (World::narrow(), 1023, 2048..2304)]
            {
                w.fill_to(D1, last);
                assert_eq!(w.send(D1, last), 0);
                assert_eq!((w.bits(D1, last, 0), w.delivered()), ("P.SU".into(), vec![(D1, 0)]));
                assert_eq!(strays(w.page(D1), arrays), []);
            }
        },
    ),
    case("SE-16", "a bad pointer is EFAULT", || {
        assert_eq!(World::new().astray(D1, Op::SEND), EFAULT);
    }),
    case("SE-17", "with two senders every send is followed by a handling", || {
        let w = World::new();
        let ports = [w.pair(D1, D2), w.pair(D1, D2)];
        w.quiet();
        let rounds = rounds(50_000, 1_000_000);
        let mails: [Mail; 2] = Default::default();
        thread::scope(|scope| {
            for (mail, (near, _)) in mails.iter().zip(ports) {
                let w = &w;
                scope.spawn(move || {
                    for _ in 0..rounds {
                        mail.write();
                        assert_eq!(w.send(D1, near), 0);
                    }
                });
            }
            until_read(&mails, rounds, || {
                // An upcall comes when the byte is set.
                if w.get(D2, Bit::U, 0, 0) {
                    w.scan(D2, 0, |port| mails[usize::from(port == ports[1].1)].read());
                }
            });
        });
    }),
    case("SE-18", "a callback may send and close", || {
        let w = World::new();
        let p = port(w.consumer(D0, D2, 0, D1));
        let near = port(w.bi(D1, D2, p));
        let own = port(w.bind_ipi(D1, 3));
        w.calm();
        w.on_callback(move |engine, _, _| {
            engine.send(DomId(D1), Port(own)).unwrap();
            engine.close(DomId(D1), Port(near)).unwrap();
            engine.bind_ipi(DomId(D1), VcpuId(0)).unwrap();
        });
        assert_eq!((w.send(D1, near), w.callbacks().len()), (0, 1));
        assert_eq!(w.bits(D1, own, 3), "P.SU");
        // The number that was closed is the lowest free one, so the callback's IPI has it.
        assert_eq!((w.status(D1, SELF, near), w.status(D2, SELF, p)), (ipi(0), unbound(D1, 0)));
    }),
];
