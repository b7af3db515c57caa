// SPDX-License-Identifier: MIT OR Apache-2.0
//! What does not grow with the number of ports.
//!
//! `cargo xtask bench engine` runs this; `cargo bench -p evtchn-engine --bench growth` runs it alone.

mod machine;

use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use evtchn_abi::Port;
use machine::{Abi, Cpu, Machine, RECEIVER, Random, SENDER, floor, looped, timed};

/// As many channels as leave some ports of 131,071.
const MANY: u32 = 131_000;

fn floors(c: &mut Criterion) {
    let mut group = c.benchmark_group("growth");
    group.sampling_mode(SamplingMode::Flat);
    let word = AtomicU64::new(0);
    group.bench_function("floor", |b| b.iter_custom(|times| looped(times, || floor(&word))));
    group.finish();
}

/// Sends over many ports in an order that no cache foresees.
fn random_sends(c: &mut Criterion) {
    let mut machine = Machine::new(Abi::Fifo, MANY);
    Random(0x2545_f491_4f6c_dd1d).shuffle(&mut machine.ports);
    let mut group = c.benchmark_group("growth");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(MANY.into()));
    group.bench_function("random-fresh", |b| {
        b.iter_custom(|times| {
            timed(times, &mut machine, |machine| {
                machine.clear();
                let start = Instant::now();
                black_box(&mut *machine).send_to(MANY);
                start.elapsed()
            })
        });
    });
    group.bench_function("random-pending", |b| {
        b.iter_custom(|times| {
            timed(times, &mut machine, |machine| {
                let start = Instant::now();
                black_box(&mut *machine).send_to(MANY);
                start.elapsed()
            })
        });
    });
    group.finish();
}

fn allocation(c: &mut Criterion) {
    let mut group = c.benchmark_group("growth");
    group.sampling_mode(SamplingMode::Flat);
    for open in [1, MANY] {
        let mut machine = Machine::new(Abi::Fifo, 0);
        (0..open).for_each(|_| assert_ne!(machine.receiver.alloc(SENDER), Port(0)));
        group.bench_function(format!("alloc-{open}"), |b| {
            b.iter_custom(|times| {
                timed(times, &mut machine.receiver, |receiver| {
                    let start = Instant::now();
                    let ports: [Port; 32] = std::array::from_fn(|_| receiver.alloc(SENDER));
                    let time = start.elapsed();
                    ports.into_iter().for_each(|port| receiver.close(port));
                    time / 32
                })
            });
        });
    }
    group.finish();
}

/// Opens a channel between two domains and closes it.
fn pairs(c: &mut Criterion) {
    let mut group = c.benchmark_group("growth");
    group.sampling_mode(SamplingMode::Flat);
    for (abi, open, threads) in [(Abi::TwoLevel, 0, 2), (Abi::TwoLevel, 0, 64), (Abi::Fifo, 100_000, 2)] {
        let mut machine = Machine::new(abi, open);
        let _others: Vec<Cpu> = (2..threads).map(|_| Cpu::new(machine.engine, SENDER)).collect();
        group.bench_function(format!("pair-{}-{open}-{threads}", abi.name()), |b| {
            b.iter_custom(|times| {
                let start = Instant::now();
                for _ in 0..times {
                    let far = machine.receiver.alloc(SENDER);
                    let near = machine.sender.bind(RECEIVER, far);
                    machine.sender.close(near);
                    machine.receiver.close(far);
                }
                start.elapsed()
            });
        });
    }
    group.finish();
}

/// Resets a domain whose only open port has a high number.
fn reset(c: &mut Criterion) {
    let mut machine = Machine::new(Abi::Fifo, 0);
    let mut group = c.benchmark_group("growth");
    group.sampling_mode(SamplingMode::Flat);
    // To get such a port takes ten thousand times as long as to reset it.
    let few = |times: u64| times.min(10);
    group.bench_function("reset-one", |b| {
        b.iter_custom(|times| {
            let time = timed(few(times), &mut machine, |machine| {
                open_only(machine, 100_000);
                let start = Instant::now();
                machine.receiver.reset();
                start.elapsed()
            });
            time.mul_f64(times as f64 / few(times) as f64)
        });
    });
    group.finish();
}

/// Leaves one port open, by its number, in a domain that uses FIFO again.
fn open_only(machine: &mut Machine, last: u32) {
    machine.restart_receiver();
    let ports: Vec<Port> = (0..last).map(|_| machine.receiver.alloc(SENDER)).collect();
    let (last, others) = ports.split_last().expect("not none");
    assert_eq!(last.0, 100_000);
    others.iter().for_each(|&port| machine.receiver.close(port));
}

criterion_group!(benches, floors, random_sends, allocation, pairs, reset);
criterion_main!(benches);
