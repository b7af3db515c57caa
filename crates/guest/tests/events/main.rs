// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels with handlers, on the engine: with both ABIs, unless something is one ABI's.
#![allow(missing_docs)]

mod late;
mod lives;
mod races;
mod vcpus;
mod world;

use std::sync::{Arc, Mutex};

use evtchn_abi::{Errno, Pirq, Priority, VcpuId, Virq};
use evtchn_guest::{Abi, Answer, Choice, Hypercall, Scan, Settings, Share, Source};

use world::{BOTH, Kind, SENDER, V0, V1, World, counting};

#[test]
fn the_guest_uses_the_abi_that_xen_has() {
    for (kind, choice) in [(Kind::TwoLevel, Choice::TwoLevel), (Kind::Fifo, Choice::Fifo)] {
        assert_eq!(World::new(kind).guest.abi().choice(), choice);
    }
}

#[test]
fn events_of_every_source_reach_their_handlers() {
    for kind in BOTH {
        let world = World::new(kind);
        let (guest, engine) = (&world.guest, &world.machine.engine);
        let (timer, handler) = counting(Answer::Done);
        guest.bind_virq(Virq::TIMER, Settings::on(V1), handler).unwrap();
        let (global, handler) = counting(Answer::Done);
        guest.bind_virq(Virq::ARGO, Settings::on(V1), handler).unwrap();
        let (ipi, handler) = counting(Answer::Done);
        let ipi_channel = guest.bind_ipi(Settings::on(V1), handler).unwrap();
        let (interrupt, handler) = counting(Answer::Done);
        let pirq = guest.bind_pirq(Pirq(5), Share::No, Settings::on(V1), handler).unwrap();
        assert_eq!(guest.source(pirq), Some(Source::Pirq(Pirq(5), Share::No)));
        let (accepted, handler) = counting(Answer::Done);
        let port = guest.alloc_unbound(SENDER, Settings::on(V1), handler).unwrap();
        let near = engine.bind_interdomain(SENDER, world::GUEST, guest.port(port).unwrap()).unwrap();
        world.upcalls();
        let counts = [timer, global, ipi, interrupt, accepted];
        assert_eq!(counts.each_ref().map(world::Count::take), [0; 5]);

        engine.raise_virq(world::GUEST, V1, Virq::TIMER).unwrap();
        engine.raise_virq(world::GUEST, V0, Virq::ARGO).unwrap();
        guest.notify(ipi_channel).unwrap();
        engine.raise_pirq(world::GUEST, Pirq(5)).unwrap();
        world.send(near);
        assert_eq!(guest.upcall(V0), Scan::Idle, "all are on vCPU 1");
        assert_eq!(guest.upcall(V1), Scan::Done);
        assert_eq!(counts.each_ref().map(world::Count::take), [1; 5], "{kind:?}");
    }
}

#[test]
fn a_handler_learns_what_has_happened_and_can_answer_its_peer() {
    let world = World::new(Kind::Fifo);
    let near = world.offer();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let handler = Box::new(move |event: &evtchn_guest::Event<'_>| {
        log.lock().unwrap().push((event.channel, event.port, event.vcpu));
        event.notify().unwrap();
        Answer::Done
    });
    let channel = world.guest.bind_interdomain(SENDER, near, Settings::on(V1), handler).unwrap();
    let port = world.guest.port(channel).unwrap();
    assert_eq!(world.guest.channel(port), Some(channel));
    world.upcalls();
    assert_eq!(*seen.lock().unwrap(), [(channel, port, V1)], "binding announces what may have been sent");
    assert!(
        world.machine.engine.debug_dump(SENDER).unwrap().iter().any(|row| row.port == near && row.pending)
    );
}

#[test]
fn an_event_of_a_masked_channel_comes_when_it_is_unmasked() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default(), Answer::Done);
        assert_eq!(world.guest.mask(channel), Ok(false));
        world.send(near);
        world.upcalls();
        assert_eq!(count.take(), 0);
        assert_eq!(world.guest.mask(channel), Ok(true));
        assert_eq!(world.guest.unmask(channel), Ok(true));
        world.upcalls();
        assert_eq!(count.take(), 1, "{kind:?}");
        assert_eq!(world.guest.unmask(channel), Ok(false));
    }
}

#[test]
fn masking_and_unmasking_an_idle_channel_needs_no_hypercall() {
    for kind in BOTH {
        let world = World::new(kind);
        let (_, channel, _) = world.channel(Settings::default(), Answer::Done);
        world.machine.take_calls();
        world.guest.mask(channel).unwrap();
        world.guest.unmask(channel).unwrap();
        assert_eq!(world.machine.take_calls(), 0, "{kind:?}");
    }
}

