// SPDX-License-Identifier: MIT OR Apache-2.0
//! Engine and guest against each other, in random schedules, with both ABIs.
//!
//! Senders send; each of the guest's vCPUs runs upcalls, and now and then masks the port in its handler and unmasks it
//! later, or stops in the middle; another thread moves ports between vCPUs, masks and unmasks them, changes priorities, and takes vCPUs offline.
//! At the end every connection must have been handled after its last send, at most once for each send, and no other
//! port at all.
//!
//! `EVTCHN_SCHEDULE_SECONDS` makes it run longer than the two seconds that each test takes, `EVTCHN_SCHEDULE_SEED`
//! begins with another seed.
#![allow(missing_docs)]

mod common;

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use std::{env, thread};

use common::{Env, GUEST};
use evtchn_abi::{Port, Priority, VcpuId};
use evtchn_guest::{Abi, Hypercall};
use evtchn_sync::Page;

const VCPUS: u32 = 3;
const CONNECTIONS: usize = 20;
/// Ports that nobody sends to.
const QUIET: usize = 4;
const SENDERS: u64 = 2;
/// How long the threads of one round send. Short: what matters most is what comes after a last send.
const ROUND: Duration = Duration::from_millis(4);
/// How long the last events of a round may take to arrive, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A kind of guest, and what kinds do not have in common.
struct Kind<A> {
    start: fn(&Env) -> A,
    /// Unmasks a port on a vCPU that looks for events afterwards.
    unmask: fn(&A, &Env, Port, VcpuId),
    /// Gives a port a priority, if there is such a thing.
    prioritise: fn(&Env, Port, Priority),
}

/// Pseudo-random numbers: splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from((self.next() >> 11) % n as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// One connection, and what has happened on it.
struct Connection {
    near: Port,
    far: Port,
    sent: AtomicU32,
    /// The number of the newest send that a handler has seen.
    seen: AtomicU32,
    handled: AtomicU32,
    /// Held by whoever masks, unmasks or moves the port.
    control: Mutex<()>,
}

/// A round: the connections, and who still runs.
struct Round<'a, A> {
    env: &'a Env,
    guest: &'a A,
    kind: &'a Kind<A>,
    connections: Vec<Connection>,
    sending: AtomicBool,
    running: AtomicBool,
    /// For each vCPU whether it is to be offline, and whether it is.
    offline: [(AtomicBool, AtomicBool); VCPUS as usize],
}

impl<'a, A: Abi + Sync> Round<'a, A> {
    fn new(env: &'a Env, guest: &'a A, kind: &'a Kind<A>) -> Self {
        let connection = |_| {
            let (near, far) = env.connect();
            let zero = || AtomicU32::new(0);
            Connection { near, far, sent: zero(), seen: zero(), handled: zero(), control: Mutex::default() }
        };
        let connections = (0..CONNECTIONS + QUIET).map(connection).collect();
        let flag = || AtomicBool::new(true);
        let offline = std::array::from_fn(|_| (AtomicBool::new(false), AtomicBool::new(false)));
        Self { env, guest, kind, connections, sending: flag(), running: flag(), offline }
    }

    fn run(&self, seed: u64) {
        let all = self.connections.iter();
        all.for_each(|connection| self.settle(connection, VcpuId(0)));
        thread::scope(|scope| {
            let sends: Vec<_> =
                (0..SENDERS).map(|n| scope.spawn(move || self.send(seed ^ n << 32))).collect();
            let chaos = scope.spawn(|| self.disturb(seed ^ 1 << 40));
            for vcpu in (0..VCPUS).map(VcpuId) {
                scope.spawn(move || self.vcpu(vcpu, seed ^ u64::from(vcpu.0) << 48));
            }
            thread::sleep(ROUND);
            self.sending.store(false, SeqCst);
            sends.into_iter().chain([chaos]).for_each(|thread| thread.join().unwrap());
            self.await_last_events();
            self.running.store(false, SeqCst);
        });
        self.check(seed);
    }

