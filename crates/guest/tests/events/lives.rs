// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels that are bound, closed, and resumed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use evtchn_abi::{DomId, Errno, Port, Priority, VcpuId, Virq};
use evtchn_guest::{Answer, Event, Hypercall, Resumed, Settings, Source};

use crate::world::{BOTH, Count, GUEST, Kind, SENDER, V0, V1, World, counting};

#[test]
fn a_closed_channel_is_unknown_and_its_record_serves_another() {
    for kind in BOTH {
        let world = World::new(kind);
        let (near, channel, count) = world.channel(Settings::default(), Answer::Done);
        let port = world.guest.port(channel).unwrap();
        world.send(near);
        assert_eq!(world.guest.unbind(channel), Ok(()));
        world.upcalls();
        assert_eq!(count.take(), 0);
        for refused in
            [world.guest.unbind(channel), world.guest.notify(channel), world.guest.move_to(channel, V1)]
        {
            assert_eq!(refused, Err(Errno::ENOENT));
        }
        assert_eq!(world.guest.mask(channel), Err(Errno::ENOENT));
        assert_eq!((world.guest.port(channel), world.guest.channel(port)), (None, None));
        // Until none is left, over and over.
        for _ in 0..3 {
            let all: Vec<_> = (0..8).map(|_| world.channel(Settings::default(), Answer::Done).1).collect();
            let (_, handler) = counting(Answer::Done);
            let full = world.guest.bind_ipi(Settings::default(), handler);
            assert_eq!(full, Err(Errno::ENOSPC));
            assert!(all.iter().all(|&other| other != channel));
            all.into_iter().for_each(|channel| world.guest.unbind(channel).unwrap());
        }
    }
}

#[test]
fn a_records_turn_comes_again_after_all_others() {
    let world = World::new(Kind::Fifo);
    let records: BTreeSet<String> = (0..8)
        .map(|_| {
            let (_, channel, _) = world.channel(Settings::default(), Answer::Done);
            world.guest.unbind(channel).unwrap();
            channel.to_string()
        })
        .collect();
    assert_eq!(records.len(), 8);
}

#[test]
fn a_port_beyond_the_table_is_closed_again() {
    let world = World::new(Kind::Fifo);
    let xen = &*world.machine;
    while xen.alloc_unbound(DomId::SELF, SENDER).unwrap() < Port(63) {}
    let (_, handler) = counting(Answer::Done);
    assert_eq!(world.guest.bind_ipi(Settings::default(), handler), Err(Errno::ENOSPC));
    assert_eq!(xen.close(Port(64)), Err(Errno::EINVAL), "it was closed");
}

#[test]
fn refused_binds_leave_nothing_behind() {
    let world = World::new(Kind::Fifo);
    let bind = |result: fn(&World) -> Result<evtchn_guest::ChannelId, Errno>| result(&world);
    let handler = || counting(Answer::Done).1;
    assert_eq!(world.guest.bind_ipi(Settings::on(VcpuId(2)), handler()), Err(Errno::ENOENT));
    assert_eq!(world.guest.bind_virq(Virq(24), Settings::default(), handler()), Err(Errno::EINVAL));
    let nowhere = bind(|world| {
        let handler = counting(Answer::Done).1;
        world.guest.bind_interdomain(SENDER, Port(60), Settings::default(), handler)
    });
    assert_eq!(nowhere, Err(Errno::EINVAL));
    for _ in 0..8 {
        world.channel(Settings::default(), Answer::Done);
    }
}

#[test]
fn a_handler_may_close_its_own_channel_and_is_dropped_when_it_returns() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }
    for kind in BOTH {
        let world = World::new(kind);
        let dropped = Arc::new(AtomicBool::new(false));
        let (guest, flag, count) = (Arc::downgrade(&world.guest), dropped.clone(), Count::default());
        let (owned, calls) = (Dropped(dropped.clone()), count.clone());
        let handler = Box::new(move |event: &Event<'_>| {
            let _ = &owned;
            let guest = guest.upgrade().unwrap();
            assert!(guest.is_running(event.channel));
            guest.unbind(event.channel).unwrap();
            assert!(!flag.load(SeqCst), "it is running");
            calls.add();
            Answer::Done
        });
        let near = world.offer();
        world.guest.bind_interdomain(SENDER, near, Settings::default().late_eoi(), handler).unwrap();
        world.upcalls();
        assert!(dropped.load(SeqCst));
        world.send(near);
        world.upcalls();
        assert_eq!(count.take(), 1);
    }
}

#[test]
fn a_handler_of_a_closed_channel_is_running_until_it_returns() {
    for kind in BOTH {
        let world = World::new(kind);
        let (guest, seen) = (Arc::downgrade(&world.guest), Arc::new(Mutex::new(Vec::new())));
        let log = seen.clone();
        let near = world.offer();
        let handler = Box::new(move |event: &Event<'_>| {
            let guest = guest.upgrade().unwrap();
            guest.unbind(event.channel).unwrap();
            log.lock().unwrap().push(guest.is_running(event.channel));
            Answer::Done
        });
        let channel = world.guest.bind_interdomain(SENDER, near, Settings::default(), handler).unwrap();
        world.upcalls();
        assert_eq!(*seen.lock().unwrap(), [true], "{kind:?}: who frees what it uses has to wait");
        assert!(!world.guest.is_running(channel));
    }
}

