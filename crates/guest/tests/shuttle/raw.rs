// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ABIs without a table above them: ports that are sent to, moved, masked and unmasked, and upcalls that stop in the middle.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{Port, VcpuId};
use evtchn_guest::{Abi, Scan};
use evtchn_sync::atomic::{AtomicBool, AtomicU32};
use shuttle::sync::Mutex;
use shuttle::thread;

use crate::books::Connection;
use crate::events::{auto, fifo, two_level};
use crate::pages::{self, Memory, VCPUS};
use crate::world::{Far, Real, SENDER, Xen, below, check};
use crate::xen::Model;

const PORTS: u32 = 4;
const SENDS: u32 = 6;
const CHANGES: u32 = 6;

struct Test<A, X> {
    guest: A,
    xen: X,
    ports: Vec<Entry>,
    again: [AtomicBool; VCPUS as usize],
    workers: AtomicU32,
}

/// A port, the sender's, and what has happened.
struct Entry {
    far: Far,
    port: Port,
    connection: Connection,
    /// Held by whoever masks, unmasks or moves the port.
    control: Mutex<()>,
}

impl<A: Abi + Send + Sync + 'static, X: Xen> Test<A, X> {
    fn new(abi: fn(Memory) -> A, has_fifo: bool) -> Arc<Self> {
        let memory = pages::memory();
        let (xen, guest) = (X::new(memory.clone(), has_fifo), abi(memory));
        guest.start();
        pages::vcpus().for_each(|vcpu| guest.online(vcpu, &xen).unwrap());
        let open = |index| {
            let far = xen.offer(index);
            let connection = Connection::default();
            connection.begin();
            let port = xen.bind_interdomain(SENDER, far.port()).unwrap();
            guest.cover(port, &xen).unwrap();
            guest.bind(port, VcpuId(0));
            connection.opened(port);
            guest.unmask(port, &xen).unwrap();
            Entry { far, port, connection, control: Mutex::new(()) }
        };
        let ports = (0..PORTS).map(open).collect();
        Arc::new(Self { guest, xen, ports, again: Default::default(), workers: AtomicU32::new(0) })
    }

    fn send(&self) {
        for _ in 0..SENDS {
            let entry = &self.ports[below(PORTS) as usize];
            entry.connection.send(|_| self.xen.send_to(entry.far));
        }
    }

    fn change(&self) {
        for _ in 0..CHANGES {
            let Entry { port, control, .. } = &self.ports[below(PORTS) as usize];
            let _control = control.lock().unwrap();
            if below(2) == 0 {
                self.guest.move_to_vcpu(*port, VcpuId(below(VCPUS)), &self.xen).unwrap();
            } else {
                self.guest.mask(*port);
                thread::yield_now();
                self.guest.unmask(*port, &self.xen).unwrap();
            }
        }
    }

    fn vcpu(&self, vcpu: VcpuId) {
        while self.workers.load(SeqCst) != 0 {
            if self.is_told(vcpu) || below(16) == 0 {
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
        let scan = self.guest.upcall_while(vcpu, |port| {
            let entry = self.ports.iter().find(|entry| entry.port == port);
            let connection = &entry.unwrap_or_else(|| panic!("port {port} is nobody's")).connection;
            connection.life().unwrap().handle(connection);
            if below(4) == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if scan == Scan::Stopped {
            self.again[vcpu.0 as usize].store(true, SeqCst);
        }
    }

    fn run(abi: fn(Memory) -> A, has_fifo: bool) {
        let test = Self::new(abi, has_fifo);
        let jobs: [fn(&Self); 4] = [Self::send, Self::send, Self::change, Self::change];
        test.workers.store(4, SeqCst);
        let vcpus = pages::vcpus().map(|vcpu| {
            let test = test.clone();
            thread::spawn(move || test.vcpu(vcpu))
        });
        let mut threads: Vec<_> = vcpus.collect();
        threads.extend(jobs.map(|job| {
            let test = test.clone();
            thread::spawn(move || {
                job(&test);
                test.workers.fetch_sub(1, SeqCst);
            })
        }));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        test.check();
    }

    /// The vCPUs look where they are told to, and only there; then everything has been seen.
    fn check(&self) {
        while pages::vcpus().filter(|&vcpu| self.is_told(vcpu)).inspect(|&vcpu| self.upcall(vcpu)).count() > 0
        {
        }
        for Entry { port, connection, .. } in &self.ports {
            let life = connection.life().unwrap();
            assert!(life.is_complete(), "port {port} was not handled after the last send");
            let unexplained = life.unexplained();
            assert!(
                unexplained <= self.xen.doubled(*port),
                "port {port} was handled {unexplained} times for nothing"
            );
        }
        self.xen.validate();
    }
}

#[test]
fn no_event_of_a_two_level_guest_is_lost() {
    check(|| Test::<_, Model>::run(two_level, false));
}

#[test]
fn no_event_of_a_fifo_guest_is_lost() {
    check(|| Test::<_, Model>::run(fifo, true));
}

#[test]
fn no_event_of_a_guest_that_takes_what_there_is_is_lost() {
    check(|| Test::<_, Model>::run(auto, below(2) == 0));
}

#[test]
fn no_event_of_a_two_level_guest_on_the_engine_is_lost() {
    check(|| Test::<_, Real>::run(two_level, false));
}

#[test]
fn no_event_of_a_fifo_guest_on_the_engine_is_lost() {
    check(|| Test::<_, Real>::run(fifo, true));
}
