// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels that move between vCPUs, and vCPUs that come and go.

use evtchn_abi::{DomId, Errno, VcpuId, Virq};
use evtchn_guest::{Abi, Answer, Hypercall, Scan, Settings};

use crate::world::{BOTH, GUEST, Kind, SENDER, V0, V1, World, counting};

#[test]
fn a_channel_is_handled_where_it_has_been_moved_to() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default(), Answer::Done);
        world.guest.move_to(channel, V1).unwrap();
        assert_eq!(world.guest.vcpu(channel), Some(V1));
        world.send(near);
        assert_eq!(world.guest.upcall(V0), Scan::Idle);
        let _ = world.guest.upcall(V1);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn an_event_that_waits_on_the_old_vcpu_is_handled_on_the_new() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default(), Answer::Done);
        world.send(near);
        world.guest.move_to(channel, V1).unwrap();
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 0, "{kind:?}: vCPU 0 passes it on");
        let _ = world.guest.upcall(V1);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn an_event_that_comes_on_another_vcpu_again_and_again_is_handled_there() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default(), Answer::Done);
        let port = world.guest.port(channel).unwrap();
        // Behind the back of the table.
        world.guest.abi().move_to_vcpu(port, V1, &*world.machine).unwrap();
        for _ in 0..3 {
            world.send(near);
            world.upcalls();
            assert_eq!(count.take(), 1, "{kind:?}");
        }
    }
}

#[test]
fn an_adopted_port_gets_the_vcpu_of_its_channel() {
    for kind in BOTH {
        let world = World::new(kind);
        let port = world.machine.alloc_unbound(DomId::SELF, SENDER).unwrap();
        world.machine.bind_vcpu(port, V1).unwrap();
        let near = world.machine.engine.bind_interdomain(SENDER, GUEST, port).unwrap();
        let (count, handler) = counting(Answer::Done);
        world.guest.adopt(port, SENDER, Settings::default(), handler).unwrap();
        world.send(near);
        assert_eq!(world.guest.upcall(V1), Scan::Idle, "{kind:?}");
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn channels_with_a_vcpu_of_their_own_are_not_moved() {
    let world = World::new(Kind::Fifo);
    let handler = || counting(Answer::Done).1;
    let ipi = world.guest.bind_ipi(Settings::default(), handler()).unwrap();
    let timer = world.guest.bind_virq(Virq::TIMER, Settings::default(), handler()).unwrap();
    let argo = world.guest.bind_virq(Virq::ARGO, Settings::default(), handler()).unwrap();
    assert_eq!(world.guest.move_to(ipi, V1), Err(Errno::EINVAL));
    assert_eq!(world.guest.move_to(timer, V1), Err(Errno::EINVAL));
    assert_eq!(world.guest.move_to(argo, V1), Ok(()));
    assert_eq!(world.guest.move_to(argo, VcpuId(2)), Err(Errno::ENOENT));
    assert_eq!(world.guest.vcpu(argo), Some(V1));
}

#[test]
fn a_vcpu_that_goes_offline_leaves_its_channels_and_events_to_another() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::on(V1), Answer::Done);
        let (ticks, handler) = counting(Answer::Done);
        world.guest.bind_virq(Virq::TIMER, Settings::on(V1), handler).unwrap();
        world.send(near);
        world.guest.offline(V1, V0).unwrap();
        world.machine.engine.raise_virq(GUEST, V1, Virq::TIMER).unwrap();
        let _ = world.guest.upcall(V0);
        assert_eq!((count.take(), ticks.take()), (1, 0), "{kind:?}");
        assert_eq!(world.guest.vcpu(channel), Some(V0));
        // What came for the vCPU itself has waited.
        world.guest.online(V1).unwrap();
        let _ = world.guest.upcall(V1);
        assert_eq!(ticks.take(), 1, "{kind:?}");
        world.guest.move_to(channel, V1).unwrap();
        world.send(near);
        let _ = world.guest.upcall(V1);
        assert_eq!(count.take(), 1, "{kind:?}");
    }
}

#[test]
fn a_vcpu_without_memory_cannot_come_online() {
    let world = World::new(Kind::Fifo);
    assert_eq!(world.guest.online(VcpuId(2)), Err(Errno::EINVAL));
    assert_eq!(world.guest.upcall(VcpuId(2)), Scan::Idle);
}

#[test]
fn a_dead_channel_follows_when_its_vcpu_goes_offline() {
    for kind in BOTH {
        let world = World::new(kind);
        let (_, channel, count) = world.channel(Settings::on(V1), Answer::Done);
        world.migrate();
        world.guest.resume([V0, V1], |_| {}).unwrap();
        assert_eq!(world.guest.offline(V1, V0), Ok(()), "{kind:?}");
        assert_eq!(world.guest.vcpu(channel), Some(V0));
        world.guest.rebind_interdomain(channel, SENDER, world.offer()).unwrap();
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 1);
    }
}

#[test]
fn a_vcpu_that_was_offline_is_online_when_the_guest_is_resumed_with_it() {
    for kind in BOTH {
        let world = World::new(kind);
        let (ticks, handler) = counting(Answer::Done);
        world.guest.bind_virq(Virq::TIMER, Settings::on(V1), handler).unwrap();
        world.guest.offline(V1, V0).unwrap();
        world.migrate();
        world.guest.resume([V0, V1], |_| {}).unwrap();
        world.machine.engine.raise_virq(GUEST, V1, Virq::TIMER).unwrap();
        world.upcalls();
        assert_eq!(ticks.take(), 1, "{kind:?}");
        assert_eq!(world.guest.offline(V0, V1), Ok(()), "it can be moved to");
    }
}

#[test]
fn a_vcpu_that_is_offline_gets_no_channels_but_its_own() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default(), Answer::Done);
        world.guest.offline(V1, V0).unwrap();
        assert_eq!(world.guest.move_to(channel, V1), Err(Errno::EINVAL));
        let elsewhere = world.guest.alloc_unbound(SENDER, Settings::on(V1), counting(Answer::Done).1);
        assert_eq!(elsewhere, Err(Errno::EINVAL));
        world.send(near);
        let _ = world.guest.upcall(V0);
        assert_eq!(count.take(), 1, "{kind:?}: it has stayed");
        // An IPI waits for its vCPU.
        let (ipis, handler) = counting(Answer::Done);
        let ipi = world.guest.bind_ipi(Settings::on(V1), handler).unwrap();
        world.guest.notify(ipi).unwrap();
        let _ = world.guest.upcall(V1);
        assert_eq!(ipis.take(), 0, "{kind:?}");
        world.guest.online(V1).unwrap();
        let _ = world.guest.upcall(V1);
        assert_eq!(ipis.take(), 1, "{kind:?}");
    }
}
