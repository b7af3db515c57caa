// SPDX-License-Identifier: MIT OR Apache-2.0
//! Polls against sends: no vCPU sleeps on a pending port.

use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::Port;
use evtchn_engine::PollOutcome;

use crate::world::{D1, D2, V0, V1, World, model};

/// The port is masked, so that no upcall wakes the vCPU.
fn poll_against_a_send(world: World, ports: impl Fn(&World) -> Vec<Port>) {
    let mut outcome = PollOutcome::Ready;
    let world = world.race(World::send, |world| {
        outcome = world.engine.sched_poll(D1, V0, &ports(world)).unwrap();
    });
    assert!(!world.engine.is_polling(D1, V0));
    let woken = world.engine.hooks().wakes.load(SeqCst) > 0;
    assert!(woken || outcome == PollOutcome::Ready);
    assert!(!world.engine.finish_poll(D1, V0));
}

/// Fails without the fence in `raise_bit`, and if `take_if` does not look again at a poll that was narrowed meanwhile.
#[test]
fn a_poll_sees_the_event_or_is_woken_by_it() {
    model(3, || {
        let world = World::new();
        world.guest.mask_bit(world.port);
        poll_against_a_send(world, |world| vec![world.port]);
    });
}

/// Fails if `take_if` knows single ports only.
#[test]
fn a_poll_for_several_ports_is_woken_by_any() {
    model(3, || {
        let world = World::new();
        world.guest.mask_bit(world.port);
        let (_, other) = world.pair();
        poll_against_a_send(world, move |world| vec![other, world.port]);
    });
}

/// Fails without the fence in `raise_edge`.
#[test]
fn a_poll_of_a_fifo_guest_sees_the_event_or_is_woken_by_it() {
    model(3, || {
        let world = World::fifo();
        world.guest.mask(world.port);
        poll_against_a_send(world, |world| vec![world.port]);
    });
}

/// The upcall ends a poll for other ports. Fails if `effect` does not end the poll of the vCPU that it tells.
#[test]
fn an_upcall_ends_a_poll_for_another_port() {
    model(3, || {
        let world = World::new();
        let (_, other) = world.pair();
        poll_against_a_send(world, move |_| vec![other]);
    });
}

/// Fails if `begin_poll` announces the poll before it counts it: the send that ends it at once would take another vCPU's poll
/// from the count, and the next send would see that nobody polls.
#[test]
fn a_poll_that_is_ended_while_it_begins_does_not_hide_another() {
    model(2, || {
        let world = World::new();
        let (send, other) = world.pair();
        world.guest.mask_bit(world.port);
        world.guest.mask_bit(other);
        assert_eq!(world.engine.sched_poll(D1, V1, &[other]), Ok(PollOutcome::Sleep));
        let world = world.race(
            move |world| {
                world.send();
                world.engine.send(D2, send).unwrap();
            },
            |world| {
                world.engine.sched_poll(D1, V0, &[world.port, world.port]).unwrap();
            },
        );
        assert!(!world.engine.is_polling(D1, V1));
    });
}

/// The port is not masked, and tells another vCPU than the one that polls. Fails if `has_pollers` looks relaxed and without a fence.
#[test]
fn a_poll_for_a_port_of_another_vcpu_sees_the_event_or_is_woken_by_it() {
    model(3, || {
        let mut outcome = PollOutcome::Ready;
        let world = World::fifo().race(World::send, |world| {
            outcome = world.engine.sched_poll(D1, V1, &[world.port]).unwrap();
        });
        let woken = world.engine.hooks().wakes.load(SeqCst) > 0;
        assert!(woken || outcome == PollOutcome::Ready);
        assert!(!world.engine.finish_poll(D1, V1));
    });
}
