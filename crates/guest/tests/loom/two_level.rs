// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two-level ABI: masks, words that are taken, and ports that move, against raises.

use evtchn_guest::Abi;

use crate::world::{OTHER, PORT, V0, V1, model, spawn, two_level};

/// Fails if the pending bit is cleared after the handler, and if the upcall byte is cleared after the selector.
#[test]
fn what_the_last_send_brought_is_seen() {
    model(3, || {
        let world = two_level();
        world.send_mail(1);
        let world = world.race(|world| world.send_mail(2), |world| world.upcall(V0));
        let [handled, _] = world.rest();
        assert!(handled == 1 || handled == 2);
        assert_eq!(world.seen.load(std::sync::atomic::Ordering::SeqCst), 2);
    });
}

/// Fails if `unmask` does not look at the pending bit again after it has cleared the mask.
#[test]
fn an_unmask_or_the_raise_that_races_it_announces_the_event() {
    model(3, || {
        let world = two_level();
        world.guest.mask(PORT);
        let world =
            world.race(|world| world.send(PORT), |world| world.guest.unmask(PORT, &world.xen).unwrap());
        assert_eq!(world.rest(), [1, 0]);
    });
}

/// Fails if `unmask_here` looks at the pending bit before it clears the mask.
#[test]
fn a_vcpu_that_unmasks_for_itself_sees_the_event_or_is_told_of_it() {
    model(3, || {
        let world = two_level();
        world.guest.mask(PORT);
        let world = world.race(
            |world| world.send(PORT),
            |world| {
                if world.guest.unmask_here(PORT, V0) {
                    world.look(V0);
                }
            },
        );
        assert_eq!(world.rest(), [1, 0]);
    });
}

/// Fails if a word is taken with what is masked in it.
#[test]
fn a_port_that_is_masked_while_its_word_is_taken_is_handled_once() {
    model(3, || {
        let world = two_level();
        world.send(PORT);
        world.send(OTHER);
        let world = world.race(
            |world| {
                world.guest.mask(PORT);
                let before = world.handled[0].load(std::sync::atomic::Ordering::SeqCst);
                world.guest.mask(PORT);
                assert!(before <= 1);
            },
            |world| world.upcall(V0),
        );
        let [handled, other] = world.rest();
        assert_eq!((handled + u32::from(world.guest.is_pending(PORT)), other), (1, 1));
        world.guest.unmask(PORT, &world.xen).unwrap();
        assert_eq!(world.rest(), [1, 1]);
    });
}

/// Xen may announce on the old vCPU after `bind_vcpu` has returned. Fails if `bind` has the old vCPU forget the port.
#[test]
fn an_event_that_is_announced_on_the_vcpu_of_before_is_taken_there() {
    model(3, || {
        let world = two_level();
        let world = world.race(
            // Had looked up the vCPU.
            |world| world.xen.raise(PORT, V0),
            |world| world.guest.move_to_vcpu(PORT, V1, &world.xen).unwrap(),
        );
        assert_eq!(world.rest(), [1, 0]);
    });
}

/// Fails if `bind` takes the port from the old vCPU before the new one has it, and if the old does not look at the new one's
/// selector.
#[test]
fn a_port_that_moves_while_its_vcpu_looks_is_handled_once() {
    model(2, || {
        let world = std::sync::Arc::new(two_level());
        let sender = spawn(&world, |world| world.xen.raise(PORT, V0));
        let vcpu = spawn(&world, |world| world.look(V0));
        world.guest.move_to_vcpu(PORT, V1, &world.xen).unwrap();
        let _ = world.upcall(V1);
        sender.join().unwrap();
        vcpu.join().unwrap();
        assert_eq!(world.rest(), [1, 0]);
    });
}

/// Fails if an event is handled that another vCPU has taken.
#[test]
fn an_event_that_two_vcpus_see_is_handled_by_one() {
    model(3, || {
        let world = two_level();
        world.guest.move_to_vcpu(PORT, V1, &world.xen).unwrap();
        world.xen.raise(PORT, V0);
        world.xen.raise(OTHER, V0);
        // Announces the word to the new vCPU, too.
        world.guest.mask(PORT);
        let world = world.race(
            |world| {
                world.guest.unmask(PORT, &world.xen).unwrap();
                world.look(V1);
            },
            |world| world.look(V0),
        );
        assert_eq!(world.rest(), [1, 1]);
    });
}
