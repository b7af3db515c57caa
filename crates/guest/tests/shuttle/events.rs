// SPDX-License-Identifier: MIT OR Apache-2.0
//! Channels with handlers: sent to, moved, masked, closed and bound again, ended late, delayed; on vCPUs that come and go; and
//! after a migration.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};

use evtchn_abi::{Errno, Priority, VcpuId};
use evtchn_guest::{
    Abi, Answer, Auto, ChannelId, Event, Events, Fifo, FifoVcpu, Limits, Resumed, Scan, Settings, Table,
    TwoLevel, TwoLevelVcpu,
};
use shuttle::thread;

use crate::books::{Connection, Life, Strays};
use crate::pages::{self, Memory, VCPUS};
use crate::world::{Far, Real, SENDER, Xen, below, check};
use crate::xen::Model;

const CHANNELS: usize = 8;
const PORTS: usize = 80;
/// Channels of the peer's, of which every second one is late, and then one IPI for each vCPU.
const PEERS: u32 = 3;
const SENDERS: u32 = 2;
const SENDS: u32 = 5;
const CHANGES: u32 = 5;

/// Events whose end is to be reported.
type Ends = Arc<Mutex<Vec<(ChannelId, Arc<Life>)>>>;
type Handler = Box<dyn FnMut(&Event<'_>) -> Answer + Send>;
type Guest<A, X> = Events<A, Arc<X>, Box<Table<Handler, CHANNELS, PORTS, { VCPUS as usize }>>>;

/// Looked at after each event, and soon over.
const LIMITS: Limits =
    Limits { time: 3, events: 1, eoi_delay: 5, spurious_delay: 3, longest_delay: 20, spurious_threshold: 1 };

struct Test<A, X: Xen> {
    guest: Guest<A, X>,
    xen: Arc<X>,
    fars: Vec<Far>,
    connections: Vec<Arc<Connection>>,
    strays: Strays,
    ends: Ends,
    /// Handlers of channels that are gone.
    gone: Mutex<Vec<Arc<Life>>>,
    /// For each vCPU: it is to take upcalls again; it is to be offline; it is.
    again: [AtomicBool; VCPUS as usize],
    offline: [[AtomicBool; 2]; VCPUS as usize],
    workers: AtomicU32,
}

/// Drops with the handler.
struct Lease(Arc<Life>);

impl Drop for Lease {
    fn drop(&mut self) {
        assert!(!self.0.is_running.load(SeqCst), "a handler was dropped while it ran");
        self.0.is_dropped.store(true, SeqCst);
    }
}

impl<A: Abi + Send + Sync + 'static, X: Xen> Test<A, X> {
    fn new(abi: fn(Memory) -> A, has_fifo: bool) -> Arc<Self> {
        let memory = pages::memory();
        let xen = Arc::new(X::new(memory.clone(), has_fifo));
        let guest = Events::new(abi(memory), xen.clone(), Box::new(Table::new())).with_limits(LIMITS);
        guest.start();
        pages::vcpus().for_each(|vcpu| guest.online(vcpu).unwrap());
        let test = Arc::new(Self {
            fars: (0..PEERS).map(|index| xen.offer(index)).collect(),
            guest,
            xen,
            connections: (0..PEERS + VCPUS).map(|_| Arc::default()).collect(),
            strays: Strays::default(),
            ends: Arc::default(),
            gone: Mutex::default(),
            again: Default::default(),
            offline: Default::default(),
            workers: AtomicU32::new(0),
        });
        (0..test.connections.len()).for_each(|index| test.bind(index).unwrap());
        test
    }

    fn bind(&self, index: usize) -> Result<(), Errno> {
        let connection = &self.connections[index];
        let life = connection.begin();
        let is_late = index < PEERS as usize && index % 2 == 1;
        let handler = self.handler(connection, &life, is_late);
        let bound = match self.fars.get(index) {
            Some(far) => {
                let settings = Settings::on(VcpuId(below(VCPUS))).priority(Priority::DEFAULT);
                let settings = if is_late { settings.late_eoi() } else { settings };
                self.guest.bind_interdomain(SENDER, far.port(), settings, handler)
            }
            None => self.guest.bind_ipi(Settings::on(VcpuId(u32::try_from(index).unwrap() - PEERS)), handler),
        };
        let channel = bound.inspect_err(|_| connection.end())?;
        connection.bound(channel, self.guest.port(channel).unwrap());
        Ok(())
    }

    fn handler(&self, connection: &Arc<Connection>, life: &Arc<Life>, is_late: bool) -> Handler {
        let (connection, lease, ends) = (connection.clone(), Lease(life.clone()), self.ends.clone());
        Box::new(move |event| {
            let life = &lease.0;
            assert!(!life.is_running.swap(true, SeqCst), "two handlers of one channel run");
            assert!(!life.is_masked.load(SeqCst), "a handler of a masked channel runs");
            assert!(!life.awaits_end.load(SeqCst), "an event came before the end of the last");
            life.handle(&connection);
            let answer = [Answer::Done, Answer::Later, Answer::Spurious][below(3) as usize];
            if answer == Answer::Later && is_late {
                life.awaits_end.store(true, SeqCst);
                ends.lock().unwrap().push((event.channel, life.clone()));
            }
            if below(3) == 0 {
                thread::yield_now();
            }
            life.is_running.store(false, SeqCst);
            answer
        })
    }

    /// Reports the end of an event.
    fn end_one(&self) -> bool {
        let next = {
            let mut ends = self.ends.lock().unwrap();
            let at = if ends.is_empty() { 0 } else { below(u32::try_from(ends.len()).unwrap()) as usize };
            (!ends.is_empty()).then(|| ends.swap_remove(at))
        };
        let Some((channel, life)) = next else { return false };
        life.awaits_end.store(false, SeqCst);
        // Of a channel that is gone, or has never waited.
        let _ = self.guest.eoi(channel, below(2) == 0);
        true
    }

    fn send(&self) {
        for _ in 0..SENDS {
            let index = below(u32::try_from(self.connections.len()).unwrap()) as usize;
            self.connections[index].send(|channel| match self.fars.get(index) {
                Some(&far) => self.xen.send_to(far),
                None => self.guest.notify(channel.unwrap()).unwrap(),
            });
        }
    }

    /// The vCPU, until nobody works any more.
    fn vcpu(&self, vcpu: VcpuId) {
        let [wanted, is] = &self.offline[vcpu.0 as usize];
        while self.workers.load(SeqCst) != 0 {
            let offline = wanted.load(SeqCst);
            is.store(offline, SeqCst);
            if !offline && (self.is_told(vcpu) || below(16) == 0) {
                let _ = self.upcall(vcpu);
            }
            thread::yield_now();
        }
    }

    /// Whether somebody has told the vCPU to look.
    fn is_told(&self, vcpu: VcpuId) -> bool {
        self.xen.take_interrupt(vcpu) | self.again[vcpu.0 as usize].swap(false, SeqCst)
    }

    fn upcall(&self, vcpu: VcpuId) {
        let scan = self.strays.upcall(|| self.guest.upcall(vcpu));
        if scan == Scan::Stopped {
            self.again[vcpu.0 as usize].store(true, SeqCst);
        }
    }

    fn change(&self) {
        for _ in 0..CHANGES {
            let index = below(u32::try_from(self.connections.len()).unwrap()) as usize;
            let connection = &self.connections[index];
            let vcpu = VcpuId(below(VCPUS));
            match (connection.channel(), below(12)) {
                (Some(channel), 0..3) => drop(self.guest.move_to(channel, vcpu)),
                (Some(channel), 3..6) => self.mask_and_unmask(connection, channel),
                (Some(channel), 6) => {
                    let priority = Priority(u8::try_from(below(16)).unwrap());
                    let _ = self.guest.set_priority(channel, priority);
                }
                (Some(_), 7..10) if index < PEERS as usize => self.rebind(index),
                (_, 10) => self.go_offline_and_come_back(vcpu),
                (_, 11) => self.guest.expire(vcpu),
                _ => drop(self.end_one()),
            }
        }
    }

    /// Reports ends and lets time pass.
    fn finish(&self) {
        for _ in 0..CHANGES {
            self.end_one();
            thread::yield_now();
            if let Some(vcpu) = self.xen.clock().next() {
                self.guest.expire(vcpu);
            }
        }
    }

    fn mask_and_unmask(&self, connection: &Connection, channel: ChannelId) {
        if connection.is_held.swap(true, SeqCst) {
            return;
        }
        if self.guest.mask(channel).is_ok() {
            // Nobody binds or closes it meanwhile, and nobody else masks it.
            let life = connection.life().unwrap();
            life.is_masked.store(!self.guest.is_running(channel), SeqCst);
            (0..below(4)).for_each(|_| thread::yield_now());
            life.is_masked.store(false, SeqCst);
            let _ = self.guest.unmask(channel);
        }
        connection.is_held.store(false, SeqCst);
    }

    fn rebind(&self, index: usize) {
        let connection = &self.connections[index];
        if connection.is_held.swap(true, SeqCst) {
            return;
        }
        if let (Some(channel), Some(life)) = (connection.channel(), connection.life()) {
            self.strays.close(life.port(), || self.guest.unbind(channel).unwrap());
            connection.end();
            self.gone.lock().unwrap().push(life);
            if below(2) == 0 {
                thread::yield_now();
            }
            // The port may be closed by another, the record freed by who runs the handler.
            while self.bind(index).is_err() {
                thread::yield_now();
            }
        }
        connection.is_held.store(false, SeqCst);
    }

    fn go_offline_and_come_back(&self, vcpu: VcpuId) {
        let other = VcpuId((vcpu.0 + 1) % VCPUS);
        let [wanted, is] = &self.offline[vcpu.0 as usize];
        if self.offline.iter().any(|[wanted, _]| wanted.load(SeqCst)) || wanted.swap(true, SeqCst) {
            return;
        }
        while !is.load(SeqCst) {
            thread::yield_now();
        }
        self.xen.calm(true);
        // It is EBUSY if another moves one; that is not ours to repair.
        while self.strays.upcall(|| self.guest.offline(vcpu, other)).is_err() {
            thread::yield_now();
        }
        self.xen.calm(false);
        (0..below(4)).for_each(|_| thread::yield_now());
        self.guest.online(vcpu).unwrap();
        wanted.store(false, SeqCst);
        while is.load(SeqCst) {
            thread::yield_now();
        }
    }

    /// What all threads together do.
    fn traffic(self: &Arc<Self>) {
        let jobs: [fn(&Self); 3] = [Self::send, Self::change, Self::finish];
        let jobs = jobs.into_iter().chain((1..SENDERS).map(|_| jobs[0])).chain([jobs[1]]);
        let jobs: Vec<_> = jobs.collect();
        self.workers.store(u32::try_from(jobs.len()).unwrap(), SeqCst);
        let vcpus = pages::vcpus().map(|vcpu| {
            let test = self.clone();
            thread::spawn(move || test.vcpu(vcpu))
        });
        let vcpus: Vec<_> = vcpus.collect();
        let jobs = jobs.into_iter().map(|job| {
            let test = self.clone();
            thread::spawn(move || {
                job(&test);
                test.workers.fetch_sub(1, SeqCst);
            })
        });
        let jobs: Vec<_> = jobs.collect();
        jobs.into_iter().chain(vcpus).for_each(|thread| thread.join().unwrap());
        self.take_the_rest();
        self.check();
    }

    /// The vCPUs look where they are told to, and only there.
    fn take_the_rest(&self) {
        for round in 0.. {
            let mut is_over = true;
            for vcpu in pages::vcpus() {
                while self.is_told(vcpu) {
                    let _ = self.upcall(vcpu);
                    is_over = false;
                }
            }
            while self.end_one() {
                is_over = false;
            }
            while let Some(vcpu) = self.xen.clock().next() {
                self.guest.expire(vcpu);
                is_over = false;
            }
            if is_over {
                return;
            }
            assert!(round < 1000, "it does not end");
        }
    }

    fn check(&self) {
        let lives = self.connections.iter().map(|connection| connection.life().expect("it was bound again"));
        for life in lives {
            let port = life.port();
            assert!(life.is_complete(), "port {port} was not handled after the last send");
            self.check_count(&life);
        }
        for life in self.gone.lock().unwrap().iter() {
            assert!(life.is_dropped.load(SeqCst), "the record of port {} is not free", life.port());
            self.check_count(life);
        }
        self.xen.validate();
    }

    /// The handler was called no oftener than there was a reason to.
    fn check_count(&self, life: &Life) {
        let port = life.port();
        let spurious = self.strays.of(port) + self.xen.doubled(port);
        assert!(
            life.unexplained() <= spurious,
            "port {port} was handled {} times for nothing",
            life.unexplained()
        );
    }

    /// The guest is saved and restored, and goes on.
    fn migrate(&self) {
        self.xen.move_away();
        let mut dead = Vec::new();
        let report = |resumed| match resumed {
            Resumed::Dead(channel) => dead.push(channel),
            Resumed::Rebound(channel, port) => self.connection(channel).revived(port),
            Resumed::Failed(channel, error) => panic!("{channel}: {error}"),
        };
        self.guest.resume(pages::vcpus(), report).unwrap();
        assert_eq!(dead.len(), PEERS as usize);
        for (far, connection) in self.fars.iter().zip(&self.connections) {
            let channel = connection.channel().unwrap();
            let port = self.guest.rebind_interdomain(channel, SENDER, far.port()).unwrap();
            connection.revived(port);
        }
    }

    fn connection(&self, channel: ChannelId) -> &Connection {
        self.connections.iter().find(|connection| connection.channel() == Some(channel)).unwrap()
    }

    fn run(abi: fn(Memory) -> A, has_fifo: bool) {
        let test = Self::new(abi, has_fifo);
        test.traffic();
        if below(4) == 0 {
            test.migrate();
            test.traffic();
        }
    }
}

