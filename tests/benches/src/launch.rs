// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `evtchn run` costs the programs that it runs, in rounds: in each, the floor, the program under `evtchn run`, and the program natively.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::calls::{self, Times};
use crate::floor::Work;
use crate::report::{Aim, Report, Row};
use crate::spread::{Bursts, Spread};
use crate::{eventfd, floor, identity, pair};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each thing takes its turn.
    pub rounds: usize,
    /// The bursts of one turn.
    pub bursts: Bursts,
    /// How often each program is started.
    pub starts: usize,
}

impl Plan {
    /// The whole measurement, half a minute.
    pub const FULL: Self = Self { rounds: 7, bursts: Bursts { count: 20, calls: 60 }, starts: 30 };
    /// A look, a few seconds.
    pub const QUICK: Self = Self { rounds: 3, bursts: Bursts { count: 5, calls: 40 }, starts: 7 };
}

/// The programs that are measured.
#[derive(Debug)]
pub struct Programs {
    /// `evtchn`.
    pub evtchn: PathBuf,
    /// The binary `probe` of this package.
    pub probe: PathBuf,
}

/// Where the processes of a measurement run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    OneCpu,
    Unpinned,
}

impl Place {
    fn text(self) -> &'static str {
        match self {
            Self::OneCpu => "one CPU",
            Self::Unpinned => "unpinned",
        }
    }
}

/// Measures everything.
///
/// # Errors
/// A program could not be run, or the kernel lacks what is needed.
pub fn measure(programs: &Programs, plan: Plan) -> Result<Report> {
    let mut report = Report::default();
    report.note_load();
    let everywhere = sched_getaffinity(None)?;
    for place in [Place::OneCpu, Place::Unpinned] {
        if place == Place::OneCpu {
            // Children inherit it, so the supervisor and the program share the CPU.
            sched_setaffinity(None, &first_of(&everywhere))?;
        } else {
            sched_setaffinity(None, &everywhere)?;
        }
        let turns = Turns::take(programs, plan)?;
        report.rows.extend(turns.rows(place));
    }
    add_starts(&mut report, programs, plan)?;
    report.note_load();
    Ok(report)
}

fn first_of(cpus: &CpuSet) -> CpuSet {
    let mut one = CpuSet::new();
    if let Some(cpu) = (0..CpuSet::MAX_CPU).find(|&cpu| cpus.is_set(cpu)) {
        one.set(cpu);
    }
    one
}

/// What the rounds brought: bursts, in nanoseconds of a call.
#[derive(Default)]
struct Turns {
    bare: Vec<f64>,
    argument: Vec<f64>,
    event_loop: Vec<f64>,
    everything: Vec<f64>,
    copy: Vec<f64>,
    compare: Vec<f64>,
    ours: Times,
    native: Times,
    pair: Vec<f64>,
    eventfd: Vec<f64>,
}

impl Turns {
    fn take(programs: &Programs, plan: Plan) -> Result<Self> {
        let mut turns = Self::default();
        for _ in 0..plan.rounds {
            turns.round(programs, plan.bursts)?;
        }
        Ok(turns)
    }

    fn round(&mut self, programs: &Programs, bursts: Bursts) -> Result<()> {
        self.bare.extend(floor::time(Work::Bare, bursts)?);
        self.argument.extend(floor::time(Work::Argument, bursts)?);
        self.event_loop.extend(floor::time(Work::EventLoop, bursts)?);
        self.everything.extend(floor::time(Work::Identity, bursts)?);
        let check = identity::time(bursts.longer(4))?;
        self.copy.extend(check.copy);
        self.compare.extend(check.compare);
        add(&mut self.ours, programs.calls(true, bursts)?);
        add(&mut self.native, programs.calls(false, bursts)?);
        self.pair.extend(programs.pair(bursts)?);
        self.eventfd.extend(eventfd::time(bursts)?);
        Ok(())
    }

    fn rows(&self, place: Place) -> Vec<Row> {
        let mut figures = self.floors();
        figures.extend(self.on_device());
        figures.extend(self.anywhere());
        figures.extend(self.pairs());
        let rows = figures.into_iter();
        rows.filter_map(|figure| figure.row(place)).collect()
    }

    /// The floor by its parts, and what finding out the descriptor's identity costs.
    fn floors(&self) -> Vec<Figure<'_>> {
        let beside = |what, ours| Figure::beside_floor(what, ours, &self.argument, Aim::None);
        vec![
            Figure { beside: "bare notification", floor: &self.bare, ..beside(FLOOR, &self.argument) },
            beside("and an event loop", &self.event_loop),
            beside("and the descriptor's identity", &self.everything),
            beside("identity alone, by pidfd_getfd", &self.copy),
            beside("identity alone, by kcmp", &self.compare),
        ]
    }

    fn on_device(&self) -> impl Iterator<Item = Figure<'_>> {
        calls::ON_DEVICE
            .into_iter()
            .map(|name| Figure::beside_floor(name, times(&self.ours, name), &self.argument, Aim::Ratio(1.3)))
    }

    fn anywhere(&self) -> impl Iterator<Item = Figure<'_>> {
        calls::ANYWHERE.into_iter().map(|name| Figure {
            what: name,
            ours: times(&self.ours, name),
            beside: "native",
            floor: times(&self.native, name),
            floors: 1.0,
            // The one call that names a path is stopped; programs pay for that when they start.
            aim: if name.starts_with("open") { Aim::None } else { Aim::More(50.0) },
        })
    }

    fn pairs(&self) -> [Figure<'_>; 2] {
        let trapped = Figure::beside_floor(
            "notify + read + unmask, both ways",
            &self.pair,
            &self.argument,
            Aim::Ratio(1.3),
        );
        let trapped = Figure { beside: "6 notifications", floors: 6.0, ..trapped };
        let eventfd = Figure {
            beside: "eventfd, both ways",
            floor: &self.eventfd,
            floors: 1.0,
            aim: Aim::None,
            ..trapped
        };
        [trapped, eventfd]
    }
}

