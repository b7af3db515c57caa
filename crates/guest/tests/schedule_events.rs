// SPDX-License-Identifier: MIT OR Apache-2.0
//! Engine and guest against each other, as in `schedule`, with a table of channels above the guest's ABI.
//!
//! Senders send; each of the guest's vCPUs runs upcalls; another thread moves channels, masks and unmasks them, closes them and binds them
//! again, changes priorities, and takes vCPUs offline; another reports the ends of events, late, and lets delays end. Every channel
//! must have been handled after the last send that began while it was bound, never twice at a time, never while it is masked or its last event's
//! end is not reported, and no more often than there were sends.
//!
//! `EVTCHN_SCHEDULE_SECONDS` makes it run longer than the two seconds that each test takes, `EVTCHN_SCHEDULE_SEED`
//! begins with another seed, and with `--nocapture` it says how much it did.
#![allow(missing_docs)]

#[allow(dead_code)]
#[path = "shuttle/books.rs"]
mod books;
mod common;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, thread};

use books::{Connection, Life, Strays};
use common::{Env, SENDER};
use evtchn_abi::{DomId, Errno, Op, Port, Priority, VcpuId, VcpuOp};
use evtchn_guest::{Abi, Answer, ChannelId, Event, Events, Hypercall, Kernel, Limits, Scan, Settings, Table};

const VCPUS: u32 = 3;
const CONNECTIONS: usize = 12;
const SENDERS: u64 = 2;
const ROUND: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(20);

/// Events whose end is to be reported.
type Ends = Arc<Mutex<Vec<(ChannelId, Arc<Life>)>>>;
type Handler = Box<dyn FnMut(&Event<'_>) -> Answer + Send>;
type Guest<A> = Events<A, Arc<Machine>, Box<Table<Handler, { CONNECTIONS + 4 }, 1024, { VCPUS as usize }>>>;

/// Short delays: what matters is that they are there.
const LIMITS: Limits = Limits {
    time: 50_000,
    events: 8,
    eoi_delay: 20_000,
    spurious_delay: 5_000,
    longest_delay: 100_000,
    spurious_threshold: 1,
};

/// The engine, and a clock.
struct Machine {
    env: Env,
    started: Instant,
    deadlines: Mutex<Vec<(VcpuId, u64)>>,
}

impl Hypercall for Machine {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        self.env.event_channel_op(op, arg)
    }

    fn vcpu_op(&self, op: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        self.env.vcpu_op(op, vcpu, arg)
    }
}

impl Kernel for Machine {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap()
    }

    fn expire_at(&self, vcpu: VcpuId, deadline: u64) {
        self.deadlines.lock().unwrap().push((vcpu, deadline));
    }
}

impl Machine {
    /// The vCPUs whose time has come.
    fn due(&self) -> Vec<VcpuId> {
        let now = self.now();
        let mut deadlines = self.deadlines.lock().unwrap();
        deadlines.extract_if(.., |&mut (_, deadline)| deadline <= now).map(|(vcpu, _)| vcpu).collect()
    }
}

/// Pseudo-random numbers: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from(((z ^ z >> 31) >> 11) % n as u64).unwrap()
    }

    fn vcpu(&mut self) -> VcpuId {
        VcpuId(u32::try_from(self.below(VCPUS as usize)).unwrap())
    }
}

struct Round<A> {
    machine: Arc<Machine>,
    guest: Guest<A>,
    nears: Vec<Port>,
    connections: Vec<Arc<Connection>>,
    strays: Strays,
    ends: Ends,
    gone: Mutex<Vec<Arc<Life>>>,
    sending: AtomicBool,
    running: AtomicBool,
    /// For each vCPU whether it is to be offline, and whether it is.
    offline: [[AtomicBool; 2]; VCPUS as usize],
}

