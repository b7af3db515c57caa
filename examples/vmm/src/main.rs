// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small VMM that boots Linux, unmodified, as a guest of Xen: KVM has the processor, and everything that event channels do
//! is answered by `evtchn-engine`, the FIFO ABI included. One or two guests, whose domains are connected by event
//! channels.
//!
//! In the order in which it may be read:
//!
//! * `guest.rs`: one guest: machine, memory, devices, domain; `boot.rs` and `mptable.rs`: how its kernel begins;
//! * `vcpu.rs`: a vCPU and its exits; `gate.rs`: how vCPUs are held;
//! * `hypercalls.rs`: the engine's hypercalls, and the few others that Linux makes;
//! * `vmm.rs`: what the engine asks of us; killing a guest, and saving and restoring the engine's state under traffic;
//! * `devices.rs`: the serial line, and ports for experiments; `report.rs`: what is told at the end.
//!
//! It needs a KVM with Xen support (`KVM_CAP_XEN_HVM`); `cargo xtask guest` runs it in an emulated machine that has it.

mod boot;
mod devices;
mod gate;
mod guest;
mod hypercalls;
mod map;
mod mptable;
mod options;
mod poll;
mod ports;
mod report;
mod routes;
mod vcpu;
mod vmm;

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use evtchn_abi::{DomId, VcpuId};
use evtchn_engine::{Delivery, DomainConfig, Engine};
use evtchn_kvm::{XenCapabilities, install_kick_handler};
use kvm_ioctls::{Kvm, VcpuFd};
use parking_lot::Mutex;

use devices::Board;
use guest::Guest;
use options::Options;
use vcpu::{End, Vcpu};
use vmm::{News, Vmm};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("evtchn-vmm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let kvm = Kvm::new().context("/dev/kvm")?;
    if options.check {
        return check(&kvm);
    }
    let kernel = options.kernel()?;
    ensure!(kernel.is_file(), "{}: no such file", kernel.display());
    install_kick_handler()?;
    let board = Board::default();
    let (mut guests, mut fds) = (Vec::new(), Vec::new());
    for id in (1..=options.guests.into()).map(DomId) {
        let (guest, vcpus) = Guest::new(&kvm, id, options, &board)?;
        guests.push(guest);
        fds.push(vcpus);
    }
    let (news, heard) = channel();
    let (timers, wished, failure) = Default::default();
    let vmm = Vmm { guests, timers, news: Mutex::new(news), wished, failure };
    let engine = Engine::with_level(vmm, options.level());
    // There is a domain 0 on every Xen. Ours is the VMM itself, and has no ports.
    let back_end = DomainConfig { delivery: Delivery::Sink, ..DomainConfig::dom0(1) };
    engine.create_domain(DomId(0), back_end)?;
    for guest in &engine.hooks().guests {
        engine.create_domain(guest.domain.id(), Guest::config(options))?;
    }
    let ends = thread::scope(|scope| {
        start(scope, &engine, fds);
        let ends = watch(&engine, &heard, options);
        engine.hooks().timers.stop();
        ends
    })?;
    tell(&engine, options, &ends)?;
    match engine.hooks().failure.get() {
        Some(error) => Err(*error).context("in a hook"),
        None => Ok(()),
    }
}

/// Says what this machine's KVM can do.
fn check(kvm: &Kvm) -> Result<()> {
    let capabilities = XenCapabilities::of(&kvm.create_vm().context("KVM_CREATE_VM")?);
    println!("KVM_CAP_XEN_HVM is {:#x}", capabilities.bits());
    if !capabilities.is_sufficient() {
        return Err(evtchn_kvm::Error::NoXen)
            .context("only guests that call by a port can run here (--ports); Linux cannot");
    }
    Ok(())
}

