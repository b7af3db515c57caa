// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything at once, on ports that come and go.

use std::sync::Arc;

use evtchn_abi::{DomId, Port, VcpuId, Virq};
use evtchn_engine::{DomainConfig, Link, State};
use evtchn_sync::atomic::Ordering::SeqCst;
use shuttle::thread;

use crate::guest::VCPUS;
use crate::world::{D1, D2, D3, World, below, check};

const OPERATIONS: u32 = 12;

/// Any operation on any port of few. Most are refused, now and then.
fn operate(world: &World) {
    let engine = &world.engine;
    let domain = [D1, D1, D2, D3][below(4) as usize];
    let (port, vcpu) = (Port(below(6)), VcpuId(below(VCPUS)));
    match below(20) {
        0..3 => drop(engine.alloc_unbound(D1, DomId::SELF, D2)),
        3..6 => drop(engine.bind_interdomain(D2, D1, port)),
        6 => drop(engine.bind_ipi(domain, vcpu)),
        7 => drop(engine.bind_virq(domain, Virq::DEBUG, vcpu)),
        8 => drop(engine.raise_virq(domain, vcpu, Virq::DEBUG)),
        9..12 => drop(engine.close(domain, port)),
        12 => drop(engine.bind_vcpu(domain, port, vcpu)),
        13 => drop(engine.unmask(domain, port)),
        14 => drop(engine.set_priority(domain, port, below(16))),
        15 => drop(world.init_control(vcpu)),
        16 => drop(world.expand()),
        17 => drop(engine.reset(domain, DomId::SELF)),
        18 => drop(engine.sched_poll(D1, vcpu, &[port])),
        // The guest writes what it likes.
        _ => world.guest.cell(port).store(below(1 << 16) << 16, SeqCst),
    }
    let _ = engine.send(domain, port);
}

/// Each port that is connected still gets what is sent to it now.
fn every_open_port_still_gets_its_events(world: &World) {
    for domain in [D1, D2, D3].into_iter().filter(|&domain| world.engine.domain_exists(domain)) {
        for row in world.engine.debug_dump(domain).unwrap() {
            let (to, port) = match row.state {
                State::Interdomain { remote, port } => (remote, port),
                State::Ipi => (domain, row.port),
                _ => continue,
            };
            world.engine.send(domain, row.port).unwrap();
            let rows = world.engine.debug_dump(to).unwrap();
            let far = rows.into_iter().find(|row| row.port == port).expect("the far end is open");
            // Only domain 1 has pages, and in the FIFO ABI words and blocks only when it has asked for them.
            let ready = to == D1 && far.link != Link::NoWord && far.vcpu.0 < VCPUS;
            assert!(far.pending || !ready || lacks_its_block(world, far.vcpu), "{far:?}");
        }
    }
}

/// In the FIFO ABI: an event for a vCPU without a control block is dropped. Whether it had one shows when it is given one.
fn lacks_its_block(world: &World, vcpu: VcpuId) -> bool {
    world.init_control(vcpu)
}

#[test]
fn whatever_happens_at_once_the_books_balance() {
    check(|| {
        let world = Arc::new(World::new());
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let world = world.clone();
                thread::spawn(move || (0..OPERATIONS).for_each(|_| operate(&world)))
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        world.engine.validate().unwrap();
        every_open_port_still_gets_its_events(&world);
    });
}

#[test]
fn domains_that_come_and_go_leave_nobody_waiting() {
    check(|| {
        let world = Arc::new(World::new());
        let worker = |run: fn(&World)| {
            let world = world.clone();
            thread::spawn(move || (0..OPERATIONS).for_each(|_| run(&world)))
        };
        let workers = [
            worker(operate),
            worker(operate),
            worker(|world| {
                let domain = [D2, D3][below(2) as usize];
                let created = world.engine.create_domain(domain, DomainConfig::guest(VCPUS));
                if created.is_err() || below(2) == 0 {
                    let _ = world.engine.destroy_domain(domain);
                }
            }),
        ];
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        world.engine.validate().unwrap();
        every_open_port_still_gets_its_events(&world);
    });
}
