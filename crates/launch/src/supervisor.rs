// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process that serves the programs: one thread, one event loop.
//!
//! The listener is only asked for a call when it is readable. Then asking does not block, also if that call has been interrupted
//! meanwhile: the kernel counts the calls that were reported, and answers ENOENT for one that is gone. An idle supervisor is woken by nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use evtchn_abi::{DomId, Virq};
use evtchn_host::Host;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use crate::front::{self, Ending, Report, ending};
use crate::signals::{ENDING, Inherited};
use crate::spawn::{Launched, Outcome, spawn};
use crate::sys::{self, Change};
use crate::trapped::{Handles, Trapped};
use crate::warnings::Warnings;
use crate::world::World;
use crate::{Config, LaunchError, filter, limits, processes, signals};

/// How long programs in the background have between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// How long until what has survived SIGKILL by appearing too late gets its own.
const AGAIN: Duration = Duration::from_millis(100);

/// What a descriptor of the event loop is; listeners have their number.
const SIGNALS: u64 = u64::MAX;
const FRONT: u64 = u64::MAX - 1;
const NATIVE: u64 = u64::MAX - 2;

/// Starts the programs and serves them until the last process is gone. `streams` are the descriptors that this process has inherited.
pub fn run(
    config: &Config,
    inherited: &Inherited,
    streams: &[u32],
    front: &OwnedFd,
) -> Result<Ending, LaunchError> {
    sys::become_subreaper()?;
    let range = limits::descriptor_range();
    let program = filter::program(&range);
    let descriptors = limits::raise_descriptors();
    let host = Host::new(config.levels, config.abi);
    let mut domains = Vec::new();
    for wanted in &config.programs {
        domains.push(host.join(wanted.domain, config.vcpus)?);
    }
    let world =
        World::new(host, range, Warnings::new(config.prefix.clone())).map_err(std::io::Error::from)?;
    let mut supervisor = Supervisor::new(world, front)?;
    for (wanted, &domain) in config.programs.iter().zip(&domains) {
        match spawn(&wanted.argv, &program, &|| {
            inherited.restore();
            limits::restore_descriptors(descriptors);
        }) {
            Ok(Outcome::Launched(launched)) => supervisor.add(wanted.argv.first(), launched, domain)?,
            Ok(Outcome::Killed(signal)) => {
                processes::kill_descendants();
                return Ok(Ending::Killed(signal));
            }
            Err(error) => {
                processes::kill_descendants();
                return Err(error);
            }
        }
        supervisor.schedule(domain, &wanted.virqs);
    }
    limits::give_up(streams);
    supervisor.serve()
}

struct Served {
    listener: OwnedFd,
    domain: DomId,
}

/// A program that was started.
struct Started {
    name: OsString,
    domain: DomId,
    process: i32,
}

/// A VIRQ to raise again and again.
struct Planned {
    at: Instant,
    every: Duration,
    domain: DomId,
    virq: Virq,
}

struct Supervisor<'a> {
    world: World,
    handles: Handles,
    front: &'a OwnedFd,
    signals: OwnedFd,
    events: OwnedFd,
    /// The listeners, by the order of the programs; `None` once nobody is left under the filter.
    served: Vec<Option<Served>>,
    programs: Vec<Started>,
    living: BTreeSet<i32>,
    /// The signals that have arrived here: those of a terminal have reached the programs, too, the others were passed on.
    arrived: BTreeSet<i32>,
    ending: Option<Ending>,
    planned: Vec<Planned>,
    kill_at: Option<Instant>,
}

