// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time of `EVTCHNOP_send` with the FIFO ABI, through the typed door, one thread.
//!
//! `cargo bench -p evtchn-engine --bench fifo`. `fresh` is for a batch of 4,000 ports, all on one queue; `drain` is what a consumer as plain
//! as can be takes for the same batch.

mod machine;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use evtchn_abi::fifo::{LINK_MASK, LINKED, PENDING, word_place};
use evtchn_abi::{DomId, Gfn, Port, VcpuId};
use evtchn_engine::test_utils::{Recorder, page};
use evtchn_engine::{DomainConfig, Engine};
use evtchn_sync::{HeapPage, Page};
use machine::{BATCH, floor};

const SENDER: DomId = DomId(1);
const RECEIVER: DomId = DomId(2);
const CONTROL: Gfn = Gfn(99);

/// A sender, and a receiver that uses the FIFO ABI, with [`BATCH`] channels between them.
struct Fifo {
    engine: Engine<Recorder>,
    ports: Vec<Port>,
    control: Arc<HeapPage>,
    array: Vec<Arc<HeapPage>>,
}

impl Fifo {
    fn new() -> Self {
        let engine = Engine::new(Recorder::default());
        let config = DomainConfig { max_port: None, ..DomainConfig::guest(1) };
        for domain in [SENDER, RECEIVER] {
            engine.create_domain(domain, config.clone()).expect("a new domain starts");
            engine.set_shared_info(domain, Some(page())).expect("a domain takes a page");
        }
        let control = engine.hooks().frame(RECEIVER, CONTROL);
        engine.init_control(RECEIVER, VcpuId(0), CONTROL, 0).expect("the frame exists");
        let array = (0..4).map(|gfn| {
            let frame = engine.hooks().frame(RECEIVER, Gfn(gfn));
            engine.expand_array(RECEIVER, Gfn(gfn)).expect("the frame exists");
            frame
        });
        let array = array.collect();
        let ports = (0..BATCH).map(|_| connect(&engine)).collect();
        Self { engine, ports, control, array }
    }

    /// As a call, so that nothing of the loop around it is mixed in.
    #[inline(never)]
    fn send(&self, port: Port) -> bool {
        self.engine.send(SENDER, port).is_ok()
    }

    fn send_all(&self) {
        self.ports.iter().for_each(|&port| assert!(self.send(port)));
    }

    /// Walks the one queue that is used.
    fn drain(&self) -> u32 {
        let (ready, head) =
            (self.control.u32(0).expect("inside"), self.control.u32(8 + 4 * 7).expect("inside"));
        let mut count = 0;
        let mut next = if ready.swap(0, SeqCst) == 0 { 0 } else { head.load(SeqCst) };
        while next != 0 {
            let (page, offset) = word_place(Port(next)).expect("a port");
            let word = self.array[page].u32(offset).expect("inside");
            next = word.fetch_and(!(LINKED | LINK_MASK), SeqCst) & LINK_MASK;
            word.fetch_and(!PENDING, SeqCst);
            count += 1;
        }
        count
    }
}

/// Opens a channel; the sender's port.
fn connect(engine: &Engine<Recorder>) -> Port {
    let far = engine.alloc_unbound(RECEIVER, DomId::SELF, SENDER).expect("the receiver has room");
    engine.bind_interdomain(SENDER, RECEIVER, far).expect("the port is free")
}

fn one_at_a_time(c: &mut Criterion) {
    let fifo = Fifo::new();
    let port = fifo.ports[17];
    fifo.send(port);
    let mut group = c.benchmark_group("fifo");
    group.sampling_mode(SamplingMode::Flat);
    let word = AtomicU64::new(0);
    group.bench_function("floor", |b| b.iter_custom(|times| looped(times, || floor(&word))));
    group.bench_function("pending", |b| b.iter_custom(|times| looped(times, || fifo.send(port))));
    group.finish();
}

fn batches(c: &mut Criterion) {
    let fifo = Fifo::new();
    let mut group = c.benchmark_group("fifo batch");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("fresh", |b| {
        b.iter_custom(|times| {
            timed(times, || fifo.send_all(), || assert_eq!(fifo.drain(), BATCH, "every send was fresh"))
        });
    });
    group.bench_function("drain", |b| {
        b.iter_custom(|times| {
            fifo.send_all();
            timed(times, || assert_eq!(black_box(&fifo).drain(), BATCH), || fifo.send_all())
        });
    });
    group.finish();
    let _ = fifo.drain();
}

fn looped(times: u64, mut operation: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    let hits: u64 = (0..times).map(|_| u64::from(operation())).sum();
    let time = start.elapsed();
    black_box(hits);
    time
}

/// Adds up the time of `measured`; `between` puts back what it has changed.
fn timed(times: u64, measured: impl Fn(), between: impl Fn()) -> Duration {
    let round = |_| {
        let start = Instant::now();
        measured();
        let time = start.elapsed();
        between();
        time
    };
    (0..times).map(round).sum()
}

criterion_group!(benches, one_at_a_time, batches);
criterion_main!(benches);
