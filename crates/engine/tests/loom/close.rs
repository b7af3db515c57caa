// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is closed while somebody sends to it.

use evtchn_abi::{DomId, Port};
use evtchn_engine::{DomainConfig, ResetOutcome};
use evtchn_sync::atomic::Ordering::SeqCst;

use crate::world::{D1, D2, World, model};

/// Domain 1 has one port, so the next one that it opens has the same number.
fn one_port() -> World {
    World::with(DomainConfig { max_port: Some(1), ..DomainConfig::guest(2) })
}

/// A send that may come after the close: then its port is unbound, which is no error.
fn send(world: &World) {
    world.engine.send(D2, world.send).unwrap();
}

/// Fails if `free` gives the number back without a look at the readers, or clears the bit before the look.
#[test]
fn no_event_is_left_on_a_closed_port_that_is_handed_out_again() {
    model(3, || {
        let world = World::new();
        world.race(send, |world| {
            world.close();
            let next = world.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
            assert!(!world.guest.pending_bit(next));
        });
    });
}

/// Fails as the one before, and if `allocate` does not wait for readers, or frees what is in quarantine too early.
#[test]
fn no_event_reaches_a_port_that_was_bound_after_the_send_began() {
    model(3, || {
        let world = one_port();
        let world = world.race(send, |world| {
            world.close();
            let (_, next) = world.pair();
            assert_eq!(next, world.port);
            assert!(!world.guest.pending_bit(next));
        });
        // The sender's end has nobody at the other end now, so the event was for nobody.
        assert!(!world.guest.pending_bit(world.port));
        world.engine.validate().unwrap();
    });
}

/// Fails as the ones before.
#[test]
fn a_sender_may_close_its_own_end_meanwhile() {
    model(3, || {
        let world = one_port();
        let world = world.race(
            |world| {
                let _ = world.engine.send(D2, world.send);
            },
            |world| {
                world.engine.close(D2, world.send).unwrap();
                world.close();
                let next = world.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
                assert_eq!(next, world.port);
            },
        );
        assert!(!world.guest.pending_bit(world.port));
    });
}

/// Fails if `free` gives the number back without a look at the readers.
#[test]
fn no_event_is_left_on_a_port_that_a_reset_closed() {
    model(2, || {
        let world = one_port();
        let world = world.race(send, |world| {
            assert_eq!(world.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
            let next = world.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
            assert_eq!(next, world.port);
        });
        assert!(!world.guest.pending_bit(world.port));
    });
}

/// Fails if `finish_reset` drops the FIFO pages without waiting for readers. A late send finds the two-level ABI.
#[test]
fn a_reset_gives_the_fifo_pages_back_when_nobody_uses_them() {
    model(2, || {
        let world = one_port();
        world.switch_to_fifo();
        let world = world.race(send, |world| {
            assert_eq!(world.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
            let next = world.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
            assert_eq!(next, world.port);
        });
        assert!(!world.guest.pending_bit(world.port));
        world.engine.validate().unwrap();
    });
}

/// What a late send leaves in the two-level bits while there is no FIFO ABI may make its closed port busy in the next one;
/// the port that is handed out then is another.
#[test]
fn an_event_of_before_a_reset_does_not_come_after_the_next_switch() {
    model(2, || {
        let world = World::fifo();
        let mut next = Port(0);
        let world = world.race(send, |world| {
            assert_eq!(world.engine.reset(D1, DomId::SELF), Ok(ResetOutcome::Done));
            // The guest clears its pages before it gives them again, as it must.
            world.guest.cell(world.port).store(0, SeqCst);
            world.switch_to_fifo();
            next = world.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
        });
        assert!(!world.guest.word(next).is_pending());
        world.engine.validate().unwrap();
    });
}

/// Fails if `destroy_domain` gives back a page, or the domain's record, without waiting for readers.
#[test]
fn a_domain_that_is_destroyed_is_used_no_more() {
    model(2, || {
        let world = World::fifo();
        let world = world.race(send, |world| {
            drop(world.engine.destroy_domain(D1).unwrap());
        });
        assert_eq!(world.engine.send(D1, Port(1)).unwrap_err().errno(), evtchn_abi::Errno::ESRCH);
    });
}