#[test]
fn the_toolstacks_ports_can_be_adopted() {
    for kind in BOTH {
        let world = World::new(kind);
        let port = world.machine.alloc_unbound(DomId::SELF, SENDER).unwrap();
        let near = world.machine.engine.bind_interdomain(SENDER, GUEST, port).unwrap();
        world.send(near);
        let (count, handler) = counting(Answer::Done);
        let channel = world.guest.adopt(port, SENDER, Settings::default(), handler).unwrap();
        assert_eq!(world.guest.port(channel), Some(port));
        world.upcalls();
        assert_eq!(count.take(), 1, "what was sent before is not lost");
        let (_, handler) = counting(Answer::Done);
        assert_eq!(world.guest.adopt(port, SENDER, Settings::default(), handler), Err(Errno::EEXIST));
    }
}

#[test]
fn a_port_that_notified_another_vcpu_before_it_was_adopted_notifies_its_own() {
    for kind in BOTH {
        let world = World::new(kind);
        let xen = &*world.machine;
        let port = xen.alloc_unbound(DomId::SELF, SENDER).unwrap();
        xen.bind_vcpu(port, V1).unwrap();
        let near = xen.engine.bind_interdomain(SENDER, GUEST, port).unwrap();
        let (count, handler) = counting(Answer::Done);
        world.guest.adopt(port, SENDER, Settings::on(V0), handler).unwrap();
        let argo = xen.bind_virq(Virq::ARGO, V0).unwrap();
        xen.bind_vcpu(argo, V1).unwrap();
        let (virqs, handler) = counting(Answer::Done);
        world.guest.bind_virq(Virq::ARGO, Settings::on(V0), handler).unwrap();
        world.send(near);
        xen.engine.raise_virq(GUEST, V0, Virq::ARGO).unwrap();
        let _ = world.guest.upcall(V0);
        assert_eq!((count.take(), virqs.take()), (1, 1), "{kind:?}");
    }
}

#[test]
fn a_virq_that_an_earlier_kernel_has_bound_is_found() {
    let world = World::new(Kind::TwoLevel);
    let xen = &*world.machine;
    let [timer, argo] = [xen.bind_virq(Virq::TIMER, V1), xen.bind_virq(Virq::ARGO, V0)].map(Result::unwrap);
    xen.bind_vcpu(argo, V1).unwrap();
    for (virq, port) in [(Virq::TIMER, timer), (Virq::ARGO, argo)] {
        let (_, handler) = counting(Answer::Done);
        let channel = world.guest.bind_virq(virq, Settings::on(V1), handler).unwrap();
        assert_eq!(world.guest.port(channel), Some(port));
        let (_, handler) = counting(Answer::Done);
        assert_eq!(world.guest.bind_virq(virq, Settings::on(V1), handler), Err(Errno::EEXIST));
    }
}

#[test]
fn after_a_resume_channels_are_bound_anew_or_reported_dead() {
    for kind in BOTH {
        let world = World::new(kind);
        let guest = &world.guest;
        let (near, interdomain, calls) = world.channel(Settings::on(V1).late_eoi(), Answer::Later);
        world.send(near);
        world.upcalls();
        let (ticks, handler) = counting(Answer::Done);
        let timer = guest.bind_virq(Virq::TIMER, Settings::on(V1), handler).unwrap();
        let (ipis, handler) = counting(Answer::Done);
        let ipi = guest.bind_ipi(Settings::on(V0).masked(), handler).unwrap();
        world.migrate();

        let mut reports = Vec::new();
        guest.resume([V0, V1], |report| reports.push(report)).unwrap();
        let [timer_port, ipi_port] = [timer, ipi].map(|channel| guest.port(channel).unwrap());
        assert_eq!(
            reports,
            [
                Resumed::Dead(interdomain),
                Resumed::Rebound(timer, timer_port),
                Resumed::Rebound(ipi, ipi_port)
            ]
        );
        world.machine.engine.raise_virq(GUEST, V1, Virq::TIMER).unwrap();
        guest.notify(ipi).unwrap();
        world.upcalls();
        assert_eq!((ticks.take(), ipis.take()), (1, 0), "the mask is kept");
        guest.unmask(ipi).unwrap();
        world.upcalls();
        assert_eq!(ipis.take(), 1);

        // A dead channel can be masked, moved to another port, and closed.
        assert_eq!(guest.notify(interdomain), Err(Errno::ENOENT));
        assert_eq!(guest.mask(interdomain), Ok(false));
        assert_eq!(guest.unmask(interdomain), Ok(true));
        let new = world.offer();
        calls.take();
        guest.rebind_interdomain(interdomain, SENDER, new).unwrap();
        world.upcalls();
        assert_eq!(calls.take(), 1, "{kind:?}");
        assert_eq!(guest.realloc_unbound(interdomain, SENDER), Err(Errno::EBUSY));
        guest.eoi(interdomain, false).unwrap();
        world.send(new);
        world.upcalls();
        assert_eq!(calls.take(), 1);
        guest.unbind(interdomain).unwrap();
    }
}

