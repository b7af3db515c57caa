// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report as people read it.

use std::fmt::{self, Display, Formatter};

use super::histogram::Percentiles;
use super::report::{Account, Report, Traffic};

const NOTES: &str = "\
sent          notifications made, pongs included;
              sent = delivered + coalesced + lost
delivered     reads of the device that returned the port
coalesced     seen by the receiver without a read of their own, because
              the event was still pending
lost          not seen by the receiver 1 s after the last was sent
latency       from the first notification that a read announces until that
              read has returned
round trip    from before the ping's notification until the read of the
              pong has returned

Every time includes the supervisor: a third process, which serves each open,
ioctl, read and write of these two.";

/// A row's name, and how its figure is found.
type Row<T> = (&'static str, fn(T) -> u64);

/// A report with its explanations.
pub struct Table<'a> {
    /// The report.
    pub report: &'a Report,
    /// What runs `evtchn`.
    pub command: &'a str,
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Report { seconds, sender_domain, receiver_domain, ping_pong, flood, .. } = self.report;
        writeln!(
            f,
            "Two processes in domains {sender_domain} and {receiver_domain}, one event channel, {seconds} s:"
        )?;
        writeln!(f, "first they took turns (ping-pong), then one sent as fast as it could (flood).\n")?;
        line(f, "", ["ping-pong", "flood"])?;
        let both = [ping_pong, flood];
        counts(f, both)?;
        percentiles(f, "latency", both.map(|traffic| traffic.latency_ns))?;
        percentiles(f, "round trip", both.map(|traffic| traffic.round_trip_ns))?;
        writeln!(f, "\n{NOTES}\n\nRun your own program this way:  {} run -- ./program", self.command)
    }
}

fn counts(f: &mut Formatter<'_>, both: [&Traffic; 2]) -> fmt::Result {
    let rows: [Row<&Account>; 4] = [
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
    let rows: [Row<Percentiles>; 5] = [
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
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
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
    fn the_table_shows_every_figure_in_its_column() {
        let latency = Percentiles { p50: 1_500, p90: 2_000, p99: 3_000, p99_9: 4_000, max: 5_000_000 };
        let account = Account { sent: 1_200, delivered: 1_000, coalesced: 198, lost: 2, unasked: 0 };
        let traffic = Traffic {
            account,
            sent_per_second: 600.0,
            delivered_per_second: 500.0,
            latency_ns: Some(latency),
            round_trip_ns: None,
        };
        let ping_pong = Traffic {
            account: Account::default(),
            latency_ns: None,
            round_trip_ns: Some(latency),
            ..traffic
        };
        let report = Report {
            seconds: 2.0,
            sender_domain: 2,
            receiver_domain: 1,
            ping_pong,
            flood: traffic,
            lost: 2,
            complete: true,
        };
        let text = Table { report: &report, command: "evtchn" }.to_string();
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        for row in [
            "events sent 0 1,200",
            "delivered 0 1,000",
            "coalesced 0 198",
            "lost 0 2",
            "sent per second 600 600",
            "delivered per second 500 500",
            "latency p50 - 1.5 us",
            "max - 5.0 ms",
            "round trip p50 1.5 us -",
        ] {
            assert!(rows.contains(&row.split(' ').collect()), "{row}:\n{text}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn durations_have_a_unit_that_suits_them() {
        assert_eq!(
            [120, 12_340, 2_500_000, 3_000_000_000].map(duration),
            ["0.1 us", "12.3 us", "2.5 ms", "3.0 s"]
        );
    }
}
