// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel of one domain, as far as event channels are concerned: it holds the ports that Linux holds, takes
//! upcalls, and passes events on to the device files that have the ports.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use evtchn_abi::{DomId, Errno, Layout, Port, VcpuId, Virq};
use evtchn_device::{Binding, Fired, Kind};
use evtchn_engine::{DomainConfig, OpError};
use evtchn_guest::{SelfNotify, TwoLevel, Vcpu};
use evtchn_sync::HeapPage;
use parking_lot::RwLock;

use crate::file::File;
use crate::machine::Machine;

/// Virtual interrupts that Linux binds on vCPU 0 of domain 0, with the two-level ABI: timer, debug, console, processors, machine checks.
const DOM0_VIRQS: [Virq; 5] = [Virq::TIMER, Virq::DEBUG, Virq::CONSOLE, Virq::PCPU_STATE, Virq::ARCH_0];
/// Those that it binds on every other vCPU of domain 0.
const DOM0_VCPU_VIRQS: [Virq; 2] = [Virq::TIMER, Virq::DEBUG];
/// What it binds on every vCPU of any other domain.
const GUEST_VIRQS: [Virq; 1] = [Virq::TIMER];

/// The kernel of one domain.
pub struct Kernel {
    domain: DomId,
    guest: TwoLevel<Arc<HeapPage>, Box<[Vcpu]>>,
    /// Who uses each bound port. Held for reading while a handler runs, so whoever takes a user away waits for it.
    users: RwLock<HashMap<Port, Vec<User>>>,
    /// The port that the kernel keeps for the store daemon; only in domain 0.
    store_port: Option<Port>,
    upcalls: Box<[Upcall]>,
    /// Whether the domain still runs. A file that outlives it must not touch a later domain with the same id.
    running: RwLock<bool>,
}

/// Who uses a port.
enum User {
    /// The kernel itself.
    Kernel,
    /// An open device file.
    File(Arc<File>, Arc<Binding>),
}

/// One vCPU's upcall: runs on one thread at a time, and again if there was news meanwhile.
#[derive(Default)]
struct Upcall {
    /// How many times it was called and not yet taken account of. Who raises it from 0 runs it.
    calls: AtomicUsize,
}

impl Kernel {
    /// Creates a domain and starts its kernel.
    pub fn boot(machine: &Machine, domain: DomId, vcpus: u32) -> Result<Arc<Self>, Errno> {
        let is_dom0 = domain == DomId(0);
        let config = if is_dom0 { DomainConfig::dom0(vcpus) } else { DomainConfig::guest(vcpus) };
        let engine = &machine.engine;
        engine.create_domain(domain, config).map_err(|error| error.errno())?;
        let page = Arc::new(HeapPage::new());
        let states = (0..vcpus).map(|_| Vcpu::new()).collect();
        let guest = TwoLevel::new(Arc::clone(&page), &Layout::X86_64, SelfNotify::Hypercall, states);
        // A kernel masks everything before it lets events in.
        guest.mask_all();
        engine.set_shared_info(domain, Some(page)).map_err(|error| error.errno())?;
        let mut users = HashMap::new();
        for (virq, vcpu) in kernel_virqs(is_dom0, vcpus) {
            let port = engine.bind_virq(domain, virq, vcpu).map_err(|error| error.errno())?;
            guest.bind_to_vcpu(port, vcpu);
            users.insert(port, vec![User::Kernel]);
        }
        let store_port = if is_dom0 { Some(Self::make_store_port(machine, domain)?) } else { None };
        if let Some(port) = store_port {
            users.insert(port, vec![User::Kernel]);
        }
        let ports: Vec<Port> = users.keys().copied().collect();
        let upcalls = (0..vcpus).map(|_| Upcall::default()).collect();
        let kernel = Arc::new(Self {
            domain,
            guest,
            users: RwLock::new(users),
            store_port,
            upcalls,
            running: RwLock::new(true),
        });
        machine.engine.hooks().insert(Arc::clone(&kernel));
        for port in ports {
            kernel.unmask(machine, port);
        }
        Ok(kernel)
    }

    fn make_store_port(machine: &Machine, domain: DomId) -> Result<Port, Errno> {
        machine.engine.alloc_unbound(domain, DomId::SELF, DomId::SELF).map_err(|error| error.errno())
    }

