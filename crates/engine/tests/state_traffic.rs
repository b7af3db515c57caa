// SPDX-License-Identifier: MIT OR Apache-2.0
//! A domain that is saved, and whose memory is copied, while others send to it: no event is lost.
#![allow(missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;

use common::state::{Machine, VCPUS, configs};
use common::{D1, D2};
use evtchn_abi::{DomId, Port, VcpuId};

const CHANNELS: usize = 24;

/// Ports of domain 1, each with the port of domain 2 that raises it.
fn channels(machine: &Machine) -> Vec<(Port, Port)> {
    (0..CHANNELS)
        .map(|index| {
            let send = machine.engine.alloc_unbound(D2, DomId::SELF, D1).unwrap();
            let port = machine.engine.bind_interdomain(D1, D2, send).unwrap();
            let index = u32::try_from(index).unwrap();
            machine.engine.bind_vcpu(D1, port, VcpuId(index % VCPUS)).unwrap();
            if machine.uses_fifo(D1) {
                machine.engine.set_priority(D1, port, index % 2 * 5).unwrap();
            }
            (send, port)
        })
        .collect()
}

/// IPIs on the same queues, which nobody sends before the domain is restored.
fn ipis(machine: &Machine) -> Vec<Port> {
    (0..2 * VCPUS)
        .map(|index| {
            let port = machine.engine.bind_ipi(D1, VcpuId(index % VCPUS)).unwrap();
            if machine.uses_fifo(D1) {
                machine.engine.set_priority(D1, port, index / VCPUS * 5).unwrap();
            }
            port
        })
        .collect()
}

/// What a vCPU that looks once gets, at most `limit` ports; all of domain 1's vCPUs.
fn take(machine: &mut Machine, limit: usize) -> BTreeSet<Port> {
    let mut seen = BTreeSet::new();
    for vcpu in 0..VCPUS {
        for _ in 0..limit {
            if machine.uses_fifo(D1) {
                match machine.take_fifo(D1, vcpu) {
                    Some((port, true)) => drop(seen.insert(port)),
                    Some(_) => {}
                    None => break,
                }
            } else {
                let some = machine.take_bits(D1, vcpu);
                if some.is_empty() {
                    break;
                }
                seen.extend(some);
            }
        }
    }
    seen
}

/// Each sender sends over its channels in turn, and says how often it has come around.
fn send_without_end(machine: &Machine, channels: &[(Port, Port)], rounds: &AtomicU32, stop: &AtomicBool) {
    while !stop.load(SeqCst) {
        for &(send, _) in channels {
            machine.engine.send(D2, send).unwrap();
        }
        rounds.fetch_add(1, SeqCst);
    }
}

fn rounds(fifo: bool, count: usize) {
    for round in 0..count {
        let mut machine = Machine::new(&configs());
        if fifo {
            (0..VCPUS).for_each(|vcpu| assert_eq!(machine.init_control(D1, vcpu), "Ok(())"));
            assert_eq!(machine.expand_array(D1), "Ok(())");
        }
        let (channels, ipis) = (channels(&machine), ipis(&machine));
        // The guest stops somewhere in the middle, often when some queues are empty.
        take(&mut machine, round % 13);
        let mut new = Machine { guests: machine.guests.clone(), ..Machine::empty(3) };
        let (go, stop, turns) =
            (AtomicBool::new(false), AtomicBool::new(false), [const { AtomicU32::new(0) }; 2]);
        let (state, before) = thread::scope(|scope| {
            for (half, turns) in channels.chunks(CHANNELS / 2).zip(&turns) {
                let (machine, go, stop) = (&machine, &go, &stop);
                scope.spawn(move || {
                    while !go.load(SeqCst) {
                        thread::yield_now();
                    }
                    send_without_end(machine, half, turns, stop);
                });
            }
            go.store(round % 2 == 0, SeqCst);
            let state = machine.engine.save_domain(D1).unwrap();
            go.store(true, SeqCst);
            // Often until the senders have come around, so that there is something to lose.
            while round % 3 != 0 && turns.iter().any(|turns| turns.load(SeqCst) == 0) {
                thread::yield_now();
            }
            // Who has come around by now has sent on all its channels before the copy.
            let before = [0, 1].map(|half| turns[half].load(SeqCst) > 0);
            new.copy_memory(&machine);
            stop.store(true, SeqCst);
            (state, before)
        });
        new.engine.restore_domain(&state, Some(new.page(D1).clone())).unwrap();
        new.engine.validate().unwrap();
        // Now more is linked behind what was, before the guest looks.
        ipis.iter().for_each(|&ipi| new.engine.send(D1, ipi).unwrap());
        let seen = take(&mut new, usize::MAX);
        assert!(ipis.iter().all(|ipi| seen.contains(ipi)), "round {round}: {seen:?}");
        for (half, came_around) in channels.chunks(CHANNELS / 2).zip(before) {
            for (_, port) in half.iter().filter(|_| came_around) {
                // What the guest had taken before the senders began may not have been sent again; but they sent on all.
                assert!(seen.contains(port), "round {round}: port {port} lost; {seen:?}");
            }
        }
        // And every port still works: nothing is stuck on a queue that nobody reads.
        new.engine.create_domain(D2, configs()[2].clone()).unwrap();
        for &(_, port) in &channels {
            assert_eq!(new.engine.bind_interdomain(D2, D1, port).map(|_| ()), Ok(()), "round {round}");
        }
        let sends: Vec<_> = (1..).map(Port).take(CHANNELS).collect();
        sends.iter().for_each(|&send| new.engine.send(D2, send).unwrap());
        let again = take(&mut new, usize::MAX);
        assert_eq!(again.len(), CHANNELS, "round {round}: {again:?}");
        new.engine.validate().unwrap();
    }
}

#[test]
fn no_two_level_event_is_lost() {
    rounds(false, 60);
}

#[test]
fn no_fifo_event_is_lost_and_no_queue_is_torn() {
    rounds(true, 120);
}
