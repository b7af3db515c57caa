// SPDX-License-Identifier: MIT OR Apache-2.0
//! Late ends of events, and storms.

use evtchn_abi::{Errno, Pirq, Port, VcpuId};
use evtchn_guest::{Answer, ChannelId, Event, Limits, Scan, Settings, Share};

use crate::world::{BOTH, Count, GUEST, Kind, SENDER, V0, V1, World, counting};

const MS: u64 = 1_000_000;

#[test]
fn no_event_comes_before_the_end_of_the_last_has_been_reported() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default().late_eoi(), Answer::Later);
        assert_eq!(world.guest.eoi(channel, false), Ok(()), "of the bind");
        for _ in 0..3 {
            world.send(near);
            world.upcalls();
        }
        assert_eq!(count.take(), 1, "{kind:?}");
        std::thread::scope(|scope| {
            scope.spawn(|| world.guest.eoi(channel, false).unwrap());
        });
        world.upcalls();
        assert_eq!(count.take(), 1, "those that came meanwhile were merged");
        world.guest.eoi(channel, false).unwrap();
        world.upcalls();
        assert_eq!(count.take(), 0);
        assert_eq!(world.guest.eoi(channel, false), Err(Errno::EINVAL), "nothing waits for its end");
    }
}

#[test]
fn a_handler_that_is_done_reports_the_end_by_its_answer() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default().late_eoi(), Answer::Done);
        for _ in 0..3 {
            world.send(near);
            world.upcalls();
        }
        assert_eq!(count.take(), 3, "{kind:?}");
        assert_eq!(world.guest.eoi(channel, false), Err(Errno::EINVAL));
        let (_, edge, _) = world.channel(Settings::default(), Answer::Later);
        assert_eq!(world.guest.eoi(edge, false), Err(Errno::EINVAL), "it waits for none");
    }
}

#[test]
fn the_end_of_an_event_does_not_unmask_what_its_user_has_masked() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default().late_eoi(), Answer::Later);
        world.guest.mask(channel).unwrap();
        world.guest.eoi(channel, false).unwrap();
        world.send(near);
        world.upcalls();
        assert_eq!(count.take(), 0);
        world.guest.unmask(channel).unwrap();
        world.upcalls();
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

/// Sends once; whether the handler was called.
fn is_heard(world: &World, near: Port, count: &Count) -> bool {
    world.send(near);
    world.upcalls();
    count.take() == 1
}

#[test]
fn a_channel_that_is_signalled_for_nothing_is_delayed_longer_and_longer() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::on(V1).late_eoi(), Answer::Spurious);
        // The bind's event was the first, and is forgiven.
        let mut now = 10 * MS;
        world.set_time(now);
        world.send(near);
        world.upcalls();
        for delay in [4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000] {
            assert_eq!(count.take(), 1, "{kind:?}, {delay}");
            let due = now + delay * MS;
            assert_eq!(world.machine.take_deadlines(), [(V1, due)]);
            world.set_time(due - 1);
            world.guest.expire(V1);
            assert_eq!(world.machine.take_deadlines(), [(V1, due)], "asked for again");
            assert!(!is_heard(&world, near, &count), "{kind:?}: not due");
            world.set_time(due);
            world.guest.expire(V1);
            world.upcalls();
            now = due;
        }
        let stats = world.guest.stats(channel).unwrap();
        assert_eq!((stats.events, stats.spurious, stats.delays), (12, 12, 11));
    }
}

#[test]
fn one_event_with_work_forgives_all_that_were_spurious() {
    let world = World::new(Kind::Fifo);
    let (near, channel, count) = world.channel(Settings::default().late_eoi(), Answer::Later);
    world.guest.eoi(channel, true).unwrap();
    for _ in 0..3 {
        assert!(is_heard(&world, near, &count));
        world.guest.eoi(channel, false).unwrap();
        assert!(is_heard(&world, near, &count));
        world.guest.eoi(channel, true).unwrap();
    }
    assert_eq!(world.machine.take_deadlines(), []);
    assert!(is_heard(&world, near, &count));
    world.guest.eoi(channel, true).unwrap();
    assert_eq!(world.guest.eoi(channel, false), Err(Errno::EINVAL), "its end has been reported");
    assert_eq!(world.machine.take_deadlines(), [(V0, 1 + 4 * MS)]);
}