    /// Whose kernel this is.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// The port that the kernel keeps for the store daemon.
    pub fn store_port(&self) -> Option<Port> {
        self.store_port
    }

    /// How many port numbers the kernel can handle.
    pub fn usable_ports(&self) -> u32 {
        self.guest.nr_channels()
    }

    /// Makes a hypercall, which fails with ESRCH once the domain has ended.
    pub fn hypercall<T>(&self, call: impl FnOnce() -> Result<T, OpError>) -> Result<T, Errno> {
        let running = self.running.read();
        if !*running {
            return Err(Errno::ESRCH);
        }
        call().map_err(|error| error.errno())
    }

    /// The domain ends: no hypercall of its kernel is under way any more, and none comes.
    pub fn stop(&self) {
        *self.running.write() = false;
    }

    /// Lets a port's events in.
    pub fn unmask(&self, machine: &Machine, port: Port) {
        // The hypercall, as from another vCPU than the port's: this thread is none. A static binding may name a port that does
        // not exist; nothing comes from it.
        let _ = self.hypercall(|| machine.engine.unmask(self.domain, port));
    }

    /// Gives a port to a file and lets its events in.
    pub fn install(&self, machine: &Machine, port: Port, file: Arc<File>, binding: Arc<Binding>) {
        self.guest.bind_to_vcpu(port, VcpuId(0));
        self.users.write().entry(port).or_default().push(User::File(file, binding));
        self.unmask(machine, port);
    }

    /// Takes a port away from a file and waits for its handler.
    pub fn remove(&self, port: Port, binding: &Arc<Binding>) {
        let mut users = self.users.write();
        let Some(entry) = users.get_mut(&port) else { return };
        entry.retain(|user| !matches!(user, User::File(_, theirs) if Arc::ptr_eq(theirs, binding)));
        if entry.is_empty() {
            users.remove(&port);
            self.guest.mask(port);
        }
    }

    /// Whether somebody uses a port in another way than by a static binding.
    pub fn is_in_use(&self, port: Port) -> bool {
        let users = self.users.read();
        users.get(&port).is_some_and(|users| users.iter().any(|user| !user.is_static()))
    }

    /// The vCPU was told that there is news: takes its events. Only one thread does at a time; another only leaves word.
    pub fn upcall(&self, vcpu: VcpuId) {
        let Some(upcall) = self.upcalls.get(vcpu.0 as usize) else { return };
        // Acquire and Release: who runs next sees what who ran last did. The events themselves are in the shared page.
        if upcall.calls.fetch_add(1, Ordering::AcqRel) != 0 {
            return;
        }
        let mut seen = 1;
        loop {
            self.guest.upcall(vcpu, |port| self.event(port));
            let before = upcall.calls.fetch_sub(seen, Ordering::AcqRel);
            if before == seen {
                return;
            }
            seen = before - seen;
        }
    }

    /// A port has an event.
    fn event(&self, port: Port) {
        let users = self.users.read();
        let Some(users) = users.get(&port) else { return };
        if users.iter().any(|user| matches!(user, User::File(..))) {
            // It stays masked until the program writes the port.
            self.guest.mask(port);
        }
        self.guest.clear_pending(port);
        for user in users {
            user.event(port);
        }
    }
}

impl User {
    fn is_static(&self) -> bool {
        matches!(self, Self::File(_, binding) if binding.kind() == Kind::Static)
    }

    fn event(&self, port: Port) {
        match self {
            // Timers, consoles and processors of a machine that has none.
            Self::Kernel => {}
            Self::File(file, binding) => match binding.fired() {
                Fired::Queue | Fired::QueueUnexpected => file.push(port),
                Fired::Ignore => {}
            },
        }
    }
}

fn kernel_virqs(is_dom0: bool, vcpus: u32) -> impl Iterator<Item = (Virq, VcpuId)> {
    let (first, rest): (&[Virq], &[Virq]) =
        if is_dom0 { (&DOM0_VIRQS, &DOM0_VCPU_VIRQS) } else { (&GUEST_VIRQS, &GUEST_VIRQS) };
    (0..vcpus).flat_map(move |vcpu| {
        let virqs = if vcpu == 0 { first } else { rest };
        virqs.iter().map(move |&virq| (virq, VcpuId(vcpu)))
    })
}
