// SPDX-License-Identifier: MIT OR Apache-2.0
//! FF: the FIFO algorithm.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;

use evtchn_sync::Page;

use crate::fifo::{Fifo, L, M, P, array};
use crate::race::{Mail, Random, Stop, until_read};
use crate::world::*;
use crate::{Case, case, rounds};

/// Bits 27 to 17, which nobody uses.
const UNUSED: u32 = 0x0ffe_0000;

/// Channels to vCPU 0, queue 7: (sender's port, port).
fn queue_of<const N: usize>() -> (Fifo, [(u32, u32); N]) {
    let w = Fifo::new(1);
    let channels = w.channels(0, 7);
    (w, channels)
}

pub const CASES: &[Case] = &[
    case("FF-01", "on an empty queue: PENDING, LINKED, HEAD, READY, an upcall", || {
        let (w, [(near, p)]) = queue_of();
        w.raise(near);
        assert_eq!((w.word(p), w.head(0, 7), w.ready(0)), (P | L, p, 1 << 7));
        assert_eq!((w.get(D1, Bit::U, 0, 0), w.delivered()), (true, vec![(D1, 0)]));
    }),
    case("FF-02", "behind another: a link, no upcall", || {
        let (w, [(first, a), (second, b)]) = queue_of();
        w.raise(first);
        w.raise(second);
        assert_eq!((w.word(a), w.word(b)), (P | L | b, P | L));
        assert_eq!((w.head(0, 7), w.ready(0), w.delivered().len()), (a, 1 << 7, 1));
    }),
    case("FF-03", "again: no change", || {
        let (w, [(first, a), (second, b)]) = queue_of();
        [first, second, first].into_iter().for_each(|near| w.raise(near));
        assert_eq!((w.word(a), w.word(b), w.drain(0)), (P | L | b, P | L, vec![a, b]));
    }),
    case("FF-04", "READY that the guest left set: HEAD, but no new upcall", || {
        let (w, [(first, a), (second, b)]) = queue_of();
        w.raise(first);
        w.set_word(a, 0);
        w.set(D1, Bit::U, 0, 0, false);
        w.raise(second);
        assert_eq!((w.head(0, 7), w.ready(0)), (b, 1 << 7));
        assert_eq!((w.get(D1, Bit::U, 0, 0), w.delivered().len()), (false, 1));
    }),
    case("FF-05", "behind a tail that was consumed: a new HEAD", || {
        let (w, [(first, a), (second, b)]) = queue_of();
        w.raise(first);
        assert_eq!(w.drain(0), [a]);
        w.raise(second);
        assert_eq!((w.head(0, 7), w.word(a), w.drain(0)), (b, 0, vec![b]));
    }),
    case("FF-06", "the tail itself, consumed and made pending by the guest: HEAD, no link to itself", || {
        let (w, [(near, p), (second, b)]) = queue_of();
        w.raise(near);
        assert_eq!(w.drain(0), [p]);
        w.set_word(p, P);
        w.raise(near);
        assert_eq!((w.word(p), w.head(0, 7)), (P | L, p));
        w.raise(second);
        assert_eq!((w.word(p), w.drain(0)), (P | L | b, vec![p, b]));
    }),
    case("FF-07", "a tail that went to another queue gets nothing linked behind it", || {
        let (w, [(moving, a), (staying, b)]) = queue_of();
        let (third, c) = w.channel(0, 3);
        w.raise(moving);
        assert_eq!((w.drain(0), w.set_priority(D1, a, 3)), (vec![a], 0));
        w.raise(moving);
        w.raise(third);
        w.raise(staying);
        assert_eq!((w.word(a), w.head(0, 3), w.head(0, 7)), (P | L | c, a, b));
        assert_eq!(w.drain(0), [a, c, b]);
    }),
    case("FF-08", "masked: PENDING alone", || {
        let (w, [(near, p)]) = queue_of();
        w.set_word(p, M);
        w.raise(near);
        assert_eq!((w.word(p), w.ready(0)), (P | M, 0));
    }),
    case("FF-09", "pending but taken off its queue: linked again", || {
        let (w, [(near, p)]) = queue_of();
        w.set_word(p, P);
        w.raise(near);
        assert_eq!((w.word(p), w.head(0, 7)), (P | L, p));
    }),
    case("FF-10", "unused bits are kept", || {
        let (w, [(first, a), (second, b)]) = queue_of();
        w.set_word(a, UNUSED);
        w.set_word(b, UNUSED);
        w.raise(first);
        w.raise(second);
        assert_eq!((w.word(a), w.word(b)), (P | L | UNUSED | b, P | L | UNUSED));
    }),
    case("FF-11", "a LINK that is not 0 in the tail is overwritten", || {
        let (w, [(first, a), (second, b)]) = queue_of();
        w.raise(first);
        w.set_word(a, P | L | 0x1_2345);
        w.raise(second);
        assert_eq!(w.word(a), P | L | b);
    }),
    case("FF-12", "port 131071 fits into LINK", || {
        let w = Fifo::new(128);
        w.fill_to(D1, 131_071);
        assert_eq!((w.send(D1, 1), w.send(D1, 131_071)), (0, 0));
        assert_eq!((w.word(1), w.word(131_071)), (P | L | 131_071, P | L));
        assert_eq!(w.drain(0), [1, 131_071]);
    }),
    case("FF-13", "a port on each of the sixteen queues: sixteen HEADs, one upcall", || {
        let w = Fifo::new(1);
        let channels: Vec<_> = (0..16).map(|priority| w.channel(0, priority)).collect();
        channels.iter().rev().for_each(|&(near, _)| w.raise(near));
        assert_eq!((w.ready(0), w.delivered().len()), (0xffff, 1));
        assert!((0..).zip(&channels).all(|(queue, &(_, p))| w.head(0, queue) == p));
        assert_eq!(w.drain(0), channels.iter().map(|&(_, p)| p).collect::<Vec<_>>());
    }),
    case("FF-14", "a port that was moved while idle goes to its new vCPU", || {
        let (w, [(near, p), (other, o)]) = queue_of();
        w.raise(near);
        assert_eq!((w.drain(0), w.bind_vcpu(D1, p, 1)), (vec![p], 0));
        w.raise(near);
        assert_eq!((w.head(1, 7), w.ready(1)), (p, 1 << 7));
        w.raise(other);
        assert_eq!((w.word(p), w.head(0, 7)), (P | L, o), "it is no tail of the old queue");
    }),
    case("FF-15", "a port that was moved while linked goes there once it was consumed", || {
        let (w, [(near, p)]) = queue_of();
        w.raise(near);
        assert_eq!((w.bind_vcpu(D1, p, 1), w.drain(0)), (0, vec![p]));
        w.raise(near);
        assert_eq!((w.ready(0), w.drain(1)), (0, vec![p]));
    }),
    case("FF-16", "the queues of two vCPUs are independent", || {
        let w = Fifo::new(1);
        let channels = [0, 1, 0, 1].map(|vcpu| w.channel(vcpu, 7));
        channels.iter().for_each(|&(near, _)| w.raise(near));
        let [a, b, c, d] = channels.map(|(_, p)| p);
        assert_eq!((w.head(0, 7), w.head(1, 7)), (a, b));
        assert_eq!((w.drain(1), w.drain(0)), (vec![b, d], vec![a, c]));
    }),
    case("FF-17", "a port that is closed in mid-queue is passed over, and the chain goes on", || {
        let (w, [(first, a), (second, b), (third, c)]) = queue_of();
        [first, second, third].into_iter().for_each(|near| w.raise(near));
        assert_eq!((w.close(D1, b), w.handled(0)), (0, vec![a, c]));
    }),
    case("FF-18", "events come in the order in which they were sent", || {
        let (w, mut channels) = queue_of::<12>();
        channels.reverse();
        channels.iter().for_each(|&(near, _)| w.raise(near));
        assert_eq!(w.drain(0), channels.map(|(_, p)| p));
    }),
    case("FF-19", "a poller is woken when the word is final", || {
        let (w, [(near, p)]) = queue_of();
        for (before, then) in [(M, P | M), (0, P | L)] {
            w.set_word(p, before);
            assert_eq!(w.poll(D1, 1, &[p], 0), SLEEPS);
            let (page, seen) = (w.frame(D1, array(0)), Arc::new(Mutex::new(vec![])));
            let words = seen.clone();
            let wake = move || words.lock().unwrap().push(page.u32(p as usize * 4).unwrap().load(SeqCst));
            *w.engine.hooks().on_wake.lock().unwrap() = Some(Arc::new(wake));
            w.raise(near);
            assert_eq!(*seen.lock().unwrap(), [then]);
        }
    }),
    case("FF-20", "four senders, two consumers, ports that move: no loss, no double link", || {
        let w = Fifo::new(1);
        let channels: [_; 4] = w.channels(0, 7);
        w.quiet();
        let mails: [Mail; 4] = Default::default();
        let rounds = rounds(15_000, 2_500_000);
        let consume = |vcpus: [u32; 2]| {
            for vcpu in vcpus {
                w.consume(vcpu, |port| {
                    mails[channels.iter().position(|&(_, p)| p == port).unwrap()].read();
                });
            }
        };
        let (consume, stop) = (&consume, Stop::default());
        thread::scope(|scope| {
            let _end = stop.at_end();
            for (mail, (near, _)) in mails.iter().zip(channels) {
                let w = &w;
                scope.spawn(move || {
                    for _ in 0..rounds {
                        mail.write();
                        w.raise(near);
                    }
                });
            }
            scope.spawn(|| {
                let mut random = Random::new(20);
                while !stop.is_set() {
                    let (_, p) = random.of(&channels);
                    assert_eq!(w.bind_vcpu(D1, p, random.below(4)), 0);
                    assert_eq!(w.set_priority(D1, p, random.below(16)), 0);
                    thread::yield_now();
                }
            });
            let second = scope.spawn(|| {
                while !stop.is_set() {
                    consume([2, 3]);
                }
            });
            until_read(&mails, rounds, || {
                assert!(!second.is_finished(), "the other consumer has panicked");
                consume([0, 1]);
            });
        });
        consume([0, 1]);
        consume([2, 3]);
        assert!(channels.iter().all(|&(_, p)| w.word(p) == 0));
    }),
    case("FF-21", "after a reset and a new switch the old queue counts for nothing", || {
        let w = Fifo::new(1);
        let (near, p) = w.channel(3, 2);
        w.raise(near);
        assert_eq!((w.drain(3), w.reset(D1, SELF), w.close(D2, near)), (vec![p], 0, 0));
        w.switch(4);
        w.expand(0);
        let [(first, a), (second, b)] = w.channels(0, 7);
        assert_eq!(a, p);
        w.raise(first);
        w.raise(second);
        assert_eq!((w.ready(3), w.ready(0), w.head(0, 7), w.word(a)), (0, 1 << 7, a, P | L | b));
        assert_eq!(w.drain(0), [a, b]);
    }),
];
