// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report as people read it.

use std::fmt::{self, Display, Formatter};

use super::histogram::Percentiles;
use super::report::{Account, Report, Traffic};

const NOTES: &str = "\
delivered     reads of the device that returned the port
coalesced     notifications that the receiver saw without a read of their own: the event was still pending
lost          notifications that the receiver had not seen 1 s after the last; sent = delivered + coalesced + lost
latency       from the first notification that a read announces until that read has returned
round trip    from before a ping's notification until the pong's read has returned

Every time includes the supervisor, a third process that serves each open, ioctl, read and write of the two.";

const YOUR_OWN: &str = "Run your own program this way:  evtchn run -- ./program";

/// A report with its explanations.
pub struct Table<'a>(pub &'a Report);

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { seconds, sender_domain, receiver_domain, ping_pong, flood, .. } = self.0;
        writeln!(f, "Two processes, in domains {sender_domain} and {receiver_domain}, with an event channel between them, for {seconds} s:")?;
        writeln!(f, "first they took turns (ping-pong), then one sent as fast as it could (flood).\n")?;
        line(f, "", ["ping-pong", "flood"])?;
        let both = [ping_pong, flood];
        counts(f, both)?;
        percentiles(f, "latency", both.map(|traffic| traffic.latency_ns))?;
        percentiles(f, "round trip", both.map(|traffic| traffic.round_trip_ns))?;
        writeln!(f, "\n{NOTES}\n\n{YOUR_OWN}")
    }
}

fn counts(f: &mut Formatter<'_>, both: [&Traffic; 2]) -> fmt::Result {
    let rows: [(&str, fn(&Account) -> u64); 4] = [
        ("events sent", |account| account.sent),
        ("  delivered", |account| account.delivered),
        ("  coalesced", |account| account.coalesced),
        ("  lost", |account| account.lost),
    ];
    for (name, value) in rows {
        line(f, name, both.map(|traffic| grouped(value(&traffic.account))))?;
    }
    line(f, "sent per second", both.map(|traffic| grouped(traffic.sent_per_second as u64)))?;
    line(f, "delivered per second", both.map(|traffic| grouped(traffic.delivered_per_second as u64)))
}

fn percentiles(f: &mut Formatter<'_>, name: &str, both: [Option<Percentiles>; 2]) -> fmt::Result {
    let rows: [(&str, fn(Percentiles) -> u64); 5] = [
        ("p50", |p| p.p50),
        ("p90", |p| p.p90),
        ("p99", |p| p.p99),
        ("p99.9", |p| p.p99_9),
        ("max", |p| p.max),
    ];
    for (i, (row, value)) in rows.into_iter().enumerate() {
        let name = if i == 0 { name } else { "" };
        line(f, &format!("{name:12}{row}"), both.map(|p| p.map(value).map_or("-".into(), duration)))?;
    }
    Ok(())
}

fn line<T: AsRef<str>>(f: &mut Formatter<'_>, name: &str, [left, right]: [T; 2]) -> fmt::Result {
    writeln!(f, "{name:22}{:>14}{:>14}", left.as_ref(), right.as_ref())
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn duration(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000_000 => format!("{:.1} us", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", value / 1e6),
        _ => format!("{:.1} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn durations_have_a_unit_that_suits_them() {
        assert_eq!([120, 12_340, 2_500_000, 3_000_000_000].map(duration), ["0.1 us", "12.3 us", "2.5 ms", "3.0 s"]);
    }
}
