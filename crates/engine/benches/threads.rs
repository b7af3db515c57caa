// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two threads, one on each of two processors, at one engine.
//!
//! `cargo xtask bench engine` runs this; `cargo bench -p evtchn-engine --bench threads` runs it alone. A figure is the time of one
//! operation of one thread, or of one round trip, while the other thread does the same. Beside them: `line`, a round trip of a cache
//! line between the two processors, which changes with where the host puts them.

mod machine;

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use evtchn_abi::{DomId, Port};
use evtchn_engine::Outcome;
use machine::{Abi, Cpu, Machine, RECEIVER, SENDER, floor, looped, pin_to};

/// One operation, over and over.
type Work<'a> = Box<dyn FnMut(u64) + Send + 'a>;

/// Runs both at the same time; how long the slower one took.
fn both(times: u64, work: [Work<'_>; 2]) -> Duration {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let mut cpu = 0;
        let threads = work.map(|mut work| {
            let (own, start) = (cpu, &start);
            cpu += 1;
            scope.spawn(move || {
                pin_to(own);
                start.wait();
                let begun = Instant::now();
                work(times);
                begun.elapsed()
            })
        });
        threads.map(|thread| thread.join().expect("no panic")).into_iter().max().unwrap_or_default()
    })
}

fn floors(c: &mut Criterion) {
    let mut group = c.benchmark_group("threads");
    group.sampling_mode(SamplingMode::Flat);
    let word = AtomicU64::new(0);
    group.bench_function("floor", |b| b.iter_custom(|times| looped(times, || floor(&word))));
    let line = AtomicU64::new(0);
    group
        .bench_function("line", |b| b.iter_custom(|times| both(times, [passer(&line, 0), passer(&line, 1)])));
    group.finish();
}

/// Passes a word to and fro.
fn passer(line: &AtomicU64, own: u64) -> Work<'_> {
    Box::new(move |times| {
        for _ in 0..times {
            while line.load(SeqCst) != own {
                spin_loop();
            }
            line.store(1 - own, SeqCst);
        }
    })
}

fn sender(machine: &Machine, port: Port) -> Work<'_> {
    let mut cpu = Cpu::new(machine.engine, SENDER);
    Box::new(move |times| {
        for _ in 0..times {
            black_box(cpu.send(black_box(port)) == Outcome::Done(0));
        }
    })
}

/// Both send to ports that are pending already.
fn pending(c: &mut Criterion) {
    for abi in Abi::BOTH {
        let mut machine = Machine::new(abi, 1_024);
        machine.send_to(1_024);
        let mut group = c.benchmark_group(format!("threads-{}", abi.name()));
        group.sampling_mode(SamplingMode::Flat);
        for (name, first, second) in [("same", 17, 17), ("near", 17, 18), ("far", 17, 537)] {
            let ports = [machine.port(first), machine.port(second)];
            group.bench_function(name, |b| {
                b.iter_custom(|times| both(times, ports.map(|port| sender(&machine, port))));
            });
        }
        group.finish();
    }
}

/// Each sends, and waits for the other's event, which it consumes.
fn round_trips(c: &mut Criterion) {
    for abi in Abi::BOTH {
        let machine = Machine::new(abi, 1);
        machine.clear();
        let (near, far) = machine.ports[0];
        machine.kernel_of(SENDER).listen(near);
        let mut group = c.benchmark_group(format!("trip-{}", abi.name()));
        group.sampling_mode(SamplingMode::Flat);
        group.bench_function("spinning", |b| {
            b.iter_custom(|times| {
                both(times, [player(&machine, SENDER, near), player(&machine, RECEIVER, far)])
            });
        });
        group.finish();
    }
}

fn player(machine: &Machine, domain: DomId, port: Port) -> Work<'_> {
    let begins = domain == SENDER;
    let mut cpu = Cpu::new(machine.engine, domain);
    let kernel = machine.kernel_of(domain);
    Box::new(move |times| {
        for _ in 0..times {
            if begins {
                let _ = cpu.send(port);
            }
            while kernel.consume() == 0 {
                spin_loop();
            }
            if !begins {
                let _ = cpu.send(port);
            }
        }
    })
}

criterion_group!(benches, floors, pending, round_trips);
criterion_main!(benches);
