// SPDX-License-Identifier: MIT OR Apache-2.0
//! Threads against each other: how a lost event shows, and a watch that ends what waits for ever.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A count that a sender raises before each event, and what the handler saw of it. An event that is lost shows as a count
/// that stays unseen.
#[derive(Default)]
pub struct Mail {
    sent: AtomicU32,
    seen: AtomicU32,
}

impl Mail {
    pub fn write(&self) {
        self.sent.fetch_add(1, SeqCst);
    }

    pub fn read(&self) {
        // The highest, as there may be several handlers.
        self.seen.fetch_max(self.sent.load(SeqCst), SeqCst);
    }

    fn all_sent(&self, count: u32) -> bool {
        self.sent.load(SeqCst) == count
    }

    pub fn all_seen(&self, count: u32) -> bool {
        self.seen.load(SeqCst) == count
    }
}

/// Runs `round` until each of the mails has been written `count` times and is read; panics if that does not happen within a
/// minute of the last writing.
pub fn until_read(mails: &[Mail], count: u32, mut round: impl FnMut()) {
    let mut deadline = Instant::now() + MINUTE;
    while !mails.iter().all(|mail| mail.all_seen(count)) {
        if !mails.iter().all(|mail| mail.all_sent(count)) {
            deadline = Instant::now() + MINUTE;
        }
        assert!(Instant::now() < deadline, "an event was lost");
        round();
    }
}

const MINUTE: Duration = Duration::from_secs(60);

/// A vCPU that waits for something: panics after a minute.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + MINUTE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain");
        thread::yield_now();
    }
}

/// Tells threads that go round until they are stopped. Stopped also when a case panics, so that it ends.
#[derive(Default)]
pub struct Stop(AtomicBool);

impl Stop {
    pub fn is_set(&self) -> bool {
        self.0.load(SeqCst)
    }

    /// Stops them when it is dropped.
    pub fn at_end(&self) -> AtEnd<'_> {
        AtEnd(self)
    }
}

pub struct AtEnd<'a>(&'a Stop);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, SeqCst);
    }
}

/// Ends the process if it is not dropped within two hours: a thread that waits for a lock cannot be ended otherwise.
pub struct Watch {
    _done: mpsc::Sender<()>,
}

impl Watch {
    pub fn new() -> Self {
        let (done, over) = mpsc::channel::<()>();
        thread::spawn(move || {
            if over.recv_timeout(120 * MINUTE) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("threads wait for each other");
                std::process::abort();
            }
        });
        Self { _done: done }
    }
}

/// Numbers that look random.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next 32 bits.
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 24) as u32
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.next() as usize % choices.len()]
    }
}
