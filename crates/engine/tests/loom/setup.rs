// SPDX-License-Identifier: MIT OR Apache-2.0
//! Events that come while the guest sets up the FIFO ABI.

use std::sync::Arc;
use std::sync::atomic::AtomicU32 as Count;
use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::DomId;

use crate::world::{D1, D2, V0, World, model};

/// Fails if `keep` does not look for the word after it has set the flag.
#[test]
fn an_event_that_races_the_page_with_its_word_is_raised() {
    model(2, || {
        let world = World::fifo_without_words();
        let world = world.race(World::send, World::expand);
        let mut seen = 0;
        world.guest.consume(V0, |_| seen += 1);
        assert_eq!(seen, 1);
        world.each_upcall_was_delivered();
    });
}

/// Fails if `collect` does not wait for readers: a bit of the old ABI would be set behind its look.
#[test]
fn an_event_that_races_the_switch_of_the_abi_is_not_left_behind() {
    model(2, || {
        let world = World::new();
        let world = world.race(World::send, |world| {
            world.init_control(V0);
            world.expand();
        });
        let mut seen = 0;
        // The upcall that the two-level ABI announced, if it did, then that of the FIFO ABI.
        world.guest.consume(V0, |_| seen += 1);
        assert_eq!(seen, 1);
    });
}

/// Fails if `collect` looks and raises without the domain's event lock.
#[test]
fn an_event_that_is_collected_while_its_port_is_closed_is_not_left_to_the_next_owner() {
    model(2, || {
        let world = World::new();
        world.send();
        let world = world.race(World::close, |world| {
            world.init_control(V0);
            world.expand();
        });
        world.the_closed_port_has_no_event();
    });
}

/// Fails if `replay` does.
#[test]
fn an_event_that_is_replayed_while_its_port_is_closed_is_not_left_to_the_next_owner() {
    model(2, || {
        let world = World::fifo_without_words();
        world.send();
        let world = world.race(World::close, World::expand);
        world.the_closed_port_has_no_event();
    });
}

/// The array of a model has room for one page more. Fails if `add_array_page` looks before it has locked the domain.
#[test]
fn of_two_that_add_the_last_page_one_is_refused() {
    model(2, || {
        let added = Arc::new(Count::new(0));
        let add = |added: &Count, world: &World| {
            added.fetch_add(world.try_expand().into(), SeqCst);
        };
        let others = added.clone();
        World::fifo().race(move |world| add(&others, world), |world| add(&added, world));
        assert_eq!(added.load(SeqCst), 1);
    });
}

/// Fails if two domains are not locked in an order that is the same for both.
#[test]
fn two_domains_that_bind_to_each_other_do_not_wait_for_ever() {
    model(2, || {
        let world = World::new();
        let one = world.engine.alloc_unbound(D1, DomId::SELF, D2).unwrap();
        let two = world.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
        let world = world.race(
            move |world| {
                let _ = world.engine.bind_interdomain(D2, D1, one).unwrap();
            },
            |world| {
                let _ = world.engine.bind_interdomain(D1, D2, two).unwrap();
            },
        );
        world.engine.validate().unwrap();
    });
}
