// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time of `EVTCHNOP_send` through the raw door, two-level ABI, one thread.
//!
//! `cargo xtask bench engine` runs this and prints each figure as a multiple of the floor `f` of the same run; `cargo bench -p
//! evtchn-engine --bench send` runs it alone. Figures of the groups `fresh` and `consume` are for a batch of 4,000 ports.

mod machine;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use evtchn_engine::Outcome;
use machine::{BATCH, Machine, floor};

fn one_at_a_time(c: &mut Criterion) {
    let mut machine = Machine::new();
    let port = machine.port(17);
    let _ = machine.send(port);
    let mut group = c.benchmark_group("send");
    group.sampling_mode(SamplingMode::Flat);
    let word = AtomicU64::new(0);
    group.bench_function("floor", |b| {
        b.iter_custom(|times| looped(times, || floor(&word)));
    });
    group.bench_function("unknown", |b| {
        b.iter_custom(|times| looped(times, || black_box(machine.unknown()) == Outcome::Done(0)));
    });
    group.bench_function("pending", |b| {
        b.iter_custom(|times| looped(times, || machine.send(port) == Outcome::Done(0)));
    });
    group.finish();
}

fn batches(c: &mut Criterion) {
    let mut machine = Machine::new();
    let mut group = c.benchmark_group("batch");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(BATCH.into()));
    group.bench_function("fresh", |b| {
        b.iter_custom(|times| timed(times, |timer| send_batch(&mut machine, timer)));
    });
    group.bench_function("consume", |b| {
        b.iter_custom(|times| timed(times, |timer| consume_batch(&mut machine, timer)));
    });
    group.finish();
}

/// Times a loop whose results are only counted: to store each of them, as `Bencher::iter` does, costs as much as an atomic operation, which has to
/// wait for the store.
fn looped(times: u64, mut operation: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    let hits: u64 = (0..times).map(|_| u64::from(operation())).sum();
    let time = start.elapsed();
    black_box(hits);
    time
}

/// Adds up what `batch` measures.
fn timed(times: u64, mut batch: impl FnMut(&mut Duration)) -> Duration {
    let mut total = Duration::ZERO;
    (0..times).for_each(|_| batch(&mut total));
    total
}

fn send_batch(machine: &mut Machine, total: &mut Duration) {
    machine.clear();
    let start = Instant::now();
    black_box(&mut *machine).send_to(BATCH);
    *total += start.elapsed();
    assert_eq!(machine.consume(), BATCH, "every send was fresh");
}

fn consume_batch(machine: &mut Machine, total: &mut Duration) {
    machine.send_to(BATCH);
    let start = Instant::now();
    let count = black_box(&*machine).consume();
    *total += start.elapsed();
    assert_eq!(count, BATCH, "every event was found");
}

criterion_group!(benches, one_at_a_time, batches);
criterion_main!(benches);
