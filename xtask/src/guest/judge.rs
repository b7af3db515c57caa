// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a scenario went as it should, and its line of the table.

use std::fs;
use std::path::Path;

use evtchn_replay::workspace::stored;
use evtchn_replay::{Excuses, Recording, Table, compare_device};
use serde_json::{Value, json};

use super::scenario::Scenario;

/// A scenario's result.
pub struct Verdict {
    pub name: &'static str,
    /// Why it failed; nothing if it did not.
    pub failures: Vec<String>,
    pub report: Value,
    /// The ABI as Linux names it.
    pub abi: String,
    /// What the programs in the guests said.
    pub said: Vec<String>,
    /// How often it was tried.
    pub tries: u32,
}

/// Looks at what a scenario left in a folder, the last time that it was tried.
pub fn judge(scenario: &Scenario, folder: &Path, tries: u32) -> Verdict {
    let text = |ending: &str| {
        fs::read(folder.join(format!("{}.{ending}", scenario.name)))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    };
    let console = text("console").unwrap_or_default();
    let mut failures = Vec::new();
    match text("status").as_deref().map(str::trim) {
        Ok("0") => {}
        Ok(status) => {
            let complaint = text("stderr").unwrap_or_default();
            let last = complaint.lines().last().unwrap_or("no complaint").to_owned();
            failures.push(format!("status {status}: {last}"));
        }
        Err(_) => failures.push("did not run".to_owned()),
    }
    let missing = scenario.expected.iter().filter(|line| !console.contains(**line));
    failures.extend(missing.map(|line| format!("`{line}` is missing")));
    failures.extend(scenario.recording.and_then(|known| compare(known, folder, scenario.name)));
    let report = text("json").ok().and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default();
    if scenario.vmm.contains("--offload") {
        let sends = sends_of(&report);
        // One after the other guest's end is the engine's to refuse.
        failures.extend((sends > 1).then(|| format!("{sends} sends came to the engine")));
    }
    failures.extend(too_few(&report, scenario.at_least));
    let lines = |wanted: &[&str]| -> Vec<String> {
        let fits = |line: &&str| wanted.iter().any(|what| line.contains(what));
        console.lines().filter(fits).map(|line| line.trim().to_owned()).collect()
    };
    let abi = lines(&["xen:events: Using"]).into_iter().next().unwrap_or_default();
    let said =
        lines(&["rounds:", "costs:", "answer:", "ask:", "hostile:", "guest-probe:", "unikernel: passed"]);
    Verdict { name: scenario.name, failures, report, abi, said, tries }
}

/// What is less than it must be among the numbers of the first guest.
fn too_few(report: &Value, at_least: &[(&str, u64)]) -> Vec<String> {
    let number = |key| report.get(0)?.get(key)?.as_u64();
    let short = at_least.iter().filter(|(key, least)| number(key).is_none_or(|number| number < *least));
    short.map(|(key, least)| format!("{key}: {:?} and not {least}", number(key))).collect()
}

/// Sequences of the recordings, whose domains were paravirtual and had a toolstack, that others answer otherwise: such a
/// domain has no compat hypercall (ENOSYS), its PIRQs are emulated (EINVAL where the other may not, EPERM), and it has other
/// ports in use, so that it can bind two more until it has none left.
const OTHER_DOMAIN: [&str; 3] = ["h.compat", "h.pirq", "d.ring.growth"];

/// The sends of a guest that KVM did not carry out: the most of all guests.
fn sends_of(report: &Value) -> u64 {
    let sends = |guest: &Value| guest.get("sends").and_then(Value::as_u64).unwrap_or(u64::MAX);
    report.as_array().and_then(|guests| guests.iter().map(sends).max()).unwrap_or(u64::MAX)
}

/// Compares what the recorder printed in the guest with what it printed on a real Xen.
fn compare(known: &str, folder: &Path, name: &str) -> Option<String> {
    let result = || -> anyhow::Result<Option<String>> {
        let xen = Recording::load(&stored(known))?;
        let text = fs::read_to_string(folder.join(format!("{name}.out.1")))?;
        let ours = Recording::parse("guest of evtchn-vmm", &text)?;
        let table = if xen.is_device() { Table::Device } else { Table::Hypercalls };
        let mut report = compare_device(&xen, &ours, &Excuses::load(table)?);
        report.differences.retain(|difference| !OTHER_DOMAIN.contains(&difference.seq.as_str()));
        crate::replay::print(&report, false)?;
        Ok(report.failure())
    };
    result().unwrap_or_else(|error| Some(format!("{error:#}")))
}

impl Verdict {
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// The result and the reports.
    pub fn json(&self) -> Value {
        json!({
            "name": self.name,
            "passed": self.passed(),
            "failures": self.failures,
            "tries": self.tries,
            "abi": self.abi,
            "said": self.said,
            "guests": self.report,
        })
    }

    /// A number of the first guest's report.
    fn number(&self, key: &str) -> Option<u64> {
        self.report.get(0)?.get(key)?.as_u64()
    }

    /// Milliseconds between the start of the first guest and one of its marks.
    fn mark(&self, wanted: u64) -> Option<u64> {
        let marks = self.report.get(0)?.get("marks_at_ms")?.as_array()?;
        let found = marks.iter().find(|mark| mark.get(0).and_then(Value::as_u64) == Some(wanted))?;
        found.get(1)?.as_u64()
    }

    /// The line of the table.
    pub fn line(&self) -> String {
        let shown = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        format!(
            "{:<25} {:<6} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>7}  {}",
            self.name,
            match (self.passed(), self.tries) {
                (true, 1) => "ok".to_owned(),
                (true, tries) => format!("ok, {tries}."),
                (false, _) => "FAILED".to_owned(),
            },
            shown(self.number("fifo_at_ms")),
            shown(self.mark(1)),
            shown(self.number("exits")),
            shown(self.number("raised")),
            shown(self.number("upcalls")),
            shown(self.number("registers_ns_per_send")),
            shown(self.number("engine_ns_per_send")),
            if self.passed() { self.said.join("; ") } else { self.failures.join("; ") },
        )
    }
}

/// What is above the lines.
pub fn heading() -> String {
    format!(
        "{:<25} {:<6} {:>9} {:>9} {:>8} {:>8} {:>8} {:>7} {:>7}",
        "scenario", "", "FIFO ms", "user ms", "exits", "events", "upcalls", "regs ns", "engine"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_did_not_happen_often_enough_is_a_failure() {
        let report = json!([{ "snapshots": 9, "offloaded": 3 }, { "snapshots": 99 }]);
        assert_eq!(too_few(&report, &[("snapshots", 9), ("offloaded", 1)]), [""; 0]);
        assert_eq!(too_few(&report, &[("snapshots", 10)]), ["snapshots: Some(9) and not 10"]);
        assert_eq!(too_few(&report, &[("raised", 1)]), ["raised: None and not 1"]);
        assert_eq!(too_few(&Value::Null, &[("snapshots", 0)]).len(), 1, "no report");
    }
}