/// What figures of trapped calls are held against.
const FLOOR: &str = "notification, argument read";

/// The bursts of a row.
#[derive(Clone, Copy)]
struct Figure<'a> {
    what: &'a str,
    ours: &'a [f64],
    beside: &'a str,
    floor: &'a [f64],
    /// How many times the floor is paid.
    floors: f64,
    aim: Aim,
}

impl<'a> Figure<'a> {
    fn beside_floor(what: &'a str, ours: &'a [f64], floor: &'a [f64], aim: Aim) -> Self {
        Self { what, ours, beside: FLOOR, floor, floors: 1.0, aim }
    }

    /// `None` if one of the two could not be measured here.
    fn row(self, place: Place) -> Option<Row> {
        let what = format!("{}, {}", self.what, place.text());
        let floor = Spread::of(self.floor)?.times(self.floors);
        Some(Row::time(&what, Spread::of(self.ours)?, self.beside, floor, self.aim))
    }
}

fn add(to: &mut Times, more: Times) {
    for (name, times) in more {
        to.entry(name).or_default().extend(times);
    }
}

fn times<'a>(all: &'a Times, name: &str) -> &'a [f64] {
    all.get(name).map_or(&[], Vec::as_slice)
}

impl Programs {
    /// The times of the calls in a program, under `evtchn run` or natively.
    fn calls(&self, ours: bool, bursts: Bursts) -> Result<Times> {
        let mut command = if ours { self.under_evtchn() } else { Command::new(&self.probe) };
        if ours {
            command.arg(&self.probe);
        }
        answer(command.arg("calls").args(numbers(bursts)))
    }

    /// The times of round trips between two programs.
    fn pair(&self, bursts: Bursts) -> Result<Vec<f64>> {
        let folder = Folder::new()?;
        let meet = folder.0.join("port");
        let mut command = Command::new(&self.evtchn);
        command.args(["run", "--domain", &pair::PONG.0.to_string(), "--"]);
        command.arg(&self.probe).arg("pong").arg(&meet);
        command.args(["--and", "--domain", &pair::PING.0.to_string(), "--"]);
        command.arg(&self.probe).arg("ping").arg(&meet);
        answer(command.args(numbers(bursts)))
    }

    fn under_evtchn(&self) -> Command {
        let mut command = Command::new(&self.evtchn);
        command.args(["run", "--"]);
        command
    }
}

fn numbers(bursts: Bursts) -> [String; 2] {
    [bursts.count, bursts.calls].map(|number| number.to_string())
}

/// Runs a probe and parses what it prints.
fn answer<T: serde::de::DeserializeOwned>(command: &mut Command) -> Result<T> {
    let run = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(run.status.success(), "{command:?}: {}", run.status);
    serde_json::from_slice(&run.stdout).with_context(|| format!("the output of {command:?}"))
}

/// A folder of our own that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("evtchn-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What remains is in the system's folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts real programs, natively and under `evtchn run` in turn.
fn add_starts(report: &mut Report, programs: &Programs, plan: Plan) -> Result<()> {
    let mut measured: Vec<(&str, PathBuf, Vec<&str>)> = vec![("start-up of true", "true".into(), vec![])];
    match python() {
        Some(python) => measured.push(("start-up of python3 -c pass", python, vec!["-c", "pass"])),
        None => report.notes.push("no python3: its start-up was not measured".into()),
    }
    for (what, program, arguments) in measured {
        let (mut ours, mut native) = (Vec::new(), Vec::new());
        for _ in 0..plan.starts {
            ours.push(start(programs.under_evtchn().arg(&program).args(&arguments))?);
            native.push(start(Command::new(&program).args(&arguments))?);
        }
        if let (Some(ours), Some(native)) = (Spread::of(&ours), Spread::of(&native)) {
            let row = Row::time(what, ours, "native", native, Aim::None);
            report.rows.push(row);
        }
    }
    Ok(())
}

/// The interpreter itself: what is in the path may be a script that looks for it.
fn python() -> Option<PathBuf> {
    let print = "import sys; print(sys.executable, end='')";
    let run = Command::new("python3").args(["-c", print]).output();
    let run = match run {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        run => run.ok()?,
    };
    let path = String::from_utf8(run.stdout).ok()?;
    (run.status.success() && Path::new(&path).is_file()).then(|| path.into())
}

/// Nanoseconds from the start of a program to its end.
fn start(command: &mut Command) -> Result<f64> {
    let begin = Instant::now();
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {command:?}"))?;
    let time = begin.elapsed().as_nanos() as f64;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(time)
}