#[test]
fn priorities_are_kept_over_a_resume() {
    let world = World::new(Kind::Fifo);
    let order = Arc::new(Mutex::new(Vec::new()));
    let handler = |name| {
        let order = order.clone();
        Box::new(move |_: &Event<'_>| {
            order.lock().unwrap().push(name);
            Answer::Done
        })
    };
    let low = world.guest.bind_ipi(Settings::default(), handler("default")).unwrap();
    let settings = Settings::default().priority(Priority::HIGHEST);
    let high = world.guest.bind_ipi(settings, handler("highest")).unwrap();
    let changed = world.guest.bind_ipi(Settings::default(), handler("changed")).unwrap();
    world.guest.set_priority(changed, Priority(3)).unwrap();
    world.migrate();
    world.guest.resume([V0, V1], |_| {}).unwrap();
    for channel in [low, changed, high] {
        world.guest.notify(channel).unwrap();
    }
    world.upcalls();
    assert_eq!(*order.lock().unwrap(), ["highest", "changed", "default"]);
}

#[test]
fn a_channel_that_xen_refuses_after_a_resume_is_reported_and_does_not_become_another_kind() {
    let world = World::new(Kind::Fifo);
    let (_, handler) = counting(Answer::Done);
    let debug = world.guest.bind_virq(Virq::DEBUG, Settings::default(), handler).unwrap();
    world.migrate();
    while world.machine.alloc_unbound(DomId::SELF, SENDER).is_ok_and(|port| port < Port(63)) {}
    let mut reports = Vec::new();
    world.guest.resume([V0, V1], |report| reports.push(report)).unwrap();
    assert_eq!(reports, [Resumed::Failed(debug, Errno::ENOSPC)]);
    assert_eq!(world.guest.port(debug), None);
    let near = world.offer();
    assert_eq!(world.guest.rebind_interdomain(debug, SENDER, near), Err(Errno::EINVAL));
    assert_eq!(world.guest.realloc_unbound(debug, SENDER), Err(Errno::EINVAL));
}

#[test]
fn the_stores_channel_gets_the_toolstacks_new_port_after_a_resume() {
    for kind in BOTH {
        let world = World::new(kind);
        let guest = &world.guest;
        let toolstack =
            |remote_port| world.machine.engine.bind_interdomain(SENDER, GUEST, remote_port).unwrap();
        let port = world.machine.alloc_unbound(DomId::SELF, SENDER).unwrap();
        let (count, handler) = counting(Answer::Done);
        let store = guest.adopt(port, SENDER, Settings::on(V1), handler).unwrap();
        world.migrate();
        guest.resume([V0, V1], |_| {}).unwrap();
        while world.machine.alloc_unbound(DomId::SELF, SENDER).unwrap() < Port(9) {}
        let near = toolstack(Port(9));
        world.send(near);
        assert_eq!(guest.readopt(store, Port(0), SENDER), Err(Errno::EINVAL));
        assert_eq!(guest.readopt(store, Port(9), SENDER), Ok(Port(9)));
        world.upcalls();
        assert_eq!(count.take(), 1, "{kind:?}: what was sent before is not lost");
        let other = guest.bind_ipi(Settings::default(), counting(Answer::Done).1).unwrap();
        assert_eq!(guest.readopt(store, guest.port(other).unwrap(), SENDER), Err(Errno::EBUSY));
        assert_eq!(guest.readopt(store, Port(8), SENDER), Err(Errno::EBUSY));
        assert_eq!(guest.source(store), Some(Source::Interdomain(SENDER)));
    }
}

#[test]
fn port_0_cannot_be_adopted() {
    let world = World::new(Kind::Fifo);
    let adopted = world.guest.adopt(Port(0), SENDER, Settings::default(), counting(Answer::Done).1);
    assert_eq!(adopted, Err(Errno::EINVAL));
}

#[test]
fn a_port_that_cannot_be_adopted_stays_open() {
    let world = World::new(Kind::Fifo);
    let xen = &*world.machine;
    while xen.alloc_unbound(DomId::SELF, SENDER).unwrap() < Port(64) {}
    let handler = || counting(Answer::Done).1;
    let beyond = world.guest.adopt(Port(64), SENDER, Settings::default(), handler());
    assert_eq!(beyond, Err(Errno::ENOSPC));
    assert_eq!(xen.close(Port(64)), Ok(()), "it is the toolstack's, and there is no way to get another");
}