impl<A: Abi + Send + Sync> Round<A> {
    fn new(abi: fn(&Env) -> A) -> Self {
        let env = Env::new(VCPUS, 1023);
        let abi = abi(&env);
        let nears =
            (0..CONNECTIONS).map(|_| env.engine.alloc_unbound(SENDER, DomId::SELF, common::GUEST).unwrap());
        let nears = nears.collect();
        let machine = Arc::new(Machine { env, started: Instant::now(), deadlines: Mutex::default() });
        let guest = Events::new(abi, machine.clone(), Box::new(Table::new())).with_limits(LIMITS);
        let round = Self {
            machine,
            guest,
            nears,
            connections: (0..CONNECTIONS).map(|_| Arc::default()).collect(),
            strays: Strays::default(),
            ends: Arc::default(),
            gone: Mutex::default(),
            sending: AtomicBool::new(true),
            running: AtomicBool::new(true),
            offline: Default::default(),
        };
        (0..VCPUS).for_each(|vcpu| round.guest.online(VcpuId(vcpu)).unwrap());
        (0..CONNECTIONS).for_each(|index| round.bind(index, &mut Random(index as u64)).unwrap());
        round
    }

    fn bind(&self, index: usize, random: &mut Random) -> Result<(), Errno> {
        let connection = &self.connections[index];
        let life = connection.begin();
        let is_late = index % 2 == 1;
        let handler = self.handler(connection, &life, is_late, Random(random.0));
        let settings = Settings::on(random.vcpu());
        let settings = if is_late { settings.late_eoi() } else { settings };
        let bound = self.guest.bind_interdomain(SENDER, self.nears[index], settings, handler);
        let channel = bound.inspect_err(|_| connection.end())?;
        connection.bound(channel, self.guest.port(channel).unwrap());
        Ok(())
    }

    fn handler(
        &self,
        connection: &Arc<Connection>,
        life: &Arc<Life>,
        is_late: bool,
        mut random: Random,
    ) -> Handler {
        let (connection, life, ends) = (connection.clone(), life.clone(), self.ends.clone());
        Box::new(move |event| {
            assert!(!life.is_running.swap(true, SeqCst), "two handlers of one channel run");
            assert!(!life.is_masked.load(SeqCst), "a handler of a masked channel runs");
            assert!(!life.awaits_end.load(SeqCst), "an event came before the end of the last");
            life.handle(&connection);
            let answer = [Answer::Done, Answer::Done, Answer::Later, Answer::Spurious][random.below(4)];
            if is_late && answer == Answer::Later {
                life.awaits_end.store(true, SeqCst);
                ends.lock().unwrap().push((event.channel, life.clone()));
            }
            life.is_running.store(false, SeqCst);
            answer
        })
    }

    fn run(&self, seed: u64) -> u64 {
        thread::scope(|scope| {
            let sends: Vec<_> =
                (0..SENDERS).map(|n| scope.spawn(move || self.send(Random(seed ^ n << 32)))).collect();
            let chaos = scope.spawn(|| self.disturb(Random(seed ^ 1 << 40)));
            for vcpu in (0..VCPUS).map(VcpuId) {
                scope.spawn(move || self.vcpu(vcpu));
            }
            scope.spawn(|| self.finish(Random(seed ^ 1 << 41)));
            thread::sleep(ROUND);
            self.sending.store(false, SeqCst);
            sends.into_iter().chain([chaos]).for_each(|thread| thread.join().unwrap());
            let deadline = Instant::now() + PATIENCE;
            let done = |connection: &Arc<Connection>| connection.life().unwrap().is_complete();
            while !self.connections.iter().all(done) && Instant::now() < deadline {
                thread::yield_now();
            }
            self.running.store(false, SeqCst);
        });
        self.check(seed)
    }

    fn send(&self, mut random: Random) {
        while self.sending.load(SeqCst) {
            let index = random.below(CONNECTIONS);
            self.connections[index].send(|_| self.machine.env.send(self.nears[index]));
        }
    }

    fn vcpu(&self, vcpu: VcpuId) {
        let [wanted, is] = &self.offline[vcpu.0 as usize];
        while self.running.load(SeqCst) {
            let offline = wanted.load(SeqCst);
            is.store(offline, SeqCst);
            if !offline {
                let _: Scan = self.strays.upcall(|| self.guest.upcall(vcpu));
            }
            thread::yield_now();
        }
    }

    /// Reports ends, and lets delays end.
    fn finish(&self, mut random: Random) {
        while self.running.load(SeqCst) {
            let next = self.ends.lock().unwrap().pop();
            if let Some((channel, life)) = next {
                life.awaits_end.store(false, SeqCst);
                // Of a channel that may be gone.
                let _ = self.guest.eoi(channel, random.below(4) == 0);
            }
            self.machine.due().into_iter().for_each(|vcpu| self.guest.expire(vcpu));
            thread::yield_now();
        }
    }

