// SPDX-License-Identifier: MIT OR Apache-2.0
//! Senders against a guest that handles, masks, unmasks and moves its ports, and changes its ABI.

use std::sync::Arc;

use evtchn_abi::{DomId, Port, VcpuId};
use evtchn_sync::atomic::AtomicU32;
use evtchn_sync::atomic::Ordering::SeqCst;
use shuttle::thread;

use crate::guest::VCPUS;
use crate::world::{D1, D2, D3, World, below, check};

const SENDS: u32 = 6;

/// A channel into domain 1, the number of its newest send, and the number that its handler saw last.
struct Connection {
    sender: DomId,
    send: Port,
    port: Port,
    sent: AtomicU32,
    seen: AtomicU32,
}

struct Test {
    world: World,
    connections: Vec<Connection>,
    senders: AtomicU32,
}

impl Test {
    fn new(world: World) -> Arc<Self> {
        let connections = [D2, D3, D2].map(|sender| {
            let (send, port) = world.pair(sender);
            Connection { sender, send, port, sent: AtomicU32::new(0), seen: AtomicU32::new(0) }
        });
        Arc::new(Self { world, connections: connections.into(), senders: AtomicU32::new(0) })
    }

    fn send(&self) {
        for _ in 0..SENDS {
            let connection = &self.connections[below(3) as usize];
            connection.sent.fetch_add(1, SeqCst);
            self.world.engine.send(connection.sender, connection.send).unwrap();
        }
        self.senders.fetch_sub(1, SeqCst);
    }

    fn spawn(self: &Arc<Self>, run: fn(&Self)) -> thread::JoinHandle<()> {
        let test = self.clone();
        thread::spawn(move || run(&test))
    }

    fn handled(&self, port: Port) {
        let connection = self.connections.iter().find(|connection| connection.port == port);
        let connection = connection.expect("an event on a port of this test");
        connection.seen.store(connection.sent.load(SeqCst), SeqCst);
    }

    /// Runs the upcall of each vCPU once.
    fn handle(&self, fifo: bool) {
        for vcpu in (0..VCPUS).map(VcpuId) {
            if fifo {
                self.world.guest.consume(vcpu, |port| self.handled(port));
            } else {
                self.world.guest.look(vcpu).into_iter().for_each(|port| self.handled(port));
            }
        }
    }

    /// Masks a port, perhaps moves it, and unmasks it.
    fn disturb(&self, fifo: bool) {
        let (engine, guest) = (&self.world.engine, &self.world.guest);
        let port = self.connections[below(3) as usize].port;
        if fifo {
            guest.mask(port);
        } else {
            guest.mask_bit(port);
        }
        match below(3) {
            0 => engine.bind_vcpu(D1, port, VcpuId(below(VCPUS))).unwrap(),
            1 if fifo => engine.set_priority(D1, port, below(16)).unwrap(),
            _ => {}
        }
        engine.unmask(D1, port).unwrap();
    }

    /// The guest, until all is sent; then once more. Its ABI at the end.
    fn live(&self, mut fifo: bool, may_switch: bool) {
        while self.senders.load(SeqCst) != 0 {
            match below(4) {
                0 if may_switch && !fifo => {
                    self.world.switch_to_fifo();
                    fifo = true;
                }
                1 => self.disturb(fifo),
                _ => self.handle(fifo),
            }
            thread::yield_now();
        }
        // A masked consumer may have left an upcall that only the next look takes.
        (0..3).for_each(|_| self.handle(fifo));
        for connection in &self.connections {
            let (sent, seen) = (connection.sent.load(SeqCst), connection.seen.load(SeqCst));
            assert_eq!(seen, sent, "port {}", connection.port);
        }
    }

    fn run(self: &Arc<Self>, senders: u32, fifo: bool, may_switch: bool) {
        self.senders.store(senders, SeqCst);
        let threads: Vec<_> = (0..senders).map(|_| self.spawn(Self::send)).collect();
        self.live(fifo, may_switch);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        self.world.engine.validate().unwrap();
    }
}

#[test]
fn a_two_level_guest_sees_the_last_of_all_events() {
    check(|| {
        let test = Test::new(World::new());
        test.handle(false); // that their connecting raised
        test.run(3, false, false);
    });
}

#[test]
fn a_fifo_guest_sees_the_last_of_all_events() {
    check(|| {
        let world = World::new();
        world.switch_to_fifo();
        Test::new(world).run(3, true, false);
    });
}

#[test]
fn a_guest_that_changes_its_abi_meanwhile_sees_the_last_of_all_events() {
    check(|| Test::new(World::new()).run(2, false, true));
}