#[test]
fn a_channel_that_masks_itself_in_its_handler_is_masked() {
    for kind in BOTH {
        let world = World::new(kind);
        let near = world.offer();
        let (count, guest) = (world::Count::default(), Arc::downgrade(&world.guest));
        let calls = count.clone();
        let handler = Box::new(move |event: &evtchn_guest::Event<'_>| {
            calls.add();
            guest.upgrade().unwrap().mask(event.channel).unwrap();
            Answer::Done
        });
        let channel = world.guest.bind_interdomain(SENDER, near, Settings::default(), handler).unwrap();
        world.upcalls();
        world.send(near);
        world.upcalls();
        assert_eq!(count.take(), 1);
        world.guest.unmask(channel).unwrap();
        world.upcalls();
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn an_event_that_comes_while_the_handler_runs_is_handled_afterwards() {
    for kind in BOTH {
        let world = World::new(kind);
        let near = world.offer();
        let (count, machine) = (world::Count::default(), world.machine.clone());
        let calls = count.clone();
        let handler = Box::new(move |_: &evtchn_guest::Event<'_>| {
            if calls.add() == 1 {
                machine.engine.send(SENDER, near).unwrap();
            }
            Answer::Done
        });
        world.guest.bind_interdomain(SENDER, near, Settings::default(), handler).unwrap();
        world.upcalls();
        assert_eq!(count.take(), 2, "{kind:?}");
    }
}

#[test]
fn xen_is_told_of_the_end_of_each_physical_interrupt() {
    for kind in BOTH {
        for settings in [Settings::default(), Settings::default().late_eoi()] {
            let world = World::new(kind);
            let (count, handler) = counting(Answer::Done);
            world.guest.bind_pirq(Pirq(3), Share::Yes, settings, handler).unwrap();
            for _ in 0..3 {
                world.machine.engine.raise_pirq(world::GUEST, Pirq(3)).unwrap();
                world.upcalls();
            }
            assert_eq!((count.take(), world.machine.take_ends()), (3, 3), "{kind:?}, {settings:?}");
        }
    }
}

#[test]
fn higher_priorities_are_handled_first() {
    let world = World::new(Kind::Fifo);
    let order = Arc::new(Mutex::new(Vec::new()));
    let bind = |name, priority| {
        let (near, order) = (world.offer(), order.clone());
        let handler = Box::new(move |_: &evtchn_guest::Event<'_>| {
            order.lock().unwrap().push(name);
            Answer::Done
        });
        let settings = Settings::default().priority(priority);
        world.guest.bind_interdomain(SENDER, near, settings, handler).unwrap()
    };
    bind("low", Priority::LOWEST);
    let raised = bind("raised", Priority::LOWEST);
    bind("high", Priority::HIGHEST);
    world.guest.set_priority(raised, Priority(3)).unwrap();
    world.upcalls();
    order.lock().unwrap().clear();
    for row in world.machine.engine.debug_dump(SENDER).unwrap() {
        world.send(row.port);
    }
    world.upcalls();
    assert_eq!(*order.lock().unwrap(), ["high", "raised", "low"]);
}

#[test]
fn events_for_ports_that_no_channel_has_are_counted() {
    for kind in BOTH {
        let world = World::new(kind);
        let xen = &world.machine;
        let port = xen.bind_ipi(V0).unwrap();
        world.guest.abi().cover(port, &**xen).unwrap();
        world.guest.abi().bind(port, V0);
        world.guest.abi().unmask(port, &**xen).unwrap();
        xen.send(port).unwrap();
        world.upcalls();
        assert_eq!((world.guest.unclaimed(V0), world.guest.unclaimed(V1)), (1, 0), "{kind:?}");
        assert_eq!(world.guest.unclaimed(VcpuId(9)), 0);
    }
}

#[test]
fn spurious_events_are_counted() {
    let world = World::new(Kind::TwoLevel);
    let (near, channel, _) = world.channel(Settings::default(), Answer::Spurious);
    world.send(near);
    world.upcalls();
    let stats = world.guest.stats(channel).unwrap();
    assert_eq!((stats.events, stats.spurious, stats.delays), (2, 2, 0), "with the one of the bind");
}

#[test]
fn what_has_no_end_cannot_be_notified() {
    let world = World::new(Kind::Fifo);
    let (_, handler) = counting(Answer::Done);
    let channel = world.guest.bind_virq(Virq::DEBUG, Settings::default(), handler).unwrap();
    assert_eq!(world.guest.notify(channel), Err(Errno::EINVAL));
}

#[test]
fn a_function_is_a_handler() {
    fn ignore(_: &evtchn_guest::Event<'_>) -> Answer {
        Answer::Done
    }
    let world = World::new(Kind::Fifo);
    let near = world.offer();
    world.guest.bind_interdomain(SENDER, near, Settings::default(), Box::new(ignore)).unwrap();
    world.upcalls();
}
