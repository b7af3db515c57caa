// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs one operation of the engine a given number of times, for an instruction counter to watch.
//!
//! `count OPERATION N`. The cost of one operation is the difference between two runs over the difference of their N, which leaves out all that
//! happens once. Such counts do not depend on the machine's load. `cargo xtask bench engine` runs this under valgrind's callgrind.

mod machine;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;

use evtchn_engine::Outcome;
use machine::{Abi, Machine, floor};

/// A batch of fresh sends between two clears of the page. It divides both numbers of operations that are compared.
const FRESH: u32 = 2_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [operation, times] = &arguments[..] else {
        // As `cargo bench` starts it: there is nothing to time.
        return ExitCode::SUCCESS;
    };
    match times.parse().map(|times| run(operation, times)) {
        Ok(true) => ExitCode::SUCCESS,
        _ => {
            eprintln!("usage: count floor|unknown|pending[-fifo]|fresh[-fifo] N");
            ExitCode::from(2)
        }
    }
}

/// Whether there is such an operation.
fn run(operation: &str, times: u32) -> bool {
    let mut machine =
        Machine::new(if operation.ends_with("-fifo") { Abi::Fifo } else { Abi::TwoLevel }, FRESH);
    match operation {
        "floor" => count_floor(times),
        "unknown" => (0..times).for_each(|_| consume(machine.sender.unknown())),
        "pending" | "pending-fifo" => {
            let port = machine.port(17);
            let _ = machine.sender.send(port);
            // Ten at a time, so that the loop does not count.
            (0..times / 10).for_each(|_| (0..10).for_each(|_| consume(machine.sender.send(port))));
            assert_eq!(machine.sender.send(port), Outcome::Done(0));
        }
        "fresh" | "fresh-fifo" => (0..times / FRESH).for_each(|_| {
            machine.clear();
            black_box(&mut machine).send_to(FRESH);
        }),
        _ => return false,
    }
    true
}

fn count_floor(times: u32) {
    let word = AtomicU64::new(0);
    consume((0..times).filter(|_| floor(&word)).count());
}

/// Uses a result, as far as the compiler knows.
fn consume<R>(result: R) {
    let _ = black_box(result);
}