pub fn two_level(memory: Memory) -> TwoLevel<Memory, Vec<TwoLevelVcpu>> {
    TwoLevel::new(memory, states())
}

pub fn fifo(memory: Memory) -> Fifo<Memory, Vec<FifoVcpu>> {
    Fifo::new(memory, states())
}

pub fn auto(memory: Memory) -> Auto<Memory, Vec<TwoLevelVcpu>, Vec<FifoVcpu>> {
    Auto::new(memory, states(), states())
}

fn states<V: Default>() -> Vec<V> {
    (0..VCPUS).map(|_| V::default()).collect()
}

#[test]
fn every_event_is_accounted_for_with_two_level() {
    check(|| Test::<_, Model>::run(two_level, false));
}

#[test]
fn every_event_is_accounted_for_with_fifo() {
    check(|| Test::<_, Model>::run(fifo, true));
}

#[test]
fn every_event_is_accounted_for_with_whatever_xen_has() {
    check(|| Test::<_, Model>::run(auto, below(2) == 0));
}

#[test]
fn every_event_is_accounted_for_with_two_level_on_the_engine() {
    check(|| Test::<_, Real>::run(two_level, false));
}

#[test]
fn every_event_is_accounted_for_with_fifo_on_the_engine() {
    check(|| Test::<_, Real>::run(fifo, true));
}

#[test]
fn every_event_is_accounted_for_with_whatever_the_engine_has() {
    check(|| Test::<_, Real>::run(auto, below(2) == 0));
}
