// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a guest may rely on with either ABI, in either width, against the engine.
#![allow(missing_docs)]

mod common;

use std::ops::ControlFlow;
use std::sync::atomic::Ordering::SeqCst;

use common::{Env, GUEST, V0, V1, seen};
use evtchn_abi::{Errno, Port, VcpuId};
use evtchn_engine::test_utils::Call;
use evtchn_engine::{DomainConfig, Width};
use evtchn_guest::{Abi, Hypercall, Scan};
use evtchn_sync::Page;

fn env(width: Width) -> Env {
    Env::with(DomainConfig { width, max_port: Some(1023), ..DomainConfig::guest(2) })
}

/// Runs each of these functions with each kind of guest.
macro_rules! for_each_guest {
    ($kinds:tt $($test:ident)*) => { $(for_each_guest! { @ $test $kinds })* };
    (@ $test:ident { $($kind:ident: $width:ident, $guest:expr;)* }) => {
        mod $test {
            $(#[test]
            fn $kind() {
                let env = super::env(evtchn_engine::Width::$width);
                let guest = $guest(&env);
                super::$test(&env, &guest);
            })*
        }
    };
}

for_each_guest! {
    {
        two_level: Bits64, |env: &super::Env| env.two_level();
        two_level_of_32_bits: Bits32, |env: &super::Env| env.two_level();
        fifo: Bits64, |env: &super::Env| env.fifo(1);
        fifo_of_32_bits: Bits32, |env: &super::Env| env.fifo(1);
        auto: Bits64, |env: &super::Env| env.auto();
    }
    nothing_pending_is_idle
    an_upcall_without_events_is_taken
    every_port_begins_masked
    an_event_is_handled_once
    an_event_that_arrives_during_its_handler_is_handled_again
    an_idle_port_is_masked_and_unmasked_without_xen
    an_event_that_came_while_its_port_was_masked_is_announced_by_xen
    a_handler_that_masks_gets_the_next_event_at_unmask
    an_event_that_was_taken_back_is_not_handled
    a_guest_raises_its_own_port
    an_event_that_was_taken_is_raised_again
    what_a_stopped_upcall_leaves_is_handled_by_the_next
    a_poller_with_little_room_gets_every_event_once
    a_poller_without_room_takes_nothing
    a_moved_port_is_handled_by_its_new_vcpu
    an_event_that_is_masked_when_its_port_moves_follows_it
    an_event_that_is_announced_when_its_port_moves_is_handled_once
    a_refused_move_changes_nothing
    what_an_offline_vcpu_leaves_is_handled_by_another
    what_a_stopped_upcall_of_an_offline_vcpu_leaves_is_handled_by_another
    a_vcpu_comes_online_again_without_xen
    after_a_reset_the_guest_begins_anew
    a_start_takes_away_what_an_earlier_kernel_has_left
    numbers_out_of_range_do_nothing
}

fn nothing_pending_is_idle(_: &Env, guest: &impl Abi) {
    assert!(!guest.upcall(V0, |_| panic!("no event")));
    assert_eq!(guest.upcall_while(V0, |_| ControlFlow::Continue(())), Scan::Idle);
}

fn an_upcall_without_events_is_taken(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    env.send(near);
    assert!(guest.upcall_is_pending(V0) && guest.clear_pending(far));
    assert!(guest.upcall(V0, |_| panic!("no event")));
    assert!(!guest.upcall_is_pending(V0));
}

fn every_port_begins_masked(env: &Env, guest: &impl Abi) {
    let (near, far) = env.connect();
    guest.cover(Port(1023), env).unwrap();
    assert!((0..1024).map(Port).all(|port| guest.is_masked(port)));
    env.send(near);
    assert!(guest.is_pending(far) && !guest.upcall_is_pending(V0));
}

fn an_event_is_handled_once(env: &Env, guest: &impl Abi) {
    let (near, far) = env.open::<3>(guest);
    env.send_all(&[2, 0, 2].map(|at| near[at]));
    let mut ports = seen(guest, V0);
    ports.sort();
    assert_eq!(ports, [far[0], far[2]]);
    assert_eq!(seen(guest, V0), []);
    assert!(far.iter().all(|&port| !guest.is_pending(port)));
}

fn an_event_that_arrives_during_its_handler_is_handled_again(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    env.send(near);
    let mut count = 0;
    guest.upcall(V0, |port| {
        assert!(port == far && !guest.is_pending(port));
        count += 1;
        if count < 3 {
            env.send(near);
        }
    });
    assert_eq!(count, 3);
}

fn an_idle_port_is_masked_and_unmasked_without_xen(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    assert!(!guest.mask(far) && guest.is_masked(far) && guest.mask(far));
    guest.unmask(far, env).unwrap();
    guest.unmask(far, env).unwrap();
    assert_eq!((guest.is_masked(far), env.take_calls()), (false, 0));
    env.send(near);
    assert_eq!(seen(guest, V0), [far]);
}

