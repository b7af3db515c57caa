// SPDX-License-Identifier: MIT OR Apache-2.0
//! RS: `reset`, and its private continuation, operation 14.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use evtchn_abi::{DomId, Op, VcpuId};

use crate::fifo::{Fifo, array};
use crate::race::{Stop, wait_until};
use crate::world::*;
use crate::{Case, case, rounds};

/// 200 open ports, and a reset that gives way once, at port 64.
fn preempted_once() -> World {
    let w = World::new();
    w.fill_to(D1, 200);
    let asked = AtomicBool::new(false);
    w.on_preempt(move |_| !asked.swap(true, SeqCst));
    w
}

/// Two-level answers: the sign that domain 1 is not FIFO.
fn is_two_level(w: &World) -> bool {
    w.expand_array(D1, array(0)) == EOPNOTSUPP && w.set_priority(D1, 1, 0) == ENOSYS
}

pub const CASES: &[Case] = &[
    case("RS-01", "ports of all kinds are closed, and peers are unbound", || {
        let w = World::new();
        let (_, far) = w.pair(D1, D2);
        assert_eq!((w.au(D1, SELF, D0), w.bind_virq(D1, TIMER, 1), w.bind_ipi(D1, 2)), (2, 3, 4));
        assert_eq!((w.bind_pirq(D1, 20, 0), w.reset(D1, SELF)), (5, 0));
        assert!((1..6).all(|port| w.status(D1, SELF, port) == closed()));
        assert_eq!((w.status(D2, SELF, far), w.counts(D1)), (unbound(D1, 0), (0, 0)));
    }),
    case("RS-02", "a domain may name itself by its number", || {
        assert_eq!(World::new().reset(D1, D1), 0);
    }),
    case("RS-03", "another domain is EPERM", || {
        let w = World::new();
        w.pause(D2);
        assert_eq!(w.reset(D1, D2), EPERM);
    }),
    case("RS-04", "a domain that does not exist is ESRCH", || {
        assert_eq!(World::new().reset(D1, NOBODY), ESRCH);
    }),
    case("RS-05", "the control domain may not reset a domain that runs", || {
        assert_eq!(World::new().reset(D0, D1), EINVAL);
    }),
    case("RS-06", "but one that is paused", || {
        let w = World::new();
        assert_eq!(w.bind_ipi(D1, 0), 1);
        w.pause(D1);
        assert_eq!((w.reset(D0, D1), w.counts(D1)), (0, (0, 0)));
    }),
    case("RS-07", "operation 14 is EBUSY while no reset has given way (Q12)", || {
        assert_eq!(World::new().reset_cont(D1, SELF), EBUSY);
    }),
    case("RS-08", "a reset that gave way is continued with operation 14; another one is EBUSY", || {
        let w = preempted_once();
        assert_eq!(w.reset(D1, SELF), ERESTART);
        assert_eq!(w.status(D1, SELF, 1), closed());
        assert_eq!(w.status(D1, SELF, 200), ipi(0));
        assert_eq!((w.reset(D1, SELF), w.reset_cont(D1, SELF)), (EBUSY, 0));
        assert_eq!((w.counts(D1), w.reset_cont(D1, SELF)), ((0, 0), EBUSY));
    }),
    case("RS-09", "ports that Xen consumes survive", || {
        let w = World::new();
        let p = port(w.consumer(D0, D1, 0, D2));
        assert_eq!((w.reset(D1, SELF), w.counts(D1), w.bi(D2, D1, p)), (0, (1, 1), 1));
        assert_eq!((w.reset(D1, SELF), w.send(D2, 1), w.callbacks()), (0, 0, vec![(D1, 0, p)]));
    }),
    case(
        "RS-10",
        "a FIFO domain is two-level again, its pages are unpinned, and it can switch again",
        || {
            let w = Fifo::new(2);
            let users = [0, 1].map(|page| w.users(page));
            assert_eq!((w.reset(D1, SELF), is_two_level(&w)), (0, true));
            assert_eq!([0, 1].map(|page| w.users(page) + 1), users);
            w.switch(4);
            w.expand(0);
        },
    ),
    case("RS-11", "so it is if the control domain resets it", || {
        let w = Fifo::new(1);
        w.pause(D1);
        assert_eq!((w.reset(D0, D1), is_two_level(&w)), (0, true));
    }),
    case(
        "RS-12",
        "a port opened behind the reset is EAGAIN, and the ABI stays; the next reset succeeds",
        || {
            let w = Fifo::new(1);
            w.fill_to(D1, 100);
            let asked = AtomicBool::new(false);
            w.on_preempt(move |engine| {
                if !asked.swap(true, SeqCst) {
                    engine.bind_ipi(DomId(D1), VcpuId(1)).unwrap();
                }
                false
            });
            assert_eq!((w.reset(D1, SELF), w.counts(D1)), (EAGAIN, (1, 0)));
            assert_eq!((w.status(D1, SELF, 1), w.set_priority(D1, 1, 0)), (ipi(1), 0));
            assert_eq!((w.reset(D1, SELF), is_two_level(&w)), (0, true));
        },
    ),
    case("RS-13", "mask bits stay (Q11)", || {
        let w = World::new();
        w.fill_to(D1, 3);
        w.set_bits(D1, 2, 0, "PM..");
        w.set_mask(D1, 40, true);
        assert_eq!(w.reset(D1, SELF), 0);
        assert_eq!([2, 40, 3].map(|port| w.bits(D1, port, 0)), [".M..", ".M..", "...."]);
    }),
    case("RS-14", "numbers begin at 1 again", || {
        let w = World::new();
        w.fill_to(D1, 9);
        assert_eq!((w.reset(D1, SELF), w.au(D1, SELF, D2)), (0, 1));
    }),
    case("RS-15", "a bad pointer is EFAULT; two bytes are enough", || {
        let w = World::new();
        let self_ = SELF.to_le_bytes();
        for (bytes, answer) in [(1, EFAULT), (2, 0)] {
            let mut memory = self_;
            assert_eq!(w.raw(D1, Op::RESET.0, 0, &mut memory[..bytes]), answer);
        }
        assert_eq!(w.astray(D1, Op::RESET), EFAULT);
    }),
    case("RS-16", "a reset that is not continued keeps others out until it is", || {
        let w = preempted_once();
        assert_eq!(w.reset(D1, SELF), ERESTART);
        assert_eq!([(); 3].map(|()| w.reset(D1, SELF)), [EBUSY; 3]);
        // It keeps nothing else out.
        let p = w.bind_ipi(D1, 0);
        assert_eq!((p, w.close(D1, port(p)), w.reset_cont(D1, SELF)), (1, 0, 0));
        assert_eq!(w.reset(D1, SELF), 0);
    }),
    case("RS-17", "ports above the two-level limit are closed, too, and then it holds", || {
        let w = Fifo::new(5);
        w.fill_to(D1, 5000);
        assert_eq!((w.reset(D1, SELF), w.counts(D1), w.status(D1, SELF, 5000)), (0, (0, 0), closed()));
        assert_eq!(w.fill(D1), 4095);
    }),
    case("RS-18", "a peer that sends meanwhile does no harm", || {
        let w = Fifo::two_level();
        w.quiet();
        let stop = Stop::default();
        let near = port(w.au(D2, SELF, D1));
        thread::scope(|scope| {
            let _end = stop.at_end();
            scope.spawn(|| {
                while !stop.is_set() {
                    assert_eq!(w.send(D2, near), 0);
                }
            });
            for _ in 0..rounds(500, 100_000) {
                w.switch(2);
                // What racing sends have left there would make the ports busy (Q14). One that is held back by a send may be
                // passed over, so it is not always port 1.
                (1..8).for_each(|p| w.set_word(p, 0));
                w.expand(0);
                let opened = w.bi(D1, D2, near);
                assert_eq!(((1..8).contains(&opened), w.reset(D1, SELF)), (true, 0), "{opened}");
            }
        });
        assert_eq!((w.users(0), w.status(D2, SELF, near)), (2, unbound(D1, 0)));
    }),
    case("RS-19", "expand_array that races a reset succeeds or is EOPNOTSUPP, and no page is lost", || {
        let w = Fifo::two_level();
        w.quiet();
        let users = w.users(0);
        let stop = Stop::default();
        thread::scope(|scope| {
            let end = stop.at_end();
            let expander = scope.spawn(|| {
                let mut succeeded = 0;
                while !stop.is_set() {
                    let answer = w.expand_array(D1, array(0));
                    assert!([0, EOPNOTSUPP, ENOSPC].contains(&answer), "{answer}");
                    succeeded += u32::from(answer == 0);
                }
                succeeded
            });
            for round in 0..rounds(1_000, 200_000) {
                w.switch(1);
                if round == 0 {
                    wait_until(|| w.users(0) > users);
                }
                assert_eq!(w.reset(D1, SELF), 0);
            }
            drop(end);
            assert!(expander.join().unwrap() > 0);
        });
        assert_eq!(w.users(0), users);
    }),
    case(
        "RS-20",
        "a soft reset of a domain that runs is EINVAL and does nothing; else vcpu_infos go, too",
        || {
            let w = World::new();
            let (area, near) = (w.frame(D1, 50), w.pair(D2, D1).0);
            assert_eq!(w.register_vcpu_info(D1, 0, 50, 0), 0);
            let users = Arc::strong_count(&area);
            assert_eq!((w.soft_reset(D1), w.counts(D1), Arc::strong_count(&area)), (EINVAL, (1, 0), users));
            w.pause(D1);
            assert_eq!((w.soft_reset(D1), w.counts(D1), Arc::strong_count(&area)), (0, (0, 0), users - 1));
            // What was registered is shared_info's again, and may be registered anew.
            w.calm();
            assert_eq!((w.status(D2, SELF, near), w.bind_ipi(D1, 0), w.send(D1, 1)), (unbound(D1, 0), 1, 0));
            assert_eq!((w.bits(D1, 1, 0), w.register_vcpu_info(D1, 0, 50, 0)), ("P.SU".into(), 0));
        },
    ),
    case("RS-21", "a reset that must always give way comes to its end (Q13)", || {
        // Xen looks at the same port again and makes no progress; here the next one is remembered.
        let w = World::new();
        w.fill_to(D1, 300);
        w.on_preempt(|_| true);
        assert_eq!(w.reset(D1, SELF), ERESTART);
        let mut rounds = 1;
        while w.reset_cont(D1, SELF) == ERESTART {
            rounds += 1;
            assert!(rounds <= 5, "300 ports are five times 64");
        }
        assert_eq!(w.counts(D1), (0, 0));
    }),
];
