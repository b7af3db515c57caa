// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs with the FIFO ABI, and a guest that writes into its words, against a plain model in which a queue is a
//! list. The engine is saved and restored on the way.
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::SeqCst;

use common::fifo::FifoEnv;
use common::{D1, D2};
use evtchn_abi::fifo::{BUSY, LINKED, MASKED, PENDING};
use evtchn_abi::{Port, VcpuId};
use evtchn_engine::DomainConfig;
use proptest::prelude::*;

const CHANNELS: usize = 6;

/// What happens to a channel, or on a vCPU.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(usize),
    Unmask(usize),
    Move(usize, u32),
    Priority(usize, u32),
    CloseOrBind(usize),
    Consume(u32),
    /// The guest sets or clears bits of a word as it likes, except LINKED, LINK and BUSY.
    Set(usize, u32),
    Clear(usize, u32),
    /// The guest changes the unused bits of a word, and all of one that no port has.
    Scribble(usize, u32),
    Garbage(u32, u32),
    /// The engine is saved, and another one restored.
    Restore,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let channel = || 0..CHANNELS;
    let bits = || prop::sample::select(vec![PENDING, MASKED, PENDING | MASKED]);
    let step = prop_oneof![
        8 => channel().prop_map(Step::Send),
        3 => channel().prop_map(Step::Unmask),
        3 => (channel(), 0..3u32).prop_map(|(c, v)| Step::Move(c, v)),
        3 => (channel(), prop::sample::select(vec![0, 7, 8, 15])).prop_map(|(c, p)| Step::Priority(c, p)),
        2 => channel().prop_map(Step::CloseOrBind),
        4 => (0..3u32).prop_map(Step::Consume),
        2 => (channel(), bits()).prop_map(|(c, b)| Step::Set(c, b)),
        2 => (channel(), bits()).prop_map(|(c, b)| Step::Clear(c, b)),
        1 => (channel(), 0..0x800u32).prop_map(|(c, b)| Step::Scribble(c, b << 17)),
        1 => (40..60u32, any::<u32>()).prop_map(|(p, b)| Step::Garbage(p, b & !BUSY)),
        2 => Just(Step::Restore),
    ];
    prop::collection::vec(step, 1..120)
}

/// The guest's ports, as flags, and its queues, as lists.
#[derive(Default)]
struct Model {
    words: BTreeMap<Port, u32>,
    /// vCPU and priority of the open ones.
    open: BTreeMap<Port, (u32, u32)>,
    queues: BTreeMap<(u32, u32), VecDeque<Port>>,
    upcalls: [bool; 3],
}

impl Model {
    fn word(&mut self, port: Port) -> &mut u32 {
        self.words.entry(port).or_default()
    }

    fn link(&mut self, port: Port) {
        let (vcpu, priority) = self.open[&port];
        let word = self.word(port);
        if *word & (PENDING | LINKED) == PENDING {
            *word |= LINKED;
            let queue = self.queues.entry((vcpu, priority)).or_default();
            self.upcalls[vcpu as usize] |= queue.is_empty();
            queue.push_back(port);
        }
    }

    /// Whoever is pending and not masked is put on a queue, and who has something on a queue is told.
    fn restore(&mut self) {
        for port in self.open.clone().into_keys() {
            if *self.word(port) & MASKED == 0 {
                self.link(port);
            }
        }
        for (&(vcpu, _), queue) in &self.queues {
            self.upcalls[vcpu as usize] |= !queue.is_empty();
        }
    }

    fn raise(&mut self, port: Port) {
        *self.word(port) |= PENDING;
        if *self.word(port) & MASKED == 0 {
            self.link(port);
        }
    }

    /// The lowest port that is closed and not on a queue.
    fn bind(&mut self) -> Port {
        let port =
            (1..64).map(Port).find(|&port| !self.open.contains_key(&port) && *self.word(port) & LINKED == 0);
        let port = port.unwrap();
        self.open.insert(port, (0, 7));
        self.raise(port); // by the binding
        port
    }

    fn consume(&mut self, vcpu: u32) -> Vec<Port> {
        self.upcalls[vcpu as usize] = false;
        let queues = self.queues.range_mut((vcpu, 0)..=(vcpu, 15));
        let order: Vec<_> = queues.flat_map(|(_, queue)| std::mem::take(queue)).collect();
        for &port in &order {
            let word = self.word(port);
            *word &= !LINKED;
            if *word & MASKED == 0 {
                *word &= !PENDING;
            }
        }
        order
    }
}