const FLOOD: Limits = Limits { time: 100, events: 4, eoi_delay: 1_000, ..Limits::LINUX };

/// A channel whose handler takes 10 ns and signals it again: its sender never stops.
fn flood(world: &World, settings: Settings) -> (ChannelId, Count) {
    let (near, count) = (world.offer(), Count::default());
    let (machine, calls) = (world.machine.clone(), count.clone());
    let handler = Box::new(move |_: &Event<'_>| {
        calls.add();
        machine.now.fetch_add(10, std::sync::atomic::Ordering::SeqCst);
        machine.engine.send(SENDER, near).unwrap();
        Answer::Done
    });
    let channel = world.guest.bind_interdomain(SENDER, near, settings, handler).unwrap();
    (channel, count)
}

#[test]
fn a_flood_cannot_hold_a_vcpu() {
    for kind in BOTH {
        let world = World::with_limits(kind, FLOOD);
        let (_, count) = flood(&world, Settings::default());
        for _ in 0..3 {
            assert_eq!(world.guest.upcall(V0), Scan::Stopped, "{kind:?}");
            // The clock starts at the fourth event, and is looked at every fourth.
            assert_eq!(count.take(), 28, "{kind:?}");
        }
    }
}

#[test]
fn a_flood_of_a_late_channel_is_masked_for_a_while_and_others_are_heard() {
    for kind in BOTH {
        let world = World::with_limits(kind, FLOOD);
        let (channel, count) = flood(&world, Settings::default().late_eoi());
        assert_eq!(world.guest.upcall(V0), Scan::Done, "{kind:?}");
        assert_eq!(count.take(), 17, "{kind:?}: the first whose end is delayed is the last");
        assert_eq!(world.guest.stats(channel).unwrap().delays, 1);
        let deadlines = world.machine.take_deadlines();
        let &[(vcpu, due)] = &deadlines[..] else { panic!("{deadlines:?}") };
        assert_eq!(vcpu, V0);
        let (near, _, other) = world.channel(Settings::default().late_eoi(), Answer::Done);
        world.send(near);
        world.upcalls();
        assert_eq!((count.take(), other.take()), (0, 1));
        world.set_time(due);
        world.guest.expire(V0);
        let _ = world.guest.upcall(V0);
        assert_ne!(count.take(), 0, "{kind:?}");
    }
}

#[test]
fn delayed_channels_of_a_vcpu_that_goes_offline_expire_on_another() {
    let world = World::with_limits(Kind::Fifo, FLOOD);
    let (_, count) = flood(&world, Settings::on(V1).late_eoi());
    let _ = world.guest.upcall(V1);
    let deadlines = world.machine.take_deadlines();
    let &[(V1, due)] = &deadlines[..] else { panic!("{deadlines:?}") };
    world.guest.offline(V1, V0).unwrap();
    assert_eq!(world.machine.take_deadlines(), [(V0, due)]);
    count.take();
    world.set_time(due);
    world.guest.expire(V0);
    let _ = world.guest.upcall(V0);
    assert_ne!(count.take(), 0);
}

#[test]
fn a_channel_that_is_closed_while_it_is_delayed_leaves_its_record_to_another() {
    let world = World::with_limits(Kind::Fifo, FLOOD);
    let (channel, _) = flood(&world, Settings::default().late_eoi());
    let _ = world.guest.upcall(V0);
    let due = world.machine.take_deadlines()[0].1;
    world.guest.unbind(channel).unwrap();
    let others: Vec<_> =
        (0..8).map(|_| world.channel(Settings::default().late_eoi(), Answer::Later)).collect();
    world.set_time(due);
    world.guest.expire(V0);
    for (near, other, count) in &others {
        world.send(*near);
        world.upcalls();
        assert_eq!(count.take(), 0, "not let in by what another was delayed for");
        world.guest.eoi(*other, false).unwrap();
        world.upcalls();
        assert_eq!(count.take(), 1);
    }
}

