// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two-level ABI: raise against the guest, unmask, bind_vcpu, and the page that goes.

use crate::world::{D1, V0, V1, World, model};

/// Fails if `raise_bit` sets the selector before the pending bit or the upcall before the selector, and without the fence of
/// the reader's entry: a send that looks at the pending bit first would see the one that the guest has taken.
#[test]
fn what_the_last_send_brought_is_seen_by_the_guest() {
    model(3, || {
        let mut seen = 0;
        let world = World::new();
        world.send_mail(1);
        let world = world.race(
            |world| world.send_mail(2),
            |world| {
                for _ in 0..2 {
                    if world.guest.look(V0) == [world.port] {
                        seen = world.mail();
                    }
                }
            },
        );
        if world.guest.look(V0) == [world.port] {
            seen = world.mail();
        }
        assert_eq!(seen, 2);
        world.each_upcall_was_delivered();
    });
}

/// Fails without the fence in `raise_bit` or that in `unmask_bit`: both would miss the other's bit.
#[test]
fn an_unmask_or_the_raise_that_races_it_announces_the_event() {
    model(3, || {
        let world = World::new();
        world.guest.mask_bit(world.port);
        let world = world.race(World::send, |world| world.engine.unmask(D1, world.port).unwrap());
        assert_eq!(world.guest.look(V0), [world.port]);
        world.each_upcall_was_delivered();
    });
}

/// Fails if `bind_vcpu` does not wait for readers: the send may tell the old vCPU after the guest has left it.
#[test]
fn after_bind_vcpu_the_guest_looks_at_the_old_vcpu_for_the_last_time() {
    model(3, || {
        let world = World::new();
        let mut last = Vec::new();
        let world = world.race(World::send, |world| {
            world.engine.bind_vcpu(D1, world.port, V1).unwrap();
            last = world.guest.look(V0);
        });
        last.extend(world.guest.look(V1));
        assert_eq!(last, [world.port]);
    });
}

/// As a guest moves a port that is in use. Fails without the fence in `unmask_bit`.
#[test]
fn a_port_that_is_masked_moved_and_unmasked_is_announced_on_its_new_vcpu() {
    model(3, || {
        let world = World::new();
        let world = world.race(World::send, |world| {
            world.guest.mask_bit(world.port);
            world.engine.bind_vcpu(D1, world.port, V1).unwrap();
            world.engine.unmask(D1, world.port).unwrap();
            // The event came before the mask, or after it.
            let old = world.guest.look(V0);
            assert!(old.is_empty() || old == [world.port]);
            if !old.is_empty() {
                world.send();
            }
        });
        assert_eq!(world.guest.look(V1), [world.port]);
    });
}

/// Fails if `set_shared_info` does not wait for readers.
#[test]
fn a_shared_info_that_was_taken_away_is_used_no_more() {
    model(3, || {
        let world = World::new();
        world.race(World::send, |world| {
            let page = world.engine.set_shared_info(D1, None).unwrap();
            drop(page.unwrap());
        });
    });
}
