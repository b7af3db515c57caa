// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes in the middle of something else.

use std::sync::{Arc, Mutex};

use evtchn_abi::{Errno, Op, Virq};
use evtchn_guest::{Answer, Settings};

use crate::world::{BOTH, GUEST, V0, V1, World, counting};

#[test]
fn a_virq_that_is_being_closed_is_not_taken_over() {
    for kind in BOTH {
        let world = World::new(kind);
        let (_, handler) = counting(Answer::Done);
        let old = world.guest.bind_virq(Virq::DEBUG, Settings::default(), handler).unwrap();
        let (guest, (count, handler)) = (world.guest.clone(), counting(Answer::Done));
        let bound = Arc::new(Mutex::new(None));
        let result = bound.clone();
        world.machine.interrupt(Op::CLOSE, move || {
            *result.lock().unwrap() = Some(guest.bind_virq(Virq::DEBUG, Settings::default(), handler));
        });
        world.guest.unbind(old).unwrap();
        let bound = bound.lock().unwrap().unwrap();
        let _ = world.machine.engine.raise_virq(GUEST, V0, Virq::DEBUG);
        world.upcalls();
        // Either it is refused, or its events come.
        assert_eq!((bound.err(), count.take()), (Some(Errno::EEXIST), 0), "{kind:?}");
        let (count, handler) = counting(Answer::Done);
        world.guest.bind_virq(Virq::DEBUG, Settings::default(), handler).unwrap();
        world.machine.engine.raise_virq(GUEST, V0, Virq::DEBUG).unwrap();
        world.upcalls();
        assert_eq!(count.take(), 1);
    }
}

#[test]
fn a_virq_that_is_being_bound_is_not_bound_twice() {
    for kind in BOTH {
        let world = World::new(kind);
        let (guest, (_, handler)) = (world.guest.clone(), counting(Answer::Done));
        let inner = Arc::new(Mutex::new(None));
        let result = inner.clone();
        // The port is open, and nobody's yet.
        world.machine.interrupt(Op::BIND_VCPU, move || {
            *result.lock().unwrap() = Some(guest.bind_virq(Virq::ARGO, Settings::on(V1), handler));
        });
        let (count, handler) = counting(Answer::Done);
        let outer = world.guest.bind_virq(Virq::ARGO, Settings::on(V1), handler).unwrap();
        assert_eq!(*inner.lock().unwrap(), Some(Err(Errno::EEXIST)), "{kind:?}");
        world.machine.engine.raise_virq(GUEST, V0, Virq::ARGO).unwrap();
        world.upcalls();
        assert_eq!((count.take(), world.guest.stats(outer).unwrap().events), (1, 1));
    }
}