    /// Gives a port to a vCPU and unmasks it.
    fn settle(&self, connection: &Connection, vcpu: VcpuId) {
        self.guest.mask(connection.far);
        self.guest.move_to_vcpu(connection.far, vcpu, self.env).unwrap();
        Hypercall::unmask(self.env, connection.far).unwrap();
    }

    fn send(&self, seed: u64) {
        let mut random = Random(seed);
        while self.sending.load(SeqCst) {
            let connection = &self.connections[random.below(CONNECTIONS)];
            connection.sent.fetch_add(1, SeqCst);
            self.env.send(connection.near);
        }
    }

    fn vcpu(&self, vcpu: VcpuId, seed: u64) {
        let mut random = Random(seed);
        let mut masked: Vec<&Connection> = Vec::new();
        let (wanted, is) = &self.offline[vcpu.0 as usize];
        while self.running.load(SeqCst) {
            let offline = wanted.load(SeqCst);
            if !offline {
                let _ = self.guest.upcall_while(vcpu, |port| {
                    let connection = self.handle(port);
                    if random.one_in(4) && self.mask(connection) {
                        masked.push(connection);
                    }
                    if random.one_in(8) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
            }
            for connection in masked.drain(..) {
                let _control = connection.control.lock().unwrap();
                (self.kind.unmask)(self.guest, self.env, connection.far, vcpu);
            }
            is.store(offline, SeqCst);
            thread::yield_now();
        }
    }

    /// Masks a port, unless it is being changed: a handler must not wait for those who make an upcall wait.
    fn mask(&self, connection: &Connection) -> bool {
        let Ok(_control) = connection.control.try_lock() else { return false };
        !self.guest.mask(connection.far)
    }

    fn connection(&self, port: Port) -> &Connection {
        let connection = self.connections.iter().find(|connection| connection.far == port);
        connection.unwrap_or_else(|| panic!("port {port} is not bound"))
    }

    fn handle(&self, port: Port) -> &Connection {
        let connection = self.connection(port);
        let sent = connection.sent.load(SeqCst);
        assert_ne!(sent, 0, "nobody has sent to port {port}");
        connection.handled.fetch_add(1, SeqCst);
        connection.seen.fetch_max(sent, SeqCst);
        connection
    }

    fn disturb(&self, seed: u64) {
        let mut random = Random(seed);
        while self.sending.load(SeqCst) {
            let connection = &self.connections[random.below(CONNECTIONS + QUIET)];
            let vcpu = VcpuId(u32::try_from(random.below(VCPUS as usize)).unwrap());
            match random.below(16) {
                0..6 => self.move_port(connection, vcpu),
                6..11 => self.mask_and_unmask(connection),
                11..15 => {
                    let priority = Priority::new(u32::try_from(random.below(16)).unwrap()).unwrap();
                    (self.kind.prioritise)(self.env, connection.far, priority);
                }
                _ => self.go_offline_and_come_back(vcpu, &mut random),
            }
        }
    }

    fn move_port(&self, connection: &Connection, vcpu: VcpuId) {
        let _control = connection.control.lock().unwrap();
        self.guest.move_to_vcpu(connection.far, vcpu, self.env).unwrap();
    }

    /// As somebody does who is no vCPU of the guest's: by hypercall.
    fn mask_and_unmask(&self, connection: &Connection) {
        let _control = connection.control.lock().unwrap();
        if !self.guest.mask(connection.far) {
            thread::yield_now();
            Hypercall::unmask(self.env, connection.far).unwrap();
        }
    }

    fn go_offline_and_come_back(&self, vcpu: VcpuId, random: &mut Random) {
        let (wanted, is) = &self.offline[vcpu.0 as usize];
        wanted.store(true, SeqCst);
        // To the end of the round at most, in case that the vCPU has failed.
        while !is.load(SeqCst) {
            if !self.sending.load(SeqCst) {
                return wanted.store(false, SeqCst);
            }
            thread::yield_now();
        }
        for connection in &self.connections {
            let other = (vcpu.0 + 1 + u32::try_from(random.below(VCPUS as usize - 1)).unwrap()) % VCPUS;
            self.move_port(connection, VcpuId(other));
        }
        self.guest.offline(vcpu, |port| {
            let _control = self.connection(port).control.lock().unwrap();
            self.guest.raise_again(port, self.env).unwrap();
        });
        wanted.store(false, SeqCst);
        while is.load(SeqCst) && self.sending.load(SeqCst) {
            thread::yield_now();
        }
    }

    fn await_last_events(&self) {
        let deadline = Instant::now() + PATIENCE;
        let done = |c: &Connection| c.seen.load(SeqCst) == c.sent.load(SeqCst);
        while !self.connections.iter().all(done) && Instant::now() < deadline {
            thread::yield_now();
        }
    }

    /// The port and the vCPUs as Xen sees them.
    fn state(&self, port: Port) -> String {
        let rows = self.env.engine.debug_dump(GUEST).unwrap();
        let row = rows.iter().find(|row| row.port == port).map(ToString::to_string);
        let info = |vcpu: u32| {
            let at = 64 * vcpu as usize;
            let upcall = self.env.shared.u8(at).unwrap().load(SeqCst);
            format!(
                "v{vcpu}: upcall {upcall} selector {:#x}",
                self.env.shared.u64(at + 8).unwrap().load(SeqCst)
            )
        };
        format!("{row:?}, {}", (0..VCPUS).map(info).collect::<Vec<_>>().join(", "))
    }

    /// How many events were handled.
    fn handled(&self) -> u64 {
        self.connections.iter().map(|connection| u64::from(connection.handled.load(SeqCst))).sum()
    }

    fn check(&self, seed: u64) {
        for Connection { near, far, sent, seen, handled, .. } in &self.connections {
            let [sent, seen, handled] = [sent, seen, handled].map(|count| count.load(SeqCst));
            assert_eq!(
                seen,
                sent,
                "seed {seed}: port {far} was not handled after the last send: {}",
                self.state(*far)
            );
            assert!(handled <= sent, "seed {seed}: port {far}: {handled} events of {sent} sends from {near}");
        }
        assert_eq!(self.env.engine.validate(), Ok(()), "seed {seed}");
    }
}

fn variable(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs rounds with new seeds, each with a new engine and guest, until the time is over.
fn rounds<A: Abi + Sync>(kind: &Kind<A>) {
    let end = Instant::now() + Duration::from_secs(variable("EVTCHN_SCHEDULE_SECONDS", 2));
    let mut seed = variable("EVTCHN_SCHEDULE_SEED", 20);
    let mut handled = 0;
    while Instant::now() < end {
        let env = Env::new(VCPUS, 1023);
        let guest = (kind.start)(&env);
        let round = Round::new(&env, &guest, kind);
        round.run(seed);
        handled += round.handled();
        seed += 1;
    }
    assert_ne!(handled, 0, "no round has sent anything");
}

#[test]
fn no_schedule_loses_an_event_of_the_fifo_abi() {
    rounds(&Kind {
        start: |env| env.fifo(1),
        unmask: |guest, env, port, _| guest.unmask(port, env).unwrap(),
        prioritise: |env, port, priority| env.set_priority(port, priority).unwrap(),
    });
}

#[test]
fn no_schedule_loses_an_event_of_a_two_level_guest_that_announces_events_to_itself() {
    rounds(&Kind {
        start: Env::two_level,
        unmask: |guest, env, port, vcpu| match guest.is_bound_to(port, vcpu) {
            // If it says that an upcall waits: the vCPU will look.
            true => drop(guest.unmask_here(port, vcpu)),
            false => guest.unmask(port, env).unwrap(),
        },
        prioritise: |_, _, _| {},
    });
}

#[test]
fn no_schedule_loses_an_event_of_a_two_level_guest_that_xen_interrupts() {
    rounds(&Kind {
        start: Env::two_level,
        unmask: |guest, env, port, _| guest.unmask(port, env).unwrap(),
        prioritise: |_, _, _| {},
    });
}