impl<'a> Supervisor<'a> {
    fn new(world: World, front: &'a OwnedFd) -> Result<Self, LaunchError> {
        let signals = signals::descriptor()?;
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from)?;
        let watch = |fd, id| epoll::add(&events, fd, EventData::new_u64(id), EventFlags::IN);
        watch(signals.as_fd(), SIGNALS).map_err(std::io::Error::from)?;
        watch(front.as_fd(), FRONT).map_err(std::io::Error::from)?;
        for source in world.files.sources() {
            watch(source, NATIVE).map_err(std::io::Error::from)?;
        }
        Ok(Self {
            world,
            handles: Handles::default(),
            front,
            signals,
            events,
            served: Vec::new(),
            programs: Vec::new(),
            living: BTreeSet::new(),
            arrived: BTreeSet::new(),
            ending: None,
            planned: Vec::new(),
            kill_at: None,
        })
    }

    fn add(&mut self, name: Option<&OsString>, launched: Launched, domain: DomId) -> Result<(), LaunchError> {
        let id = EventData::new_u64(self.served.len() as u64);
        epoll::add(&self.events, &launched.listener, id, EventFlags::IN).map_err(std::io::Error::from)?;
        self.served.push(Some(Served { listener: launched.listener, domain }));
        let name = name.cloned().unwrap_or_default();
        self.programs.push(Started { name, domain, process: launched.process });
        self.living.insert(launched.process);
        Ok(())
    }

    fn schedule(&mut self, domain: DomId, virqs: &[crate::PeriodicVirq]) {
        let now = Instant::now();
        self.planned.extend(virqs.iter().map(|&crate::PeriodicVirq { virq, every }| Planned {
            at: now + every,
            every,
            domain,
            virq,
        }));
    }

    fn serve(&mut self) -> Result<Ending, LaunchError> {
        loop {
            if let (Some(ending), true) = (self.ending, self.served.iter().all(Option::is_none)) {
                return Ok(ending);
            }
            let mut ready = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 16];
            let timeout = self.timeout();
            match epoll::wait(&self.events, &mut ready[..], timeout.as_ref()) {
                Ok(count) => self.dispatch(&ready[..count]),
                Err(Errno::INTR) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
            self.run_due();
        }
    }

    /// Native closes and reads, signals and the like come before calls.
    fn dispatch(&mut self, ready: &[epoll::Event]) {
        let is_listener = |event: &&epoll::Event| event.data.u64() < NATIVE;
        for event in ready.iter().filter(|event| !is_listener(event)) {
            match event.data.u64() {
                SIGNALS => self.take_signals(),
                FRONT => self.front_has_died(),
                _ => self.world.files.catch_up(),
            }
        }
        for event in ready.iter().filter(is_listener) {
            self.serve_listener(event.data.u64() as usize, event.flags);
        }
    }

    /// Receives one call and answers it, or notes that nobody is left to make one.
    fn serve_listener(&mut self, index: usize, flags: EventFlags) {
        let Some(Some(Served { listener, domain })) = self.served.get(index) else { return };
        if !flags.contains(EventFlags::IN) {
            return self.nobody_left(index);
        }
        // The call may have gone away. Then the next round looks again.
        let Ok(notification) = sys::receive(listener.as_fd()) else { return };
        let mut call = Trapped::new(listener.as_fd(), notification, &mut self.handles);
        self.world.answer(&mut call, *domain);
    }

    /// The last process under a filter is gone: its domain loses a member.
    fn nobody_left(&mut self, index: usize) {
        let Some(served) = self.served.get_mut(index).and_then(Option::take) else { return };
        self.world.leave(served.domain);
    }

    fn take_signals(&mut self) {
        while let Some(arrived) = sys::next_signal(self.signals.as_fd()) {
            let signal = arrived.signal;
            self.arrived.insert(signal);
            match signal {
                libc::SIGCHLD => self.reap(),
                libc::SIGCONT => self.signal_programs(signal),
                // Daemons are not reached by the terminal that this one is.
                signal if ENDING.contains(&signal) && self.living.is_empty() => {
                    processes::signal_descendants(libc::SIGTERM);
                }
                signal if signals::is_passed_on(arrived) => self.signal_programs(signal),
                _ => {}
            }
        }
    }

    /// Sends a signal to the programs; to whatever they left behind if they have ended.
    fn signal_programs(&self, signal: i32) {
        if self.living.is_empty() {
            return processes::signal_descendants(signal);
        }
        for &process in &self.living {
            // It may have ended just now.
            let _ = sys::kill(process, signal);
        }
    }

    fn reap(&mut self) {
        while let Ok(Some((process, change))) = sys::child_change() {
            let is_foreground = self.programs.last().is_some_and(|program| program.process == process);
            match (change, ending(change)) {
                (Change::Stopped(_), _) if is_foreground => Report::Stopped.send(self.front),
                (Change::Continued, _) if is_foreground => front::go_on(),
                (_, Some(ending)) => {
                    if self.living.remove(&process) {
                        self.tell_of_failure(process, ending, is_foreground);
                    }
                    if is_foreground {
                        self.foreground_ended(ending);
                    }
                }
                _ => {}
            }
        }
    }

    /// Says that a program has crashed, or that one beside the foreground one has failed first: the others may wait for it in vain.
    /// A program that a signal has ended which the user sent to all is no news, nor what happens when all are asked to end.
    fn tell_of_failure(&self, process: i32, ending: Ending, is_foreground: bool) {
        let is_news = !is_foreground && self.ending.is_none();
        let how = match ending {
            Ending::Exited(status @ 1..) if is_news => format!("ended with status {status}"),
            Ending::Killed(signal)
                if signals::is_crash(signal) || is_news && !self.arrived.contains(&signal) =>
            {
                format!("was killed by {}", signals::name(signal))
            }
            _ => return,
        };
        if let Some(program) = self.programs.iter().find(|program| program.process == process) {
            let (name, domain) = (program.name.display(), program.domain.0);
            self.world.warnings.tell(&format!("{name} (domain {domain}, process {process}) {how}"));
        }
    }

    /// Programs that were started beside the foreground one end with it. What it leaves behind alone (a daemon) goes on.
    fn foreground_ended(&mut self, ending: Ending) {
        self.ending = Some(ending);
        if self.programs.len() > 1 {
            processes::signal_descendants(libc::SIGTERM);
            self.kill_at = Some(Instant::now() + GRACE);
        } else if std::io::stderr().is_terminal() && !processes::descendants().is_empty() {
            let warnings = &self.world.warnings;
            warnings.tell("the program has ended; what it left behind is served on (Ctrl-C ends it)");
        }
    }

    /// The programs end with the process that stood for them. Nobody is left to be told.
    fn front_has_died(&mut self) {
        processes::kill_descendants();
        self.served.clear();
        self.ending = Some(Ending::Killed(libc::SIGKILL));
    }

    fn timeout(&self) -> Option<Timespec> {
        let next = self.planned.iter().map(|planned| planned.at).chain(self.kill_at).min()?;
        Timespec::try_from(next.saturating_duration_since(Instant::now())).ok()
    }

    fn run_due(&mut self) {
        if self.planned.is_empty() && self.kill_at.is_none() {
            return;
        }
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            // Again, as long as there is somebody: processes may appear faster than they are found.
            self.kill_at = Some(now + AGAIN);
            processes::signal_descendants(libc::SIGKILL);
        }
        for planned in &mut self.planned {
            if planned.at <= now {
                // Periods that were missed are not made up for.
                planned.at = now + planned.every;
                self.world.raise_virq(planned.domain, planned.virq);
            }
        }
    }
}
