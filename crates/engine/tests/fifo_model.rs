// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random programs with the FIFO ABI against a plain model in which a queue is a list.
#![allow(missing_docs)]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::SeqCst;

use common::fifo::FifoEnv;
use common::{D1, D2};
use evtchn_abi::fifo::{LINKED, MASKED, PENDING};
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

fn run(fifo: &FifoEnv, model: &mut Model, channels: &mut [Channel], step: Step) {
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
    for port in (1..20).map(Port) {
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
        let fifo = FifoEnv::with(DomainConfig::guest(3), 1);
        let mut model = Model::default();
        let mut channels = [(); CHANNELS].map(|()| {
            let send = fifo.env.engine.alloc_unbound(D2, evtchn_abi::DomId::SELF, D1).unwrap();
            (send, None)
        });
        (0..CHANNELS).for_each(|index| run(&fifo, &mut model, &mut channels, Step::CloseOrBind(index)));
        for step in steps {
            run(&fifo, &mut model, &mut channels, step);
            compare(&fifo, &mut model);
        }
        // In the end every queue is what the model says, down to the last port.
        (0..3).for_each(|vcpu| run(&fifo, &mut model, &mut channels, Step::Consume(vcpu)));
        compare(&fifo, &mut model);
    }
}
