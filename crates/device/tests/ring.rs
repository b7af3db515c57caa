// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring against a plain queue, for every start of its indices, and its two sides on two threads.
#![cfg(not(loom))]

mod common;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

use common::slots;
use evtchn_abi::Port;
use evtchn_device::atomic::AtomicU32;
use evtchn_device::{Pushed, ReadStep, Ring, copy_slots, grown_size, poll};
use proptest::prelude::*;

/// What can happen to a ring.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u32),
    /// Read so many bytes; with a fault in the copy, if told.
    Read(usize, bool),
    Peek(usize),
    Grow,
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => any::<u32>().prop_map(Step::Push),
        3 => (0usize..400, any::<bool>()).prop_map(|(length, fault)| Step::Read(length, fault)),
        1 => (0usize..100).prop_map(Step::Peek),
        1 => Just(Step::Grow),
        1 => Just(Step::Reset),
    ]
}

/// Starts anywhere, but mostly a little before the indices wrap.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![3 => (0u32..300).prop_map(|before| 0u32.wrapping_sub(before)), 1 => any::<u32>()]
}

/// The plain ring: a queue, a size and a flag.
#[derive(Default)]
struct Model {
    queue: VecDeque<u32>,
    size: usize,
    overflow: bool,
}

impl Model {
    fn push(&mut self, port: u32) -> Pushed {
        if self.queue.len() >= self.size {
            self.overflow = true;
            return Pushed::Overflow;
        }
        self.queue.push_back(port);
        if self.queue.len() == 1 { Pushed::FirstEntry } else { Pushed::Queued }
    }

    fn oldest(&self, limit: usize) -> Vec<u32> {
        self.queue.iter().take(limit).copied().collect()
    }

    fn poll_mask(&self) -> u32 {
        poll::mask(self.queue.is_empty(), self.overflow)
    }
}

fn check_read(ring: &Ring, slots: &[AtomicU32], model: &mut Model, length: usize, fault: bool) {
    match ring.read(slots, length) {
        ReadStep::Nothing => assert!(length < 4),
        ReadStep::Overflowed => assert!(length >= 4 && model.overflow),
        ReadStep::Empty => assert!(length >= 4 && !model.overflow && model.queue.is_empty()),
        ReadStep::Ready(ready) => {
            assert!(!model.overflow);
            let expected = model.oldest(length / 4);
            assert!(ready.ports().map(|port| port.0).eq(expected.iter().copied()));
            assert_eq!(ready.byte_len(), expected.len() * 4);
            if !fault {
                assert_eq!(ready.consume(), expected.len() * 4);
                model.queue.drain(..expected.len());
            }
        }
    }
}

