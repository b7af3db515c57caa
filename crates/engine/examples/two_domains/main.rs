// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two domains on the engine, in a VMM that is complete but for the processor: with memory, a vCPU each, hypercalls,
//! upcalls, polls with deadlines, and an orderly end. One with a processor, which boots Linux, is `examples/vmm` of the repository.
//!
//! ```text
//! cargo run -p evtchn-engine --example two_domains
//! ```
//!
//! * `memory.rs`: guest memory, as pages that are shared with the engine and as bytes for hypercall arguments;
//! * `vcpu.rs`: a vCPU that sleeps and is woken, and what a VMM does on a hypercall's VM exit;
//! * `guests.rs`: what runs in the domains. A real guest is machine code; these are functions that make hypercalls.
//!
//! Here is the VMM itself: what it keeps, and what it answers to the engine.

mod guests;
mod memory;
mod vcpu;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{process, thread};

use evtchn_abi::{DomId, Gfn, VcpuId};
use evtchn_engine::{DomainConfig, DomainKind, Engine, Hooks, OpError, Upcall};
use evtchn_sync::HeapPage;

use memory::Memory;
use vcpu::{Cpu, Sleeper};

const DISK: DomId = DomId(1);
const CLIENT: DomId = DomId(2);
const V0: VcpuId = VcpuId(0);

/// What the VMM keeps for a domain. Each has one vCPU.
struct Machine {
    memory: Memory,
    vcpu: Sleeper,
    upcalls: AtomicU32,
}

/// The embedder of the engine.
struct Vmm {
    machines: [Machine; 2],
    /// When the machines were switched on: system time 0.
    start: Instant,
    /// How often a long operation asked whether it should pause, and how often it was continued after one.
    questions: AtomicU32,
    continued: AtomicU32,
}

impl Vmm {
    fn new() -> Self {
        let machine =
            |()| Machine { memory: Memory::new(8), vcpu: Sleeper::default(), upcalls: AtomicU32::new(0) };
        let [questions, continued] = [0, 0].map(AtomicU32::new);
        Self { machines: [(), ()].map(machine), start: Instant::now(), questions, continued }
    }

    fn machine(&self, domain: DomId) -> &Machine {
        &self.machines[usize::from(domain.0) - 1]
    }
}

/// What the engine asks of us. No lock of the engine is held, except in `pin`.
impl Hooks for Vmm {
    type Page = Arc<HeapPage>;

    /// A VMM injects the guest's callback vector here, and gets the vCPU out of the guest or out of its sleep.
    fn deliver(&self, domain: DomId, _: VcpuId, _: Upcall) {
        let machine = self.machine(domain);
        machine.upcalls.fetch_add(1, Relaxed);
        machine.vcpu.wake();
    }

    fn wake_poller(&self, domain: DomId, _: VcpuId) {
        self.machine(domain).vcpu.wake();
    }

    /// A guest with the FIFO ABI shares a frame of its memory. It names any number it likes.
    fn pin(&self, domain: DomId, gfn: Gfn) -> Option<Arc<HeapPage>> {
        self.machine(domain).memory.frame(gfn)
    }

    /// A VMM looks whether the vCPU has an interrupt to take. Here every second question is answered with yes.
    fn preempt(&self, _: DomId) -> bool {
        self.questions.fetch_add(1, Relaxed).is_multiple_of(2)
    }
}

/// Creates a domain, whose shared_info is where our guests expect it.
fn create(engine: &Engine<Vmm>, domain: DomId) -> Result<(), OpError> {
    engine.create_domain(domain, DomainConfig { kind: DomainKind::Hvm, ..DomainConfig::default() })?;
    let shared_info = engine.hooks().machine(domain).memory.frame(guests::SHARED_INFO);
    engine.set_shared_info(domain, shared_info)?;
    Ok(())
}

/// Destroys a domain; afterwards nobody but the VMM has its memory.
fn destroy(engine: &Engine<Vmm>, domain: DomId) -> Result<(), OpError> {
    let shared_info = engine.destroy_domain(domain)?;
    assert!(shared_info.is_some(), "it is ours again");
    drop(shared_info);
    assert!(engine.hooks().machine(domain).memory.is_unshared());
    Ok(())
}

/// If an event were lost, a guest would sleep for ever.
fn watchdog() {
    thread::sleep(Duration::from_secs(60));
    eprintln!("two_domains: the guests take too long: an event was lost, or one of them has panicked");
    process::exit(1);
}

fn main() -> Result<(), OpError> {
    let engine = Engine::new(Vmm::new());
    create(&engine, DISK)?;
    create(&engine, CLIENT)?;
    thread::spawn(watchdog);

    // In a Xen system the two would tell each other their ports by way of xenstore.
    let (to_client, from_disk) = mpsc::channel();
    let (to_disk, from_client) = mpsc::channel();
    thread::scope(|scope| {
        let cpu = |domain| Cpu { engine: &engine, domain };
        scope.spawn(move || guests::disk(&cpu(DISK), &to_client, &from_client));
        scope.spawn(move || guests::client(&cpu(CLIENT), &from_disk, &to_disk));
    });

    let vmm = engine.hooks();
    let upcalls = [DISK, CLIENT].map(|domain| vmm.machine(domain).upcalls.load(Relaxed));
    let continued = vmm.continued.load(Relaxed);
    assert!(upcalls[0] > 0 && upcalls[1] == 1 && continued > 0, "{upcalls:?} {continued}");
    println!(
        "vmm:    {} and {} upcalls; the disk's reset was continued {continued} times",
        upcalls[0], upcalls[1]
    );

    engine.validate().expect("the engine's own invariants hold");
    destroy(&engine, CLIENT)?;
    destroy(&engine, DISK)?;
    println!("vmm:    both domains are gone, and all of their memory is ours again");
    Ok(())
}