fn an_event_that_came_while_its_port_was_masked_is_announced_by_xen(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    guest.mask(far);
    env.send(near);
    assert!(guest.is_pending(far) && !guest.upcall_is_pending(V0));
    guest.unmask(far, env).unwrap();
    assert_eq!((guest.is_masked(far), env.take_calls()), (false, 1));
    assert_eq!(seen(guest, V0), [far]);
}

fn a_handler_that_masks_gets_the_next_event_at_unmask(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    env.send(near);
    let mut count = 0;
    guest.upcall(V0, |port| {
        guest.mask(port);
        env.send(near);
        count += 1;
    });
    assert_eq!((count, guest.is_pending(far)), (1, true));
    guest.unmask(far, env).unwrap();
    assert_eq!((seen(guest, V0), seen(guest, V0)), (vec![far], vec![]));
}

fn an_event_that_was_taken_back_is_not_handled(env: &Env, guest: &impl Abi) {
    let (near, far) = env.open::<2>(guest);
    env.send_all(&near);
    assert!(guest.clear_pending(far[0]) && !guest.clear_pending(far[0]));
    assert_eq!(seen(guest, V0), [far[1]]);
}

fn a_guest_raises_its_own_port(env: &Env, guest: &impl Abi) {
    let (_, [far]) = env.open(guest);
    assert!(!guest.mask(far) && !guest.set_pending(far) && guest.set_pending(far));
    assert!(!guest.upcall_is_pending(V0));
    guest.unmask(far, env).unwrap();
    assert_eq!(seen(guest, V0), [far]);
}

fn an_event_that_was_taken_is_raised_again(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    env.send(near);
    let mut count = 0;
    guest.upcall(V0, |port| {
        count += 1;
        if count == 1 {
            guest.raise_again(port, env).unwrap();
        }
    });
    assert_eq!((count, guest.is_masked(far)), (2, false));
    assert_eq!(guest.raise_again(Port(1 << 20), env), Err(Errno::EINVAL));
}

fn what_a_stopped_upcall_leaves_is_handled_by_the_next(env: &Env, guest: &impl Abi) {
    let (near, far) = env.open::<40>(guest);
    env.send_all(&near);
    let mut order = Vec::new();
    let mut step = |port| {
        order.push(port);
        ControlFlow::Break(())
    };
    for _ in far {
        assert_eq!(guest.upcall_while(V0, &mut step), Scan::Stopped);
        assert!(guest.upcall_is_pending(V0));
    }
    assert_eq!(guest.upcall_while(V0, &mut step), Scan::Done);
    assert_eq!(guest.upcall_while(V0, &mut step), Scan::Idle);
    assert_eq!(order, far);
}

fn a_poller_with_little_room_gets_every_event_once(env: &Env, guest: &impl Abi) {
    let (near, far) = env.open::<80>(guest);
    for room in [1, 2, 3, 7, 64, 100] {
        env.send_all(&near);
        let mut buffer = vec![Port(0); room];
        let mut ports = Vec::new();
        while ports.len() < far.len() {
            let taken = guest.take_pending(V0, &mut buffer);
            assert_eq!(taken, room.min(far.len() - ports.len()), "in {room}");
            ports.extend_from_slice(&buffer[..taken]);
        }
        assert_eq!(guest.take_pending(V0, &mut buffer), 0);
        ports.sort();
        assert_eq!(ports, far, "in {room}");
    }
}

fn a_poller_without_room_takes_nothing(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    env.send(near);
    assert_eq!(guest.take_pending(V0, &mut []), 0);
    assert_eq!(seen(guest, V0), [far]);
}

fn a_moved_port_is_handled_by_its_new_vcpu(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    guest.move_to_vcpu(far, V1, env).unwrap();
    env.send(near);
    assert_eq!((seen(guest, V0), seen(guest, V1)), (vec![], vec![far]));
}

fn an_event_that_is_masked_when_its_port_moves_follows_it(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    guest.mask(far);
    env.send(near);
    guest.move_to_vcpu(far, V1, env).unwrap();
    assert!(guest.is_masked(far), "as before");
    guest.unmask(far, env).unwrap();
    assert_eq!((seen(guest, V0), seen(guest, V1)), (vec![], vec![far]));
}

fn an_event_that_is_announced_when_its_port_moves_is_handled_once(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    for order in [[V0, V1], [V1, V0]] {
        env.send(near);
        let is = if guest.upcall_is_pending(V0) { V0 } else { V1 };
        guest.move_to_vcpu(far, VcpuId(1 - is.0), env).unwrap();
        let ports: Vec<_> = order.into_iter().flat_map(|vcpu| seen(guest, vcpu)).collect();
        assert_eq!(ports, [far]);
    }
}

