// SPDX-License-Identifier: MIT OR Apache-2.0
//! What comes in the middle of something else.

use std::sync::{Arc, Mutex};

use evtchn_abi::{Errno, Op, Virq};
use evtchn_guest::{Answer, Settings};

use crate::world::{BOTH, GUEST, SENDER, V0, V1, World, counting};

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

/// vCPU 1 goes offline while somebody else is about to ask Xen to bind a port to it.
fn vcpu_1_goes_offline_meanwhile(world: &World) {
    let guest = Arc::downgrade(&world.guest);
    world.machine.interrupt(Op::BIND_VCPU, move || {
        let guest = guest.upgrade().unwrap();
        assert_eq!(guest.offline(V1, V0), Ok(()), "who moves a channel takes it further");
    });
}

#[test]
fn a_channel_whose_new_vcpu_goes_offline_meanwhile_is_anothers() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default(), Answer::Done);
        vcpu_1_goes_offline_meanwhile(&world);
        world.guest.move_to(channel, V1).unwrap();
        assert_eq!(world.guest.vcpu(channel), Some(V0), "{kind:?}");
        world.send(near);
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn a_channel_that_is_bound_to_a_vcpu_that_goes_offline_meanwhile_is_anothers() {
    for kind in BOTH {
        let world = World::new(kind);
        let near = world.offer();
        let (count, handler) = counting(Answer::Done);
        vcpu_1_goes_offline_meanwhile(&world);
        let channel = world.guest.bind_interdomain(SENDER, near, Settings::on(V1), handler).unwrap();
        assert_eq!(world.guest.vcpu(channel), Some(V0), "{kind:?}");
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 1, "{kind:?}: what the bind announces");
        world.send(near);
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn a_channel_that_is_just_leaving_a_vcpu_does_not_keep_it_from_going_offline() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::on(V1), Answer::Done);
        vcpu_1_goes_offline_meanwhile(&world);
        world.guest.move_to(channel, V0).unwrap();
        world.send(near);
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn a_dead_channel_whose_vcpu_is_not_resumed_gets_its_port_on_another() {
    for kind in BOTH {
        let world = World::new(kind);
        let (_, channel, count) = world.channel(Settings::on(V1), Answer::Done);
        let (argo, handler) = counting(Answer::Done);
        let global = world.guest.bind_virq(Virq::ARGO, Settings::on(V1), handler).unwrap();
        world.migrate();
        world.guest.resume([V0], |_| {}).unwrap();
        let near = world.offer();
        world.guest.rebind_interdomain(channel, SENDER, near).unwrap();
        assert_eq!([channel, global].map(|channel| world.guest.vcpu(channel)), [Some(V0); 2]);
        world.machine.engine.raise_virq(GUEST, V0, Virq::ARGO).unwrap();
        let _ = world.guest.upcall(V0);
        assert_eq!((count.take(), argo.take()), (1, 1), "{kind:?}");
    }
}
