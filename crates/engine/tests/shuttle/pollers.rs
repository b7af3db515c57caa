// SPDX-License-Identifier: MIT OR Apache-2.0
//! vCPUs that sleep in polls. A poll that nobody ends makes its schedule endless, which shuttle reports.

use std::sync::Arc;

use evtchn_abi::{Port, VcpuId};
use evtchn_engine::PollOutcome;
use evtchn_sync::atomic::Ordering::SeqCst;
use shuttle::thread;

use crate::guest::VCPUS;
use crate::world::{D1, D2, D3, World, below, check};

/// Polls until the port is pending.
fn poll(world: &World, vcpu: VcpuId, ports: &[Port], pending: impl Fn() -> bool) {
    while !pending() {
        if world.engine.sched_poll(D1, vcpu, ports).unwrap() == PollOutcome::Sleep {
            while world.engine.is_polling(D1, vcpu) {
                thread::yield_now();
            }
        }
        world.engine.finish_poll(D1, vcpu);
    }
}

fn pollers_are_woken(fifo: bool) {
    let world = World::new();
    if fifo {
        world.switch_to_fifo();
    }
    let pairs = [world.pair(D2), world.pair(D3)];
    let ports = pairs.map(|(_, port)| port);
    let world = Arc::new(world);
    for port in ports {
        if fifo {
            world.guest.mask(port);
        } else {
            world.guest.mask_bit(port);
        }
    }
    let sleepers: Vec<_> = (0..VCPUS)
        .map(|vcpu| {
            let world = world.clone();
            thread::spawn(move || {
                let own = [ports[vcpu as usize]];
                let wanted = if below(2) == 0 { &own[..] } else { &ports[..] };
                poll(&world, VcpuId(vcpu), wanted, || {
                    wanted.iter().any(|&port| match fifo {
                        true => world.guest.cell(port).load(SeqCst) >> 31 == 1,
                        false => world.guest.pending_bit(port),
                    })
                });
            })
        })
        .collect();
    for ((send, _), sender) in pairs.into_iter().zip([D2, D3]) {
        world.engine.send(sender, send).unwrap();
    }
    sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
    world.engine.validate().unwrap();
}

#[test]
fn a_two_level_poller_is_always_woken() {
    check(|| pollers_are_woken(false));
}

#[test]
fn a_fifo_poller_is_always_woken() {
    check(|| pollers_are_woken(true));
}
