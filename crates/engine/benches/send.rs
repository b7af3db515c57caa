// SPDX-License-Identifier: MIT OR Apache-2.0
//! The time of `EVTCHNOP_send` and of its consumption, through the raw door, one thread, both ABIs.
//!
//! `cargo xtask bench engine` runs this and prints each figure as a multiple of the floor `f` of the same run; `cargo bench -p
//! evtchn-engine --bench send` runs it alone. Figures of the groups `batch` are for 4,000 ports.

mod machine;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use evtchn_engine::Outcome;
use machine::{Abi, BATCH, Machine, floor, looped, timed};

fn floors(c: &mut Criterion) {
    let mut machine = Machine::new(Abi::TwoLevel, 1);
    let mut group = c.benchmark_group("send");
    group.sampling_mode(SamplingMode::Flat);
    let word = AtomicU64::new(0);
    group.bench_function("floor", |b| {
        b.iter_custom(|times| looped(times, || floor(&word)));
    });
    group.bench_function("unknown", |b| {
        b.iter_custom(|times| looped(times, || black_box(machine.sender.unknown()) == Outcome::Done(0)));
    });
    group.finish();
}

fn one_at_a_time(c: &mut Criterion) {
    for abi in Abi::BOTH {
        let mut machine = Machine::new(abi, 64);
        let port = machine.port(17);
        let mut group = c.benchmark_group(format!("send-{}", abi.name()));
        group.sampling_mode(SamplingMode::Flat);
        let _ = machine.sender.send(port);
        group.bench_function("pending", |b| {
            b.iter_custom(|times| looped(times, || machine.sender.send(port) == Outcome::Done(0)));
        });
        machine.clear();
        group.bench_function("consumed", |b| {
            b.iter_custom(|times| {
                looped(times, || machine.sender.send(port) == Outcome::Done(0) && machine.consume() == 1)
            });
        });
        group.finish();
    }
}

fn batches(c: &mut Criterion) {
    for abi in Abi::BOTH {
        let mut machine = Machine::new(abi, BATCH);
        let mut group = c.benchmark_group(format!("batch-{}", abi.name()));
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(BATCH.into()));
        group.bench_function("fresh", |b| {
            b.iter_custom(|times| {
                timed(times, &mut machine, |machine| {
                    machine.clear();
                    let start = Instant::now();
                    black_box(&mut *machine).send_to(BATCH);
                    let time = start.elapsed();
                    assert_eq!(machine.consume(), BATCH, "every send was fresh");
                    time
                })
            });
        });
        group.bench_function("consume", |b| {
            b.iter_custom(|times| {
                timed(times, &mut machine, |machine| {
                    machine.send_to(BATCH);
                    let start = Instant::now();
                    let count = black_box(&*machine).consume();
                    let time = start.elapsed();
                    assert_eq!(count, BATCH, "every event was found");
                    time
                })
            });
        });
        group.finish();
    }
}

criterion_group!(benches, floors, one_at_a_time, batches);
criterion_main!(benches);