    fn disturb(&self, mut random: Random) {
        while self.sending.load(SeqCst) {
            let index = random.below(CONNECTIONS);
            let connection = &self.connections[index];
            let channel = connection.channel().unwrap();
            match random.below(16) {
                0..5 => self.guest.move_to(channel, random.vcpu()).unwrap(),
                5..9 => self.mask_and_unmask(connection, channel),
                9..11 => {
                    let priority = Priority::new(u32::try_from(random.below(16)).unwrap()).unwrap();
                    assert!(matches!(
                        self.guest.set_priority(channel, priority),
                        Ok(()) | Err(Errno::ENOSYS)
                    ));
                }
                11..15 => self.rebind(index, channel, &mut random),
                _ => self.go_offline_and_come_back(random.vcpu()),
            }
        }
    }

    fn mask_and_unmask(&self, connection: &Connection, channel: ChannelId) {
        self.guest.mask(channel).unwrap();
        let life = connection.life().unwrap();
        life.is_masked.store(!self.guest.is_running(channel), SeqCst);
        thread::yield_now();
        life.is_masked.store(false, SeqCst);
        self.guest.unmask(channel).unwrap();
    }

    fn rebind(&self, index: usize, channel: ChannelId, random: &mut Random) {
        let connection = &self.connections[index];
        let life = connection.life().unwrap();
        self.strays.close(life.port(), || self.guest.unbind(channel).unwrap());
        connection.end();
        self.gone.lock().unwrap().push(life);
        // The port may be closed by another, the record freed by who runs the handler.
        while self.bind(index, random).is_err() {
            thread::yield_now();
        }
    }

    fn go_offline_and_come_back(&self, vcpu: VcpuId) {
        let [wanted, is] = &self.offline[vcpu.0 as usize];
        wanted.store(true, SeqCst);
        while !is.load(SeqCst) {
            thread::yield_now();
        }
        self.strays.upcall(|| self.guest.offline(vcpu, VcpuId((vcpu.0 + 1) % VCPUS)).unwrap());
        thread::yield_now();
        self.guest.online(vcpu).unwrap();
        wanted.store(false, SeqCst);
        while is.load(SeqCst) {
            thread::yield_now();
        }
    }

    /// How many events were handled.
    fn check(&self, seed: u64) -> u64 {
        let now: Vec<_> = self.connections.iter().map(|connection| connection.life().unwrap()).collect();
        for life in &now {
            assert!(
                life.is_complete(),
                "seed {seed}: port {} was not handled after the last send",
                life.port()
            );
        }
        let gone = self.gone.lock().unwrap();
        let all = now.iter().chain(gone.iter());
        let handled = all.map(|life| {
            let (port, extra) = (life.port(), life.unexplained());
            assert!(
                extra <= self.strays.of(port),
                "seed {seed}: port {port} was handled {extra} times for nothing"
            );
            u64::from(life.handled())
        });
        let handled = handled.sum();
        assert_eq!(self.machine.env.engine.validate(), Ok(()), "seed {seed}");
        handled
    }
}

fn variable(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs rounds with new seeds, each with a new engine and guest, until the time is over.
fn rounds<A: Abi + Send + Sync>(abi: fn(&Env) -> A) {
    let begun = Instant::now();
    let end = begun + Duration::from_secs(variable("EVTCHN_SCHEDULE_SECONDS", 2));
    let first = variable("EVTCHN_SCHEDULE_SEED", 20);
    let (mut seed, mut handled) = (first, 0);
    while Instant::now() < end {
        handled += Round::new(abi).run(seed);
        seed += 1;
    }
    assert_ne!(handled, 0, "no round has sent anything");
    println!("{handled} events in {} rounds, {:.0} s", seed - first, begun.elapsed().as_secs_f64());
}

#[test]
fn no_schedule_loses_an_event_of_a_table_over_two_level() {
    rounds(Env::two_level);
}

#[test]
fn no_schedule_loses_an_event_of_a_table_over_fifo() {
    rounds(|env| env.fifo(1));
}

#[test]
fn no_schedule_loses_an_event_of_a_table_over_whatever_xen_has() {
    rounds(Env::auto);
}
