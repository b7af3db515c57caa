// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads that do everything to a few files at the same time.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use evtchn_abi::Errno;
use evtchn_abi::ioctl::Ioctl;

use crate::device::{Device, SELF};
use crate::report::Report;

/// How many files the threads share.
const FILES: usize = 3;
/// How many ports of each file are remembered; older ones are given up.
const PORTS: usize = 100;
/// How much longer it may take on a slow machine until the threads have done something.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the threads did, in all.
#[derive(Default)]
struct Done {
    calls: AtomicU64,
    events: AtomicU64,
}

impl Done {
    /// Whether it is worth speaking of.
    fn is_enough(&self) -> bool {
        self.calls.load(Relaxed) > 1000 && self.events.load(Relaxed) > 50
    }
}

/// Lets threads loose for some seconds. Then everything must still work.
///
/// # Errors
/// A file cannot be opened.
pub fn run(report: &mut Report, seconds: u64, threads: u32, seed: u64) -> Result<()> {
    report.begin("hammer");
    let files: Vec<Device> = (0..FILES).map(|_| Device::open()).collect::<Result<_>>()?;
    let (stop, done) = (AtomicBool::new(false), Done::default());
    let surprises: BTreeSet<(Ioctl, Errno)> = thread::scope(|scope| {
        let start = |number: u64| {
            let random = Random(seed.wrapping_mul(1_000_003).wrapping_add(number));
            let (files, stop, done) = (&files, &stop, &done);
            scope.spawn(move || Hammer { files, random, surprises: BTreeSet::new() }.swing(stop, done))
        };
        let running: Vec<_> = (0..u64::from(threads)).map(start).collect();
        let begin = Instant::now();
        let (end, last) =
            (begin + Duration::from_secs(seconds), begin + Duration::from_secs(seconds) + PATIENCE);
        while Instant::now() < end || !done.is_enough() && Instant::now() < last {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, SeqCst);
        running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    drop(files);
    eprintln!("hammer: {} calls, {} events read", done.calls.load(Relaxed), done.events.load(Relaxed));
    report.is("errors that make no sense", surprises, BTreeSet::new());
    report.is("calls and events", done.is_enough(), true);
    let (file, other) = (Device::open()?, Device::open()?);
    let (port, theirs) = file.pair(&other)?;
    other.notify(theirs).ok();
    report.is("an event afterwards", file.next(1)? == [port], true);
    Ok(())
}

/// One thread.
struct Hammer<'a> {
    files: &'a [Device],
    random: Random,
    surprises: BTreeSet<(Ioctl, Errno)>,
}

impl Hammer<'_> {
    fn swing(mut self, stop: &AtomicBool, done: &Done) -> BTreeSet<(Ioctl, Errno)> {
        let mut ports: Vec<u32> = Vec::new();
        let mut own: Option<Device> = None;
        while !stop.load(Relaxed) {
            done.calls.fetch_add(1, Relaxed);
            let which = self.random.below(FILES as u64 + 1) as usize;
            let file = match self.files.get(which) {
                Some(file) => file,
                // A file of this thread alone, closed now and then with all it has.
                None => match own.take().filter(|_| self.random.below(50) != 0).map_or_else(Device::open, Ok)
                {
                    Ok(file) => own.insert(file),
                    Err(_) => continue,
                },
            };
            step(file, &mut ports, &mut self.random, &mut self.surprises, done);
            if ports.len() > PORTS {
                let old = ports.remove(0);
                // Whose it is was not noted.
                for file in self.files.iter().chain(&own) {
                    file.unbind(old).ok();
                }
            }
        }
        self.surprises
    }
}

fn step(
    file: &Device,
    ports: &mut Vec<u32>,
    random: &mut Random,
    surprises: &mut BTreeSet<(Ioctl, Errno)>,
    done: &Done,
) {
    let some = ports.get(random.below(ports.len().max(1) as u64) as usize).copied().unwrap_or(5);
    let mut call = |command: Ioctl, argument: &[u32], allowed: &[Errno]| {
        let answer = file.ioctl(command, argument);
        surprises.extend(answer.err().filter(|errno| !allowed.contains(errno)).map(|errno| (command, errno)));
        answer.ok()
    };
    match random.below(16) {
        0 | 1 => ports.extend(call(Ioctl::BIND_UNBOUND_PORT, &[SELF], &[])),
        2 | 3 => {
            ports.extend(call(Ioctl::BIND_INTERDOMAIN, &[SELF, some], &[Errno::EINVAL]));
        }
        4 => {
            let virq = 4 + random.below(4) as u32;
            ports.extend(call(Ioctl::BIND_VIRQ, &[virq], &[Errno::EEXIST]));
        }
        5 => {
            call(Ioctl::UNBIND, &[some], &[Errno::ENOTCONN]);
        }
        6 if random.below(20) == 0 => {
            call(Ioctl::RESET, &[], &[]);
        }
        6..=9 => {
            call(Ioctl::NOTIFY, &[some], &[Errno::ENOTCONN]);
        }
        10..=12 => {
            let got = file.read(1 + random.below(64) as usize).unwrap_or_default();
            done.events.fetch_add(got.len() as u64, Relaxed);
            file.write(&got).ok();
        }
        13 => {
            file.write(ports).ok();
        }
        14 => {
            file.mask().ok();
        }
        _ => {
            // What another thread's numbers are is nobody's secret.
            ports.push(random.below(200) as u32 + 1);
        }
    }
}

/// Numbers that look random (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 11) % limit
    }
}