proptest! {
    #[test]
    fn a_ring_is_a_bounded_queue_wherever_its_indices_start(
        start in start(),
        first_size in prop_oneof![Just(0usize), Just(64), Just(1), Just(8)],
        steps in prop::collection::vec(step(), 0..600),
    ) {
        let ring = Ring::starting_at(start);
        let mut ring_slots = slots(first_size);
        let mut model = Model { size: first_size, ..Model::default() };
        for step in steps {
            match step {
                Step::Push(port) => assert_eq!(ring.push(&ring_slots, Port(port)), model.push(port)),
                Step::Read(length, fault) => check_read(&ring, &ring_slots, &mut model, length, fault),
                Step::Peek(limit) => {
                    let ready = ring.peek(&ring_slots, limit);
                    assert!(ready.ports().map(|port| port.0).eq(model.oldest(limit)));
                }
                Step::Grow => if model.size < 512 {
                    model.size = grown_size(model.size + 1, model.size).unwrap();
                    let grown = slots(model.size);
                    copy_slots(&ring_slots, &grown);
                    ring_slots = grown;
                },
                Step::Reset => {
                    ring.reset();
                    model.queue.clear();
                    model.overflow = false;
                }
            }
            assert_eq!(ring.poll_mask(), model.poll_mask());
            assert_eq!(ring.is_empty(), model.queue.is_empty());
            assert_eq!(ring.has_overflowed(), model.overflow);
        }
    }

    #[test]
    fn copying_out_gives_the_ports_as_native_bytes(
        start in start(),
        ports in prop::collection::vec(any::<u32>(), 1..=256),
    ) {
        let ring = Ring::starting_at(start);
        let ring_slots = slots(256);
        for &port in &ports {
            let _ = ring.push(&ring_slots, Port(port));
        }
        let mut bytes = Vec::new();
        let ready = ring.peek(&ring_slots, usize::MAX);
        ready.copy_out(|piece| { bytes.extend_from_slice(piece); Ok::<_, ()>(()) }).unwrap();
        let expected: Vec<u8> = ports.iter().flat_map(|port| port.to_ne_bytes()).collect();
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn nothing_panics_when_slots_and_indices_do_not_belong_together(
        start in any::<u32>(),
        steps in prop::collection::vec((step(), 0usize..70), 0..100),
    ) {
        let ring = Ring::starting_at(start);
        for (step, size) in steps {
            let slots = slots(size);
            match step {
                Step::Push(port) => { let _ = ring.push(&slots, Port(port)); }
                Step::Read(length, fault) => if let ReadStep::Ready(ready) = ring.read(&slots, length) {
                    assert!(ready.len() <= size);
                    if !fault { ready.consume(); }
                },
                Step::Peek(limit) => assert!(ring.peek(&slots, limit).ports().count() <= size),
                Step::Grow => copy_slots(&[], &slots),
                Step::Reset => ring.reset(),
            }
        }
    }
}

#[test]
fn a_ring_without_slots_overflows_at_once_and_reads_as_empty() {
    let ring = Ring::new();
    assert!(matches!(ring.read(&[], 4), ReadStep::Empty));
    assert_eq!(ring.push(&[], Port(1)), Pushed::Overflow);
    assert!(ring.is_empty());
    assert!(matches!(ring.read(&[], 4), ReadStep::Overflowed));
}

#[test]
fn sizes_are_0_then_64_then_doubled_and_never_shrink() {
    assert_eq!(grown_size(0, 0), None);
    assert_eq!(grown_size(1, 0), Some(64));
    assert_eq!(grown_size(64, 64), None);
    assert_eq!(grown_size(65, 64), Some(128));
    assert_eq!(grown_size(1, 128), None);
    assert_eq!(grown_size(usize::MAX, 1 << (usize::BITS - 1)), None);
}

#[test]
fn indices_wrap_unnoticed() {
    let ring = Ring::starting_at(u32::MAX - 1);
    let slots = slots(4);
    for round in 0..8 {
        assert_eq!(ring.push(&slots, Port(round)), Pushed::FirstEntry);
        assert_eq!(ring.push(&slots, Port(round + 100)), Pushed::Queued);
        let ready = ring.peek(&slots, 4);
        assert!(ready.ports().eq([Port(round), Port(round + 100)]));
        assert_eq!(ready.consume(), 8);
        assert!(ring.is_empty());
    }
}

#[test]
fn a_failing_copy_is_told_and_later_pieces_are_not_offered() {
    let ring = Ring::new();
    let slots = slots(256);
    for port in 0..200 {
        let _ = ring.push(&slots, Port(port));
    }
    let mut pieces = 0;
    let result = ring.peek(&slots, 200).copy_out(|piece| {
        assert_eq!(piece.len(), 256);
        pieces += 1;
        if pieces == 2 { Err("fault") } else { Ok(()) }
    });
    assert_eq!((result, pieces), (Err("fault"), 2));
    assert_eq!(ring.peek(&slots, 256).len(), 200);
}

/// A reader that sleeps when the ring is empty and is woken for first entries only gets every port.
#[test]
fn a_sleeping_reader_misses_nothing() {
    const EVENTS: u32 = if cfg!(miri) { 100 } else { 50_000 };
    let ring = Ring::starting_at(u32::MAX - 1000);
    let slots = slots(64);
    let (wakes, woken) = (Mutex::new(0u64), Condvar::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 0;
            while next < EVENTS {
                match ring.push(&slots, Port(next)) {
                    Pushed::FirstEntry => {
                        *wakes.lock().unwrap() += 1;
                        woken.notify_all();
                    }
                    Pushed::Queued => {}
                    Pushed::Overflow => {
                        std::thread::yield_now();
                        continue;
                    }
                }
                next += 1;
            }
        });
        let mut expected = 0;
        while expected < EVENTS {
            let before = *wakes.lock().unwrap();
            let ready = ring.peek(&slots, 10);
            if ready.is_empty() {
                let guard = wakes.lock().unwrap();
                drop(woken.wait_while(guard, |now| *now == before).unwrap());
                continue;
            }
            for port in ready.ports() {
                assert_eq!(port.0, expected);
                expected += 1;
            }
            ready.consume();
        }
    });
}
