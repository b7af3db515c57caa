// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIFO ABI: linking against the guest, against other senders, and against unmask.

use evtchn_abi::fifo::Priority;

use crate::world::{D1, D2, V0, World, model};

/// What the handler saw of the mail when it was called last.
fn consume(world: &World, seen: &mut u32) {
    world.guest.consume(V0, |port| {
        assert_eq!(port, world.port);
        *seen = world.mail();
    });
}

/// Fails without the fence of the reader's entry: the sender would see PENDING of before, the handler the mail of before.
#[test]
fn a_send_against_the_consumer_of_the_same_port_loses_nothing() {
    model(3, || {
        let world = World::fifo();
        world.send_mail(1);
        let mut seen = 0;
        let world = world.race(|world| world.send_mail(2), |world| consume(world, &mut seen));
        consume(&world, &mut seen);
        assert_eq!(seen, 2);
        assert_eq!(world.guest.word(world.port).0, 0);
        world.each_upcall_was_delivered();
    });
}

/// A guest that polls takes the event and leaves the port on its queue. Fails if `raise` gives up on LINKED alone.
#[test]
fn an_event_that_was_taken_off_no_queue_is_followed_by_the_next() {
    model(3, || {
        let world = World::fifo();
        world.send_mail(1);
        let mut seen = 0;
        let world = world.race(
            |world| world.send_mail(2),
            |world| {
                world.guest.clear_pending(world.port);
                seen = world.mail();
            },
        );
        consume(&world, &mut seen);
        assert_eq!(seen, 2);
    });
}

/// Fails if `set_link` links behind a tail that is not linked any more.
#[test]
fn a_port_that_is_appended_while_the_tail_is_taken_off_is_found() {
    model(3, || {
        let world = World::fifo();
        let (second, port) = world.pair();
        world.send();
        let mut seen = Vec::new();
        let world = world.race(
            move |world| world.engine.send(D2, second).unwrap(),
            |world| world.guest.consume(V0, |port| seen.push(port)),
        );
        world.guest.consume(V0, |port| seen.push(port));
        assert_eq!(seen, [world.port, port]);
        world.each_upcall_was_delivered();
    });
}

/// Fails if only the sender that sets PENDING links: the other one would return with its event announced to nobody.
#[test]
fn who_finds_a_port_pending_but_not_linked_links_it() {
    model(3, || {
        let world = World::fifo();
        world.race(World::send, |world| {
            world.send();
            let word = world.guest.word(world.port);
            assert!(word.is_pending() && word.is_linked());
        });
    });
}

/// Fails if `raise` or `unmask` does not link what was pending before, or if `unmask` looks whether MASKED was set.
#[test]
fn a_port_that_a_drain_left_pending_is_linked_again() {
    model(3, || {
        let world = World::fifo();
        world.send_mail(1);
        let world = world.race(
            |world| world.send_mail(2),
            |world| {
                let queue = Priority::DEFAULT;
                assert_eq!(world.guest.take_ready(V0), queue.ready_bit());
                while !world.guest.unlink_next(V0, queue).1 {}
                world.engine.unmask(D1, world.port).unwrap();
            },
        );
        let mut seen = 0;
        consume(&world, &mut seen);
        assert_eq!(seen, 2);
    });
}

/// As the one before, without the unmask. Fails if `raise` gives up on PENDING alone, or only the sender that sets it links.
#[test]
fn a_send_behind_a_drain_links_what_the_drain_left_pending() {
    model(3, || {
        let world = World::fifo();
        world.send_mail(1);
        let world = world.race(
            |world| world.send_mail(2),
            |world| {
                world.guest.take_ready(V0);
                while !world.guest.unlink_next(V0, Priority::DEFAULT).1 {}
            },
        );
        world.send_mail(3);
        let mut seen = 0;
        consume(&world, &mut seen);
        assert_eq!(seen, 3);
    });
}

