// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels: what masks, moves and closes them, against what delivers their events.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::Errno;
use evtchn_guest::{Answer, Settings};

use crate::table::Tabled;
use crate::world::{PORT, V0, V1, model, spawn};

/// Fails if `deliver` does not look whether the channel is held back, or drops the event of one that is, and if `settle`
/// leaves by anything but the step that finds nothing more to do.
#[test]
fn an_event_that_races_a_mask_comes_before_it_or_after_the_unmask() {
    model(3, || {
        let world = Tabled::new();
        let (channel, log) = world.bind(Settings::default().masked(), Answer::Done);
        world.guest.unmask(channel).unwrap();
        let world = Arc::new(world);
        let vcpu = spawn(&world, |world| world.upcall(V0));
        world.guest.mask(channel).unwrap();
        log.is_masked.store(!world.guest.is_running(channel), SeqCst);
        let before = log.handled();
        assert!(before <= 1);
        log.is_masked.store(false, SeqCst);
        world.guest.unmask(channel).unwrap();
        vcpu.join().unwrap();
        world.rest();
        assert_eq!(log.handled(), 1);
        assert!(!world.port_is_masked());
    });
}

/// Fails if `settle` forgets what changed while it was at it, and if two settle at a time.
#[test]
fn memory_says_in_the_end_what_the_last_of_two_has_said() {
    model(3, || {
        let world = Tabled::new();
        let (channel, log) = world.bind(Settings::default(), Answer::Done);
        world.rest();
        let world = Arc::new(world);
        let other = spawn(&world, move |world| {
            world.guest.mask(channel).unwrap();
        });
        let was_masked = world.guest.unmask(channel).unwrap();
        other.join().unwrap();
        assert_eq!(world.port_is_masked(), !was_masked);
        world.send();
        world.rest();
        assert_eq!(log.handled(), if was_masked { 2 } else { 1 });
    });
}

/// Fails if `deliver` runs a handler without ACTIVE, or on a vCPU that the channel has left.
#[test]
fn a_handler_runs_once_at_a_time_while_its_channel_moves() {
    model(2, || {
        let world = Tabled::new();
        let (channel, log) = world.bind(Settings::default(), Answer::Done);
        world.rest();
        let world = Arc::new(world);
        let old = spawn(&world, |world| {
            // Had looked up the vCPU.
            world.send_on(V0);
            let _ = world.upcall(V0);
        });
        world.guest.move_to(channel, V1).unwrap();
        world.send();
        let _ = world.upcall(V1);
        old.join().unwrap();
        world.rest();
        assert!((2..=3).contains(&log.handled()));
        assert!(world.all_is_seen(&log));
        assert!(!world.port_is_masked());
    });
}

/// Fails if `connect` does not let vCPU 0 have the port first.
#[test]
fn an_event_that_vcpu_0_is_told_of_while_the_port_is_bound_to_another_is_handled() {
    model(3, || {
        let world = Arc::new(Tabled::new());
        let sender = spawn(&world, |world| {
            let is_open = *world.xen.opened.lock().unwrap() == 1;
            if is_open {
                // Has looked up the vCPU of a port that is new.
                world.send_on(V0);
            }
        });
        let (_, log) = world.bind(Settings::on(V1), Answer::Done);
        // What the bind announced.
        world.upcall(V1);
        sender.join().unwrap();
        world.rest();
        assert!(world.all_is_seen(&log));
    });
}

/// Fails if a record is freed while its handler runs, or not when it has returned.
#[test]
fn a_channel_that_is_closed_while_its_handler_runs_is_freed_afterwards() {
    model(3, || {
        let world = Tabled::new();
        let (channel, log) = world.bind(Settings::default(), Answer::Done);
        let world = Arc::new(world);
        let vcpu = spawn(&world, |world| world.upcall(V0));
        world.guest.unbind(channel).unwrap();
        vcpu.join().unwrap();
        assert!(log.handled() <= 1);
        assert!(log.is_dropped.load(SeqCst));
        assert_eq!(world.xen.closed.load(SeqCst), 1);
        assert_eq!(world.guest.unbind(channel), Err(Errno::ENOENT));
        let (_, log) = world.bind(Settings::default(), Answer::Done);
        world.rest();
        assert_eq!(log.handled(), 1);
    });
}

/// Fails if the port is closed before the table has forgotten it: its next owner would lose it.
#[test]
fn a_channel_that_takes_the_port_and_the_record_of_another_gets_its_own_events() {
    model(2, || {
        let world = Tabled::new();
        let (channel, _) = world.bind(Settings::default(), Answer::Done);
        world.rest();
        let world = Arc::new(world);
        let other = spawn(&world, |world| {
            world.send_to(1);
            let _ = world.upcall(V0);
        });
        world.guest.unbind(channel).unwrap();
        let (bound, log) = world.try_bind(Settings::default(), Answer::Done);
        other.join().unwrap();
        // The handler may have run until now.
        if bound != Err(Errno::ENOSPC) {
            let channel = bound.unwrap();
            world.rest();
            let first = log.handled();
            assert!((1..=2).contains(&first), "its own, and one that was on its way");
            world.send();
            world.rest();
            assert_eq!(log.handled(), first + 1);
            assert_eq!(world.guest.channel(PORT), Some(channel));
        }
    });
}

/// Fails if `end_move` is left to who closes, and if a port is closed while it is moved.
#[test]
fn a_channel_that_is_closed_while_it_moves_is_closed_once() {
    model(3, || {
        let world = Tabled::new();
        let (channel, log) = world.bind(Settings::default(), Answer::Done);
        world.rest();
        let world = Arc::new(world);
        let mover = spawn(&world, move |world| {
            let moved = world.guest.move_to(channel, V1);
            assert!(matches!(moved, Ok(()) | Err(Errno::ENOENT)));
        });
        world.guest.unbind(channel).unwrap();
        mover.join().unwrap();
        assert_eq!(world.xen.closed.load(SeqCst), 1);
        assert!(log.is_dropped.load(SeqCst));
    });
}

/// Fails if a vCPU that goes offline leaves an event that it was told of.
#[test]
fn what_a_vcpu_leaves_that_goes_offline_is_handled_by_another() {
    model(2, || {
        let world = Tabled::new();
        let (_, log) = world.bind(Settings::default(), Answer::Done);
        let world = Arc::new(world);
        let sender = spawn(&world, |world| world.send());
        // As it was when the sender began, or not: Xen waits for senders before a vCPU is gone.
        sender.join().unwrap();
        let mover = spawn(&world, |world| world.upcall(V1));
        world.guest.offline(V0, V1).unwrap();
        mover.join().unwrap();
        let _ = world.upcall(V1);
        assert_eq!(log.handled(), 1);
    });
}
