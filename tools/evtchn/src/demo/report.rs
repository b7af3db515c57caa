// SPDX-License-Identifier: MIT OR Apache-2.0
//! What became of the events.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use serde::Serialize;

use super::direction::Direction;
use super::histogram::{Percentiles, percentiles};
use super::page::{DONE, Page};
use super::{RECEIVER, SENDER};

/// What became of some events: `sent = delivered + coalesced + lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Notifications made.
    pub sent: u64,
    /// Reads that returned the port.
    pub delivered: u64,
    /// Notifications that the receiver knows of without a read of their own: the event was still pending.
    pub coalesced: u64,
    /// Notifications that the receiver does not know of.
    pub lost: u64,
    /// Reads that returned the port although nobody had notified.
    #[serde(skip)]
    pub unasked: u64,
}

impl Account {
    /// Accounts for `sent` events, of which a receiver that was told `delivered` times saw the first `seen`.
    fn new(sent: u64, seen: u64, delivered: u64) -> Self {
        Self {
            sent,
            delivered,
            coalesced: seen.saturating_sub(delivered),
            lost: sent.saturating_sub(seen),
            unasked: delivered.saturating_sub(seen),
        }
    }

    fn of(direction: &Direction) -> Self {
        Self::new(direction.sent(), direction.seen(), direction.delivered())
    }

    fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            delivered: self.delivered + other.delivered,
            coalesced: self.coalesced + other.coalesced,
            lost: self.lost + other.lost,
            unasked: self.unasked + other.unasked,
        }
    }
}

/// One kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Traffic {
    #[serde(flatten)]
    pub account: Account,
    pub sent_per_second: f64,
    pub delivered_per_second: f64,
    pub latency_ns: Option<Percentiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ns: Option<Percentiles>,
}

impl Traffic {
    fn new(directions: &[&Direction], took: &AtomicU64) -> Self {
        let account = directions.iter().map(|d| Account::of(d)).fold(Account::default(), Account::plus);
        let seconds = took.load(SeqCst).max(1) as f64 / 1e9;
        let latencies: Vec<_> = directions.iter().map(|d| d.latency()).collect();
        Self {
            account,
            sent_per_second: (account.sent as f64 / seconds).round(),
            delivered_per_second: (account.delivered as f64 / seconds).round(),
            latency_ns: percentiles(&latencies),
            round_trip_ns: None,
        }
    }
}

/// Everything the demo found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Report {
    pub seconds: f64,
    pub sender_domain: u32,
    pub receiver_domain: u32,
    /// Pings and pongs together.
    pub ping_pong: Traffic,
    pub flood: Traffic,
    /// Of both kinds.
    pub lost: u64,
    /// Whether both programs went through all of it.
    pub complete: bool,
}

impl Report {
    /// Sums up what the programs left in the page.
    pub fn new(page: &Page) -> Self {
        let ping_pong = Traffic {
            round_trip_ns: percentiles(&[&page.round_trip]),
            ..Traffic::new(&[&page.ping, &page.pong], &page.ping_pong_took)
        };
        let flood = Traffic::new(&[&page.flood], &page.flood_took);
        Self {
            seconds: page.milliseconds.load(SeqCst) as f64 / 1000.0,
            sender_domain: SENDER,
            receiver_domain: RECEIVER,
            ping_pong,
            flood,
            lost: ping_pong.account.lost + flood.account.lost,
            complete: page.receiver.load(SeqCst) == DONE && flood.account.sent > 0,
        }
    }

    /// Why the demo failed, if it did.
    pub fn complaint(&self) -> Option<String> {
        let unasked = self.ping_pong.account.unasked + self.flood.account.unasked;
        if self.lost > 0 {
            Some(format!(
                "{} events were lost (hint: unless the receiver was stopped, this is a defect)",
                self.lost
            ))
        } else if unasked > 0 {
            Some(format!("{unasked} events were delivered that nobody sent (hint: this is a defect)"))
        } else if !self.complete {
            Some("the receiver did not stay to the end (hint: was it killed?)".into())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::direction::quiet;
    use super::*;

    #[test]
    fn events_that_found_one_pending_coalesced() {
        let direction = quiet();
        for at in 1..=5 {
            direction.raise(at);
        }
        direction.announce(6);
        let account = Account { sent: 5, delivered: 1, coalesced: 4, ..Account::default() };
        assert_eq!(Account::of(&direction), account);
    }

    #[test]
    fn a_final_count_that_was_not_seen_is_a_lost_event() {
        let direction = quiet();
        direction.raise(1);
        direction.announce(2);
        direction.raise(3);
        let account = Account { sent: 2, delivered: 1, lost: 1, ..Account::default() };
        assert_eq!(Account::of(&direction), account);
    }

    #[test]
    fn a_delivery_that_nobody_asked_for_is_noticed() {
        let direction = quiet();
        direction.announce(1);
        assert_eq!(Account::of(&direction).unasked, 1);
    }
}