/// Fails if MASKED and PENDING are not looked at in one step, in `raise` or in `unmask`.
#[test]
fn an_unmask_or_the_raise_that_races_it_links_the_port() {
    model(3, || {
        let world = World::fifo();
        world.guest.mask(world.port);
        let world = world.race(World::send, |world| world.engine.unmask(D1, world.port).unwrap());
        let mut seen = Vec::new();
        world.guest.consume(V0, |port| seen.push(port));
        assert_eq!(seen, [world.port]);
        world.each_upcall_was_delivered();
    });
}

/// Fails if `set_ready` comes after the queue's lock is released: READY would send the guest to the HEAD of a port that is
/// on another queue by now.
#[test]
fn no_ready_bit_comes_late_when_its_port_is_on_another_queue() {
    model(3, || {
        let world = World::fifo();
        let mut taken = false;
        let world = world.race(World::send, |world| {
            // A guest that looks at its queue unasked.
            world.guest.consume_queue(V0, Priority::DEFAULT, |_| taken = true);
            world.engine.set_priority(D1, world.port, 15).unwrap();
            world.send();
            world.guest.take_ready(V0);
        });
        if taken {
            assert_eq!(world.guest.take_ready(V0), 0);
        }
        world.engine.validate().unwrap();
    });
}

/// Fails if `link` does not look again at the port's last queue when it has the locks: the queue where the port was in
/// between would keep it as its tail.
#[test]
fn a_port_that_was_on_another_queue_meanwhile_is_no_stale_tail() {
    model(3, || {
        let world = World::fifo();
        let world = world.race(World::send, |world| {
            world.engine.set_priority(D1, world.port, 15).unwrap();
            world.send();
            // The guest takes it off, and leaves it pending.
            let ready = world.guest.take_ready(V0);
            for queue in Priority::all().filter(|queue| ready & queue.ready_bit() != 0) {
                world.guest.unlink_next(V0, queue);
            }
        });
        world.engine.validate().unwrap();
        world.engine.unmask(D1, world.port).unwrap();
        let mut seen = 0;
        world.guest.consume(V0, |_| seen += 1);
        assert_eq!(seen, 1);
    });
}

/// Fails if LINKED is set without the lock of the port's last queue: what is sent there would be linked behind the port, and
/// lost with the next append.
#[test]
fn a_port_that_changes_its_queue_takes_nothing_along() {
    model(3, || {
        let world = World::fifo();
        let (old, stays) = world.pair();
        let (new, follows) = world.pair();
        world.send();
        world.guest.consume(V0, |_| ());
        world.engine.set_priority(D1, world.port, 15).unwrap();
        world.engine.set_priority(D1, follows, 15).unwrap();
        let world = world.race(World::send, move |world| {
            world.engine.send(D2, old).unwrap();
            world.engine.send(D2, new).unwrap();
        });
        let mut seen = Vec::new();
        world.guest.consume(V0, |port| seen.push(port));
        seen.sort();
        assert_eq!(seen, [world.port, stays, follows]);
        world.engine.validate().unwrap();
    });
}

/// Fails if `link` records the port's target of then, rather than the one whose queue it has locked.
#[test]
fn the_last_queue_is_the_one_on_which_the_port_is() {
    model(3, || {
        let world = World::fifo();
        let world = world.race(World::send, |world| {
            world.engine.set_priority(D1, world.port, 15).unwrap();
        });
        world.engine.validate().unwrap();
    });
}

/// Fails if `link` does not look again at the port's last queue when it has the locks: the word is again as it was seen.
#[test]
fn a_port_that_was_on_another_queue_and_consumed_meanwhile_is_no_stale_tail() {
    model(3, || {
        let world = World::fifo();
        let world = world.race(World::send, |world| {
            world.engine.set_priority(D1, world.port, 15).unwrap();
            world.send();
            world.guest.consume(V0, |_| ());
        });
        world.engine.validate().unwrap();
    });
}
