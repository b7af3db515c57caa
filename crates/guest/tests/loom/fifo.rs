// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIFO ABI: queues and words against raises, and an array that grows.

use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::fifo::{LINKED, PENDING};
use evtchn_abi::{Errno, Port};
use evtchn_guest::Abi;

use crate::pages::SECOND_PAGE;
use crate::world::{OTHER, PORT, V0, V1, fifo, model};

/// Fails if PENDING is cleared after the handler, and if READY is taken before the upcall byte.
#[test]
fn what_the_last_send_brought_is_seen() {
    model(3, || {
        let world = fifo();
        world.send_mail(1);
        let world = world.race(|world| world.send_mail(2), |world| world.upcall(V0));
        let [handled, _] = world.rest();
        assert!(handled == 1 || handled == 2);
        assert_eq!(world.seen.load(SeqCst), 2);
    });
}

/// Xen sets BUSY at the tail meanwhile, and links behind it. Fails if LINKED and LINK do not go in one step.
#[test]
fn a_port_that_is_linked_behind_one_that_is_taken_is_found() {
    model(3, || {
        let world = fifo();
        world.send(PORT);
        let world = world.race(|world| world.send(OTHER), |world| world.upcall(V0));
        assert_eq!(world.rest(), [1, 1]);
    });
}

/// Fails if `unmask` clears MASKED of a port that is pending, without Xen.
#[test]
fn an_unmask_or_the_raise_that_races_it_links_the_port() {
    model(3, || {
        let world = fifo();
        world.guest.mask(PORT);
        let world =
            world.race(|world| world.send(PORT), |world| world.guest.unmask(PORT, &world.xen).unwrap());
        assert_eq!(world.rest(), [1, 0]);
    });
}

/// Fails if `unmask` clears MASKED while BUSY is set: more changes than the few that Xen puts up with.
#[test]
fn a_mask_is_not_cleared_while_xen_links_behind_the_port() {
    model(3, || {
        let world = fifo();
        world.send(PORT);
        // Taken by who polls: linked, and not pending any more.
        world.guest.clear_pending(PORT);
        world.guest.mask(PORT);
        let world = world.race(
            |world| world.send(OTHER),
            |world| {
                world.guest.unmask(PORT, &world.xen).unwrap();
                assert!(!world.guest.is_masked(PORT));
                world.send(PORT);
            },
        );
        assert_eq!(world.rest(), [1, 1]);
    });
}

/// Fails if a port that is on no queue is not taken, or its event is left.
#[test]
fn a_queue_that_another_vcpu_has_emptied_ends() {
    model(3, || {
        let world = fifo();
        world.send(PORT);
        world.look(V0);
        // READY comes once more for a HEAD of before, while the port is linked on another vCPU's queue.
        let world = world.race(
            |world| {
                world.guest.move_to_vcpu(PORT, V1, &world.xen).unwrap();
                world.send(PORT);
                let _ = world.upcall(V1);
            },
            |world| {
                world.xen.raise(OTHER, V0);
                let _ = world.upcall(V0);
            },
        );
        assert_eq!(world.rest(), [2, 1]);
        let word = world.guest.event_word(PORT).unwrap();
        assert_eq!(word.0 & (PENDING | LINKED), 0);
    });
}

/// Fails if a page is masked after Xen has got it.
#[test]
fn an_event_that_races_the_page_with_its_word_is_handled() {
    model(2, || {
        let world = fifo();
        let port = Port(SECOND_PAGE);
        let world = world.race(
            move |world| world.xen.raise(port, V0),
            |world| {
                world.guest.cover(port, &world.xen).unwrap();
                assert!(world.guest.is_masked(port));
                world.guest.unmask(port, &world.xen).unwrap();
            },
        );
        let mut handled = 0;
        assert!(world.xen.take_interrupt(V0));
        let _ = world.guest.upcall(V0, |_| handled += 1);
        assert_eq!(handled, 1);
    });
}

/// Fails if two add pages at once.
#[test]
fn of_two_that_need_a_page_one_adds_it() {
    model(3, || {
        let cover = |world: &crate::world::World<crate::world::FifoGuest>| {
            let covered = world.guest.cover(Port(SECOND_PAGE), &world.xen);
            assert!(matches!(covered, Ok(()) | Err(Errno::EAGAIN)));
        };
        let world = fifo().race(cover, cover);
        assert_eq!(world.guest.nr_channels(), 2 * SECOND_PAGE);
    });
}
