// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorder in domain 0: what it records there, against what is stored, and against what it records under `evtchn run`.

use anyhow::{Context, Result, ensure};
use evtchn_replay::recorder::{Run, Tools, arguments};
use evtchn_replay::workspace::stored;
use evtchn_replay::{Excuses, Recording, Report, Table, compare_device};
use tempfile::TempDir;

use super::{Abi, Finding};
use crate::machine::{Flavour, Machine, System};

/// The seed of the stored random recordings.
const SEED: u64 = 20;
/// Microseconds that the recorder waits under `evtchn run` for events after a step: long enough for any thread to be scheduled.
const SETTLE_HERE: u32 = 2000;

/// The recorder's programs.
const PROGRAMS: [&str; 2] = ["dev-fixed", "dev-random"];
/// Linux takes one of the domain's two vCPUs. Then an event that a call raises has arrived when the call returns, so that the order
/// is exact and nothing has to be waited for.
const ONE_CPU: &str = "maxcpus=1";

/// The recorder, ready to run in a machine and under `evtchn run`.
pub struct Recordings {
    flavour: Flavour,
    tools: Tools,
    excuses: Excuses,
}

impl Recordings {
    /// Builds the recorder and `evtchn`.
    ///
    /// # Errors
    /// A compiler is missing or fails, or docs/compat.md cannot be read.
    pub fn build(flavour: Flavour) -> Result<Self> {
        Ok(Self { flavour, tools: Tools::build()?, excuses: Excuses::load(Table::Device)? })
    }

    /// Makes all recordings in one machine and compares them.
    ///
    /// # Errors
    /// The machine did not finish, or the recorder failed.
    pub fn run(&self) -> Result<Vec<Finding>> {
        let known = PROGRAMS
            .map(|program| Recording::load(&stored(&format!("{}.{program}", machine_name(self.flavour)))));
        let known = known.into_iter().collect::<Result<Vec<_>>>()?;
        let fresh = self.record(&known)?;
        known.iter().zip(fresh).map(|(known, fresh)| self.compare(known, fresh)).collect()
    }

    fn compare(&self, known: &Recording, mut fresh: Recording) -> Result<Finding> {
        let program = &known.meta.mode;
        fresh.name = format!("evtchn run: {program}");
        fresh.meta.vcpus = known.meta.vcpus;
        let ours = self.tools.record(&fresh, Run { seed: SEED, settle_us: Some(SETTLE_HERE) })?;
        // In the first report "ours" are the machine's values.
        let again = compare_device(known, &fresh, &Excuses::none());
        let here = compare_device(&fresh, &ours, &self.excuses);
        let passed = [&again, &here].into_iter().all(|report: &Report| report.failure().is_none());
        let name = format!("the recorder on {}, {program}", self.flavour);
        let summary = format!("{} steps as they are stored, and as under evtchn run", again.compared);
        Ok(Finding { name, summary, details: format!("{again}\n{here}"), passed })
    }

    /// Has the recorder make the recordings `known` once more.
    fn record(&self, known: &[Recording]) -> Result<Vec<Recording>> {
        let out = TempDir::with_prefix("evtchn-recordings-").context("no folder for the recordings")?;
        let machine = Machine::new(self.flavour, System::Dom0);
        let machine = machine.kernel_args(Abi::TwoLevel.kernel_args()).kernel_args(ONE_CPU);
        let machine = machine.file(&self.tools.recorder, "/t/recorder").out(out.path()).capture();
        let mut script = "set -e; export ORACLE_SETTLE_US=0\n".to_owned();
        for known in known {
            let line =
                format!("./recorder {} >$OUT/{}.jsonl\n", arguments(known, SEED)?.join(" "), known.meta.mode);
            script.push_str(&line);
        }
        let outcome = machine.run(&["sh", "-c", &script])?;
        ensure!(
            outcome.status == 0,
            "the recorder failed with status {}: {}",
            outcome.status,
            outcome.stderr
        );
        let load =
            |known: &Recording| Recording::load(&out.path().join(format!("{}.jsonl", known.meta.mode)));
        known.iter().map(load).collect()
    }
}

/// How the names of the flavour's stored recordings begin.
fn machine_name(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::Bookworm => "xen4.17.7_linux6.1.192_2l",
        Flavour::Sid => "xen4.20.5_linux7.2.13_2l",
    }
}
