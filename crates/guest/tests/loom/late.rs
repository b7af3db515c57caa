// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ends of events that are reported late, and those that are delayed.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::Errno;
use evtchn_guest::{Answer, Settings};

use crate::table::{Log, Tabled};
use crate::world::{V0, V1, model, spawn};

/// Runs out all delays.
fn expire(world: &Tabled) {
    let asked = std::mem::take(&mut *world.xen.deadlines.lock().unwrap());
    for (vcpu, deadline) in asked {
        world.xen.now.fetch_max(deadline, SeqCst);
        world.guest.expire(vcpu);
    }
}

/// Reports the end of an event, if there is one that waits for it.
fn end(world: &Tabled, log: &Log, is_spurious: bool) {
    if let Some(channel) = log.take_end() {
        world.guest.eoi(channel, is_spurious).unwrap();
    }
}

/// Fails if the step that lets the handler run does not set EOI.
#[test]
fn no_event_comes_before_the_end_of_the_last_and_none_is_lost() {
    model(3, || {
        let world = Tabled::new();
        let (_, log) = world.bind(Settings::default().late_eoi(), Answer::Later);
        world.rest();
        assert_eq!(log.handled(), 1);
        let world = Arc::new(world);
        let ends = log.clone();
        let other = spawn(&world, move |world| end(world, &ends, false));
        world.send();
        let _ = world.upcall(V0);
        other.join().unwrap();
        world.rest();
        assert_eq!(log.handled(), 2);
        end(&world, &log, false);
        assert!(!world.port_is_masked());
    });
}

/// Fails if `delay` lists the channel before it says so in the state, and if who takes it off the list looks at the state before.
#[test]
fn a_delay_that_races_the_end_of_another_ends() {
    model(3, || {
        let world = Tabled::new();
        let (channel, log) = world.bind(Settings::default().late_eoi(), Answer::Later);
        world.rest();
        // Listed, and closed: the record is its next user's.
        end(&world, &log, true);
        world.guest.unbind(channel).unwrap();
        world.xen.deadlines.lock().unwrap().clear();
        let (_, log) = world.bind(Settings::default().late_eoi(), Answer::Later);
        world.rest();
        let world = Arc::new(world);
        let ends = log.clone();
        let other = spawn(&world, move |world| end(world, &ends, true));
        world.guest.expire(V0);
        other.join().unwrap();
        expire(&world);
        world.send();
        world.rest();
        assert_eq!(log.handled(), 2);
    });
}

/// Fails if the list is not taken as a whole, or without an exchange.
#[test]
fn two_that_expire_let_a_channel_in_once() {
    model(3, || {
        let world = Tabled::new();
        let (_, log) = world.bind(Settings::default().late_eoi(), Answer::Later);
        world.rest();
        end(&world, &log, true);
        let world = Arc::new(world);
        let other = spawn(&world, expire);
        world.guest.expire(V0);
        world.send();
        let _ = world.upcall(V0);
        other.join().unwrap();
        expire(&world);
        world.rest();
        assert_eq!(log.handled(), 2);
    });
}

/// Fails if what is delayed is left with the vCPU that is offline, or is not asked for.
#[test]
fn a_delay_that_races_its_vcpu_going_offline_ends_on_another() {
    model(3, || {
        let world = Tabled::new();
        let (_, log) = world.bind(Settings::default().late_eoi(), Answer::Later);
        world.rest();
        let world = Arc::new(world);
        let ends = log.clone();
        let other = spawn(&world, move |world| end(world, &ends, true));
        world.guest.offline(V0, V1).unwrap();
        other.join().unwrap();
        // A vCPU that is offline has no clock.
        world.xen.deadlines.lock().unwrap().retain(|&(vcpu, _)| vcpu == V1);
        expire(&world);
        world.send();
        world.rest();
        assert_eq!(log.handled(), 2);
    });
}

/// Fails if an end is taken for that of the channel which has the record now.
#[test]
fn the_end_of_a_channel_that_is_gone_lets_nothing_in() {
    model(3, || {
        let world = Tabled::new();
        let (channel, _) = world.bind(Settings::default().late_eoi(), Answer::Later);
        world.rest();
        let world = Arc::new(world);
        let other = spawn(&world, move |world| {
            let ended = world.guest.eoi(channel, false);
            assert!(matches!(ended, Ok(()) | Err(Errno::ENOENT | Errno::EINVAL)));
        });
        world.guest.unbind(channel).unwrap();
        let (bound, log) = world.try_bind(Settings::default().late_eoi(), Answer::Later);
        if bound.is_ok() {
            world.rest();
            world.send();
            world.rest();
        }
        other.join().unwrap();
        world.rest();
        // Unless the other thread had the record until now.
        assert_eq!(log.handled(), u32::from(bound.is_ok()));
        assert!(bound.is_err() || world.port_is_masked());
    });
}