fn a_refused_move_changes_nothing(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    assert_eq!(guest.move_to_vcpu(far, VcpuId(9), env), Err(Errno::ENOENT));
    assert!(!guest.is_masked(far), "unmasked as before");
    env.send(near);
    assert_eq!(seen(guest, V0), [far]);
}

/// Moves ports from vCPU 0, which goes offline, to vCPU 1: what it has left.
fn retire(env: &Env, guest: &impl Abi, ports: &[Port]) -> Vec<Port> {
    for &port in ports {
        guest.move_to_vcpu(port, V1, env).unwrap();
    }
    let mut left = Vec::new();
    guest.offline(V0, |port| left.push(port));
    left
}

fn what_an_offline_vcpu_leaves_is_handled_by_another(env: &Env, guest: &impl Abi) {
    let (near, far) = env.open::<4>(guest);
    env.send_all(&near);
    guest.mask(far[1]);
    guest.clear_pending(far[2]);
    for port in retire(env, guest, &far) {
        assert!(!guest.is_pending(port));
        guest.raise_again(port, env).unwrap();
    }
    let mut ports = seen(guest, V1);
    ports.sort();
    assert_eq!(ports, [far[0], far[3]]);
    assert!(guest.is_pending(far[1]), "it is masked");
    guest.unmask(far[1], env).unwrap();
    assert_eq!((seen(guest, V1), seen(guest, V0)), (vec![far[1]], vec![]));
}

fn what_a_stopped_upcall_of_an_offline_vcpu_leaves_is_handled_by_another(env: &Env, guest: &impl Abi) {
    let (near, far) = env.open::<5>(guest);
    env.send_all(&near);
    let mut first = None;
    let _ = guest.upcall_while(V0, |port| {
        first = Some(port);
        ControlFlow::Break(())
    });
    assert_eq!(first, Some(far[0]));
    let left = retire(env, guest, &far);
    assert_eq!(left, far[1..]);
    left.iter().for_each(|&port| guest.raise_again(port, env).unwrap());
    assert_eq!((seen(guest, V0), seen(guest, V1)), (vec![], far[1..].to_vec()));
}

fn a_vcpu_comes_online_again_without_xen(env: &Env, guest: &impl Abi) {
    let ([near], [far]) = env.open(guest);
    assert_eq!(retire(env, guest, &[far]), []);
    env.take_calls();
    guest.online(V0, env).unwrap();
    assert_eq!(env.take_calls(), 0);
    guest.move_to_vcpu(far, V0, env).unwrap();
    env.send(near);
    assert_eq!((seen(guest, V1), seen(guest, V0)), (vec![], vec![far]));
}

fn after_a_reset_the_guest_begins_anew(env: &Env, guest: &impl Abi) {
    let (near, _) = env.open::<9>(guest);
    env.send_all(&near);
    let _ = guest.upcall_while(V0, |_| ControlFlow::Break(()));
    env.reset(evtchn_abi::DomId::SELF).unwrap();
    guest.forget();
    guest.start();
    [V0, V1].into_iter().for_each(|vcpu| guest.online(vcpu, env).unwrap());
    let ([near], [far]) = env.open(guest);
    env.send(near);
    assert_eq!((seen(guest, V0), seen(guest, V1)), (vec![far], vec![]));
}

fn a_start_takes_away_what_an_earlier_kernel_has_left(env: &Env, guest: &impl Abi) {
    let layout = env.layout();
    for info in [0, 1].map(|vcpu| layout.vcpu_info(vcpu).unwrap()) {
        let byte = |at: usize| env.shared.u8(info + at).unwrap();
        (0..layout.word_size).for_each(|at| byte(layout.pending_sel + at).store(0xff, SeqCst));
        byte(layout.upcall_pending).store(1, SeqCst);
    }
    guest.start();
    let ([near], [far]) = env.open(guest);
    let told =
        || env.engine.hooks().take().iter().filter(|call| matches!(call, Call::Deliver(GUEST, ..))).count();
    told();
    env.send(near);
    assert_eq!((told(), seen(guest, V0)), (1, vec![far]));
}

fn numbers_out_of_range_do_nothing(env: &Env, guest: &impl Abi) {
    let beyond = guest.nr_channels();
    env.take_calls();
    for port in [beyond, 131_072, u32::MAX].map(Port) {
        guest.bind(port, V0);
        guest.unbind(port);
        assert!(guest.mask(port) && guest.is_masked(port) && !guest.is_pending(port));
        assert!(!guest.set_pending(port) && !guest.clear_pending(port));
    }
    let none = VcpuId(99);
    assert!(!guest.upcall(none, |_| panic!("no such vCPU")) && !guest.upcall_is_pending(none));
    guest.offline(none, |_| panic!("no such vCPU"));
    assert_eq!(guest.online(none, env), Err(Errno::EINVAL));
    assert_eq!(env.take_calls(), 0);
    assert_eq!(guest.cover(Port(u32::MAX), env), Err(Errno::ENOSPC));
}