/// A channel from domain 2: its port there, and domain 1's while that is open.
type Channel = (Port, Option<Port>);

fn run(fifo: &mut FifoEnv, model: &mut Model, channels: &mut [Channel], step: Step) {
    if matches!(step, Step::Restore) {
        fifo.env.restored();
        return model.restore();
    }
    let engine = &fifo.env.engine;
    match step {
        Step::Send(index) => {
            let (send, port) = channels[index];
            assert_eq!(engine.send(D2, send), Ok(()));
            port.into_iter().for_each(|port| model.raise(port));
        }
        Step::CloseOrBind(index) => match channels[index] {
            (_, Some(port)) => {
                assert_eq!(engine.close(D1, port), Ok(()));
                *model.word(port) &= !PENDING;
                model.open.remove(&port);
                channels[index].1 = None;
            }
            (send, None) => {
                let port = model.bind();
                assert_eq!(engine.bind_interdomain(D1, D2, send), Ok(port));
                channels[index].1 = Some(port);
            }
        },
        Step::Consume(vcpu) => {
            fifo.env.set_upcall(D1, vcpu, 0);
            assert_eq!(fifo.guest.consume(vcpu, |_| ()), model.consume(vcpu));
        }
        Step::Unmask(index) => on_open(channels[index], |port| {
            assert_eq!(engine.unmask(D1, port), Ok(()));
            *model.word(port) &= !MASKED;
            model.link(port);
        }),
        Step::Move(index, vcpu) => on_open(channels[index], |port| {
            assert_eq!(engine.bind_vcpu(D1, port, VcpuId(vcpu)), Ok(()));
            model.open.entry(port).and_modify(|target| target.0 = vcpu);
        }),
        Step::Priority(index, priority) => on_open(channels[index], |port| {
            assert_eq!(engine.set_priority(D1, port, priority), Ok(()));
            model.open.entry(port).and_modify(|target| target.1 = priority);
        }),
        Step::Scribble(index, bits) => on_open(channels[index], |port| {
            fifo.guest.cell(port).fetch_xor(bits, SeqCst);
        }),
        Step::Garbage(port, word) => {
            fifo.guest.set_word(Port(port), word);
            *model.word(Port(port)) = word & (PENDING | MASKED | LINKED);
        }
        Step::Restore => {}
        Step::Set(index, bits) => on_open(channels[index], |port| {
            fifo.guest.cell(port).fetch_or(bits, SeqCst);
            *model.word(port) |= bits;
        }),
        Step::Clear(index, bits) => on_open(channels[index], |port| {
            fifo.guest.cell(port).fetch_and(!bits, SeqCst);
            *model.word(port) &= !bits;
        }),
    }
}

fn on_open(channel: Channel, act: impl FnOnce(Port)) {
    if let (_, Some(port)) = channel {
        act(port);
    }
}

fn compare(fifo: &FifoEnv, model: &mut Model) {
    for port in (1..60).map(Port) {
        let flags = fifo.guest.word(port).0 & (PENDING | MASKED | LINKED);
        assert_eq!(flags, *model.word(port), "word of {port}");
    }
    let upcalls = [0, 1, 2].map(|vcpu| fifo.env.upcall(D1, vcpu));
    assert_eq!(upcalls, model.upcalls);
    fifo.env.engine.validate().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn the_queues_agree_with_lists(steps in steps()) {
        let mut fifo = FifoEnv::with(DomainConfig::guest(3), 1);
        let mut model = Model::default();
        let mut channels = [(); CHANNELS].map(|()| {
            let send = fifo.env.engine.alloc_unbound(D2, evtchn_abi::DomId::SELF, D1).unwrap();
            (send, None)
        });
        (0..CHANNELS).for_each(|index| run(&mut fifo, &mut model, &mut channels, Step::CloseOrBind(index)));
        for step in steps {
            run(&mut fifo, &mut model, &mut channels, step);
            compare(&fifo, &mut model);
        }
        // In the end every queue is what the model says, down to the last port.
        (0..3).for_each(|vcpu| run(&mut fifo, &mut model, &mut channels, Step::Consume(vcpu)));
        compare(&fifo, &mut model);
    }
}
