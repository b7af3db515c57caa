// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorder in domain 0: what it records there, against what is stored, and against what it records under `evtchn run`.

use anyhow::{Context, Result, ensure};
use evtchn_replay::recorder::{Run, Tools, arguments};
use evtchn_replay::workspace::stored;
use evtchn_replay::{Excuses, Recording, Table, compare_device};
use tempfile::TempDir;

use super::TWO_LEVEL;
use crate::machine::{Flavour, Machine, System};
use crate::replay::print;

/// The seed of the stored random recordings.
const SEED: u64 = 20;

/// Microseconds that the recorder waits under `evtchn run` for events after a step: long enough for any thread to be scheduled.
const SETTLE_HERE: u32 = 2000;

/// A program of the recorder.
struct Program {
    name: &'static str,
    /// With one vCPU an event that a call raises has arrived when the call returns, so that nothing has to be waited for.
    cpus: u32,
    /// Microseconds that the recorder waits for events after a step.
    settle: u32,
}

const PROGRAMS: [Program; 2] = [
    Program { name: "dev-fixed", cpus: 2, settle: 40_000 },
    Program { name: "dev-random", cpus: 1, settle: 0 },
];

/// Makes and compares all recordings; names what differed.
///
/// # Errors
/// The recorder cannot be built, or the machine did not finish.
pub fn run(flavour: Flavour) -> Result<Vec<String>> {
    let tools = Tools::build()?;
    let mut failed = Vec::new();
    for program in &PROGRAMS {
        let known = Recording::load(&stored(&format!("{}.{}", machine_name(flavour), program.name)))?;
        let fresh = program.record(flavour, &tools, &known)?;
        let ours = tools.record(&fresh, Run { seed: SEED, settle_us: Some(SETTLE_HERE) })?;
        let again = print(&compare_device(&known, &fresh, &Excuses::none()), false)?;
        let here = print(&compare_device(&fresh, &ours, &Excuses::load(Table::Device)?), false)?;
        failed.extend((!again).then(|| format!("{} is not what is stored", program.name)));
        failed.extend((!here).then(|| format!("{} is not that of evtchn run", program.name)));
    }
    Ok(failed)
}

/// How the names of the flavour's stored recordings begin.
fn machine_name(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Bookworm => "xen4.17.7_linux6.1.192_2l",
        Flavour::Sid => "xen4.20.5_linux7.2.13_2l",
    }
}

impl Program {
    /// Has the recorder make the recording `known` once more.
    fn record(&self, flavour: Flavour, tools: &Tools, known: &Recording) -> Result<Recording> {
        let out = TempDir::with_prefix("evtchn-recording-").context("no folder for the recording")?;
        let arguments = arguments(known, SEED)?.join(" ");
        let script =
            format!("ORACLE_SETTLE_US={} ./recorder {arguments} >$OUT/{}.jsonl", self.settle, self.name);
        let machine = Machine::new(flavour, System::Dom0).cpus(self.cpus).kernel_args(TWO_LEVEL);
        let machine = machine.file(&tools.recorder, "/t/recorder").out(out.path());
        let outcome = machine.run(&["sh", "-c", &script])?;
        ensure!(outcome.status == 0, "{}: the recorder failed with status {}", self.name, outcome.status);
        Recording::load(&out.path().join(format!("{}.jsonl", self.name)))
    }
}
