// SPDX-License-Identifier: MIT OR Apache-2.0
//! The events of one direction: what the sender says it sent, and what the receiver noticed.
//!
//! The sender raises a count before each notification. The receiver looks at the count only when a read
//! of the device has announced an event, so a lost event shows: the last count is never seen.
//!
//! A latency begins with the first notification that no read has announced yet, and ends when the read
//! that announces it has returned. Notifications that found the event pending already have no read of
//! their own, so no latency either.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use super::histogram::Histogram;

/// The counts of one direction, in shared memory. All zero bytes are a direction without events.
#[repr(C, align(64))]
pub struct Direction {
    sent: AtomicU64,
    /// When the first notification since the last read began; 0 if there was none.
    began: AtomicU64,
    seen: AtomicU64,
    delivered: AtomicU64,
    latency: Histogram,
}

impl Direction {
    /// The sender is about to notify.
    pub fn raise(&self, now: u64) {
        // The count comes first and the time second, and `announce` goes the other way round: a time that
        // it takes belongs to a count that it sees. SeqCst, because these are different words.
        self.sent.fetch_add(1, SeqCst);
        let _ = self.began.compare_exchange(0, now, SeqCst, SeqCst);
    }

    /// A read by the receiver has returned with the port.
    pub fn announce(&self, now: u64) {
        // A notification that began after the read is for the next one.
        let ended = |began| (1..=now).contains(&began).then_some(0);
        if let Ok(began) = self.began.fetch_update(SeqCst, SeqCst, ended) {
            self.latency.record(now - began);
        }
        self.seen.store(self.sent.load(SeqCst), Relaxed);
        self.delivered.fetch_add(1, Relaxed);
    }

    /// How often the sender notified.
    pub fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }

    /// The last count that the receiver has seen.
    pub fn seen(&self) -> u64 {
        self.seen.load(Relaxed)
    }

    /// How many reads returned the port.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// From notification to read.
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }
}

#[cfg(test)]
pub fn quiet() -> Direction {
    Direction {
        sent: AtomicU64::new(0),
        began: AtomicU64::new(0),
        seen: AtomicU64::new(0),
        delivered: AtomicU64::new(0),
        latency: super::histogram::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram::percentiles;
    use super::*;

    #[test]
    fn a_count_is_seen_only_when_a_read_announces_it() {
        let direction = quiet();
        direction.raise(1);
        assert_eq!((direction.sent(), direction.seen()), (1, 0));
        direction.announce(2);
        assert_eq!((direction.seen(), direction.delivered()), (1, 1));
    }

    #[test]
    fn the_latency_begins_with_the_first_of_the_events_that_coalesced() {
        let direction = quiet();
        direction.raise(10);
        direction.raise(30);
        direction.announce(50);
        assert_eq!(percentiles(&[direction.latency()]).unwrap().max, 40);
    }

    #[test]
    fn a_notification_that_began_after_the_read_counts_for_the_next_read() {
        let direction = quiet();
        direction.raise(60);
        direction.announce(50);
        assert_eq!(percentiles(&[direction.latency()]), None);
        direction.announce(90);
        assert_eq!(percentiles(&[direction.latency()]).unwrap().max, 30);
    }

    #[test]
    fn a_read_that_announces_nothing_new_has_no_latency() {
        let direction = quiet();
        direction.announce(50);
        assert_eq!(percentiles(&[direction.latency()]), None);
        assert_eq!(direction.delivered(), 1);
    }
}