/// Starts a thread for each vCPU, and one for their deadlines.
fn start<'s>(scope: &'s Scope<'s, '_>, engine: &'s Engine<Vmm>, fds: Vec<Vec<VcpuFd>>) {
    for (guest, fds) in engine.hooks().guests.iter().zip(fds) {
        for (number, fd) in (0..).map(VcpuId).zip(fds) {
            scope.spawn(move || {
                let end = Vcpu { engine, guest, number, fd }.run();
                if !matches!(end, Ok(End::SentHome)) {
                    guest.gate.leave();
                    engine.hooks().tell(News::Ended(guest.domain.id(), end));
                }
            });
        }
    }
    scope.spawn(|| {
        let vmm = engine.hooks();
        let now = |domain| vmm.guest(domain).and_then(|guest| guest.domain.now().ok()).unwrap_or(u64::MAX);
        // A domain that is gone has no deadlines any more.
        vmm.timers.run(now, |domain, vcpu, now| {
            let _ = engine.deadline_passed(domain, vcpu, now);
        });
    });
}

/// Waits until all guests have ended, and does what they wish meanwhile; says how they ended. At the end all are gone, so that
/// their threads end, too.
fn watch(engine: &Engine<Vmm>, heard: &Receiver<News>, options: &Options) -> Result<Vec<(DomId, End)>> {
    let ends = attend(engine, heard, options);
    let guests = &engine.hooks().guests;
    guests.iter().try_for_each(|guest| vmm::kill(engine, guest.domain.id()))?;
    ends
}

fn attend(engine: &Engine<Vmm>, heard: &Receiver<News>, options: &Options) -> Result<Vec<(DomId, End)>> {
    let limit = Duration::from_secs(options.timeout);
    let deadline = Instant::now() + limit;
    let mut ends = Vec::new();
    while ends.len() < engine.hooks().guests.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        // Guests that always have news do not run longer for it.
        let news = if left.is_zero() { Err(RecvTimeoutError::Timeout) } else { heard.recv_timeout(left) };
        let (domain, end) = match news {
            Ok(News::Ended(domain, end)) => (domain, end),
            Ok(News::Snapshot) => {
                let size = vmm::snapshot(engine).context("saving and restoring")?;
                eprintln!("evtchn-vmm: saved and restored the engine's state, {size} bytes");
                continue;
            }
            Err(_) => bail!("not finished within {} s", limit.as_secs()),
        };
        vmm::kill(engine, domain)?;
        // A guest that breaks its machine ends alone. Of several vCPUs more than one may say so.
        let end = end.unwrap_or_else(|error| {
            eprintln!("evtchn-vmm: guest {}: {error:#}", domain.0);
            End::Broken
        });
        if ends.iter().all(|(known, _)| *known != domain) {
            ends.push((domain, end));
        }
        if options.main == Some(domain.0) {
            break;
        }
    }
    Ok(ends)
}

/// Prints the report.
fn tell(engine: &Engine<Vmm>, options: &Options, ends: &[(DomId, End)]) -> Result<()> {
    let (mut reports, mut failed) = (Vec::new(), Vec::new());
    for guest in &engine.hooks().guests {
        let end = ends.iter().find(|(domain, _)| *domain == guest.domain.id());
        let end = end.map_or(End::Killed, |(_, end)| *end);
        reports.push(report::of(guest, &format!("{end:?}").to_lowercase()));
        let status = *guest.status.lock();
        let counts = options.main.is_none_or(|main| main == guest.domain.id().0);
        let is_well = match end {
            End::Broken => false,
            End::Off => status == Some(0),
            End::PoweredOff => status.unwrap_or(0) == 0,
            End::Killed | End::SentHome => true,
        };
        if counts && !is_well {
            failed.push(format!("guest {} ended with status {status:?}", guest.domain.id().0));
        }
    }
    let text = serde_json::to_string_pretty(&reports)?;
    match &options.report {
        Some(path) => std::fs::write(path, text).with_context(|| path.display().to_string())?,
        None => eprintln!("{text}"),
    }
    ensure!(failed.is_empty(), "{}", failed.join(", "));
    Ok(())
}
