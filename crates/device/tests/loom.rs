// SPDX-License-Identifier: MIT OR Apache-2.0
//! Models of the ring's two sides, every interleaving and every value a load may see.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p evtchn-device --test loom`
//!
//! A lost wake-up shows as a deadlock, which loom reports.
#![cfg(loom)]

use evtchn_abi::Port;
use evtchn_device::atomic::AtomicU32;
use evtchn_device::{Pushed, Ring};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A wait queue: who registered before a wake-up is woken by it.
struct WaitQueue {
    wakes: Mutex<u32>,
    woken: Condvar,
}

impl WaitQueue {
    fn wake(&self) {
        *self.wakes.lock().unwrap() += 1;
        self.woken.notify_all();
    }

    fn register(&self) -> u32 {
        *self.wakes.lock().unwrap()
    }

    fn sleep(&self, registered: u32) {
        let mut wakes = self.wakes.lock().unwrap();
        while *wakes == registered {
            wakes = self.woken.wait(wakes).unwrap();
        }
    }
}

struct File {
    ring: Ring,
    slots: Vec<AtomicU32>,
    queue: WaitQueue,
}

impl File {
    /// A file whose indices wrap after one port.
    fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            ring: Ring::starting_at(u32::MAX),
            slots: (0..slots).map(|_| AtomicU32::new(0)).collect(),
            queue: WaitQueue { wakes: Mutex::new(0), woken: Condvar::new() },
        })
    }

    fn fire(&self, port: u32) -> Pushed {
        let pushed = self.ring.push(&self.slots, Port(port));
        if pushed == Pushed::FirstEntry {
            self.queue.wake();
        }
        pushed
    }

    /// Reads at most `limit` ports, sleeping while there are none.
    fn read(&self, limit: usize) -> Vec<u32> {
        loop {
            let registered = self.queue.register();
            let ready = self.ring.peek(&self.slots, limit);
            if !ready.is_empty() {
                let ports = ready.ports().map(|port| port.0).collect();
                ready.consume();
                return ports;
            }
            self.queue.sleep(registered);
        }
    }
}

#[test]
fn a_sleeping_reader_gets_every_port_in_order() {
    loom::model(|| {
        let file = File::new(2);
        let producer = {
            let file = file.clone();
            thread::spawn(move || {
                for port in [1, 2] {
                    assert_ne!(file.fire(port), Pushed::Overflow);
                }
            })
        };
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(file.read(2));
        }
        assert_eq!(seen, [1, 2]);
        producer.join().unwrap();
    });
}

#[test]
fn a_slot_is_not_written_before_it_was_read() {
    loom::model(|| {
        let file = File::new(1);
        let _ = file.fire(1);
        let producer = {
            let file = file.clone();
            thread::spawn(move || file.fire(2) != Pushed::Overflow)
        };
        assert_eq!(file.read(1), [1]);
        if producer.join().unwrap() {
            assert_eq!(file.read(1), [2]);
        } else {
            assert!(file.ring.is_empty() && file.ring.has_overflowed());
        }
    });
}

#[test]
fn a_poller_without_locks_is_told_of_a_port_that_stays() {
    loom::model(|| {
        let file = File::new(2);
        let _ = file.fire(1);
        let reader = {
            let file = file.clone();
            thread::spawn(move || assert_eq!(file.read(1), [1]))
        };
        let producer = {
            let file = file.clone();
            thread::spawn(move || file.fire(2))
        };
        let registered = file.queue.register();
        if file.ring.is_empty() {
            file.queue.sleep(registered);
        }
        reader.join().unwrap();
        let _ = producer.join().unwrap();
        assert_eq!(file.read(2), [2]);
    });
}