#[test]
fn xen_is_told_of_a_late_physical_interrupts_end_when_it_is_reported() {
    for kind in BOTH {
        let world = World::new(kind);
        let (count, handler) = counting(Answer::Later);
        let settings = Settings::default().late_eoi();
        let channel = world.guest.bind_pirq(Pirq(3), Share::No, settings, handler).unwrap();
        world.machine.take_ends();
        for _ in 0..2 {
            world.machine.engine.raise_pirq(GUEST, Pirq(3)).unwrap();
            world.upcalls();
            assert_eq!((count.take(), world.machine.take_ends()), (1, 0), "{kind:?}: it is not handled yet");
            world.guest.eoi(channel, false).unwrap();
            assert_eq!(world.machine.take_ends(), 1);
        }
    }
}

#[test]
fn a_delayed_end_on_a_vcpu_that_has_gone_offline_expires_on_the_channels_vcpu() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::on(V1).late_eoi(), Answer::Later);
        world.guest.eoi(channel, true).unwrap(); // forgiven
        world.send(near);
        world.upcalls();
        assert_eq!(count.take(), 1);
        world.guest.offline(V1, V0).unwrap();
        // The driver's thread finds out later, on vCPU 0, that there was nothing to do.
        world.guest.eoi(channel, true).unwrap();
        let (_, due) = *world.machine.take_deadlines().last().unwrap();
        world.send(near);
        world.set_time(due);
        world.guest.expire(V0);
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn a_delayed_end_of_what_stays_with_an_offline_vcpu_expires_when_it_is_back() {
    for kind in BOTH {
        let world = World::new(kind);
        let (count, handler) = counting(Answer::Later);
        let ipi = world.guest.bind_ipi(Settings::on(V1).late_eoi(), handler).unwrap();
        for is_delayed in [false, true] {
            world.guest.notify(ipi).unwrap();
            world.upcalls();
            assert_eq!(count.take(), 1);
            if is_delayed {
                world.guest.offline(V1, V0).unwrap();
            }
            world.guest.eoi(ipi, true).unwrap(); // the first is forgiven
        }
        let (_, due) = *world.machine.take_deadlines().last().unwrap();
        world.guest.notify(ipi).unwrap();
        world.set_time(due);
        // Whose timer it was has slept through it.
        world.guest.online(V1).unwrap();
        world.upcalls();
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn the_channels_of_an_offline_vcpu_need_one_that_there_is() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::on(V1).late_eoi(), Answer::Later);
        world.guest.eoi(channel, true).unwrap();
        world.send(near);
        world.upcalls();
        world.guest.eoi(channel, true).unwrap();
        let (_, due) = world.machine.take_deadlines()[0];
        assert_eq!(world.guest.offline(V1, VcpuId(2)), Err(Errno::ENOENT));
        assert_eq!(world.guest.offline(VcpuId(2), V0), Err(Errno::ENOENT));
        assert_eq!(world.guest.offline(V1, V1), Err(Errno::EINVAL));
        world.send(near);
        count.take();
        world.set_time(due);
        world.guest.expire(V1);
        world.upcalls();
        assert_eq!(count.take(), 1, "{kind:?}: nothing was changed");
    }
}

#[test]
fn delayed_ends_find_a_vcpu_though_one_after_the_other_goes_offline() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::on(V1).late_eoi(), Answer::Later);
        world.guest.eoi(channel, true).unwrap(); // forgiven
        world.send(near);
        world.upcalls();
        world.guest.offline(V1, V0).unwrap();
        assert_eq!(world.guest.offline(V0, V1), Err(Errno::EINVAL), "nobody would be left");
        world.guest.eoi(channel, true).unwrap();
        world.guest.online(V1).unwrap();
        world.guest.offline(V0, V1).unwrap();
        let (vcpu, due) = *world.machine.take_deadlines().last().unwrap();
        assert_eq!(vcpu, V1, "{kind:?}");
        count.take();
        world.send(near);
        world.set_time(due);
        world.guest.expire(V1);
        let _ = world.guest.upcall(V1);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}
