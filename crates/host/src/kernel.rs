// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel of one domain, as far as event channels are concerned: it holds the ports that Linux holds, takes
//! upcalls, and passes events on to the device files that have the ports.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use evtchn_abi::{DomId, Errno, Gfn, Port, VcpuId};
use evtchn_device::{Binding, Fired, Kind};
use evtchn_engine::DomainConfig;
use evtchn_guest::{Abi as _, Auto, Choice, FifoVcpu, Hypercall, InProcess, TwoLevelVcpu};
use parking_lot::{Mutex, RwLock};

use crate::Abi;
use crate::boot::{self, Held};
use crate::file::File;
use crate::machine::{HostEngine, Machine};
use crate::pages::{Pages, SharedPage};

/// A kernel's way to Xen.
pub type Xen<'a> = InProcess<&'a HostEngine>;

type Guest = Auto<Pages, Box<[TwoLevelVcpu]>, Box<[FifoVcpu]>>;

/// The kernel of one domain.
pub struct Kernel {
    domain: DomId,
    pages: Pages,
    guest: Guest,
    /// Held while the event array grows: the ports of two files may need the same page.
    growing: Mutex<()>,
    /// Who uses each bound port. Held for reading while events are taken and handled, so whoever takes a user away waits until none of
    /// its events is on the way.
    users: RwLock<HashMap<Port, Vec<User>>>,
    /// The port that the kernel keeps for the store daemon; only in domain 0.
    store_port: OnceLock<Port>,
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
    pub fn boot(machine: &Machine, domain: DomId, vcpus: u32, abi: Abi) -> Result<Arc<Self>, Errno> {
        let engine = &machine.engine;
        let config = if domain == DomId(0) {
            DomainConfig { nr_pirqs: boot::nr_pirqs(vcpus), ..DomainConfig::dom0(vcpus) }
        } else {
            DomainConfig::guest(vcpus)
        };
        engine.create_domain(domain, config)?;
        // Before its first hypercall: the engine asks it for pages then.
        let kernel = Self::new(domain, vcpus).map(Arc::new);
        let kernel = kernel.inspect(|kernel| engine.hooks().insert(Arc::clone(kernel)));
        let started =
            kernel.ok_or(Errno::ENOMEM).and_then(|kernel| kernel.start(machine, abi).map(|()| kernel));
        if started.is_err() {
            // Only this call knows of it.
            let _ = engine.destroy_domain(domain);
            engine.hooks().remove(domain);
        }
        started
    }

    /// A kernel that has not started; `None` if there is no memory for its pages.
    fn new(domain: DomId, vcpus: u32) -> Option<Self> {
        let pages = Pages::new(vcpus)?;
        let two_level = (0..vcpus).map(|_| TwoLevelVcpu::new()).collect();
        let fifo = (0..vcpus).map(|_| FifoVcpu::new()).collect();
        Some(Self {
            domain,
            guest: Auto::new(pages.clone(), two_level, fifo),
            pages,
            growing: Mutex::new(()),
            users: RwLock::default(),
            store_port: OnceLock::new(),
            upcalls: (0..vcpus).map(|_| Upcall::default()).collect(),
            running: RwLock::new(true),
        })
    }

    /// Masks everything, tells Xen where to put events, and opens the ports that Linux opens for itself.
    fn start(&self, machine: &Machine, abi: Abi) -> Result<(), Errno> {
        self.guest.start();
        machine.engine.set_shared_info(self.domain, Some(self.pages.shared_info()))?;
        if abi == Abi::TwoLevel {
            self.guest.use_two_level();
        }
        let vcpus = self.upcalls.len() as u32;
        for vcpu in (0..vcpus).map(VcpuId) {
            self.hypercall(machine, |xen| self.guest.online(vcpu, xen))?;
        }
        // Without FIFO in this Xen it is two-level, whatever was asked for.
        let abi = if self.guest.choice() == Choice::Fifo { Abi::Fifo } else { Abi::TwoLevel };
        for held in boot::held(self.domain == DomId(0), vcpus, abi) {
            self.hold(machine, held)?;
        }
        Ok(())
    }

    /// Opens a port for the kernel itself.
    fn hold(&self, machine: &Machine, held: Held) -> Result<(), Errno> {
        let port = self.hypercall(machine, |xen| held.open(xen))?;
        self.cover(machine, port)?;
        self.guest.bind(port, held.vcpu());
        if let Some(priority) = held.priority() {
            // Two-level has none: ENOSYS.
            let _ = self.hypercall(machine, |xen| xen.set_priority(port, priority));
        }
        self.users.write().entry(port).or_default().push(User::Kernel);
        if held == Held::Offer && self.domain == DomId(0) {
            let _ = self.store_port.set(port);
        }
        self.unmask(machine, port);
        Ok(())
    }

    /// Whose kernel this is.
    pub fn domain(&self) -> DomId {
        self.domain
    }

    /// The port that the kernel keeps for the store daemon.
    pub fn store_port(&self) -> Option<Port> {
        self.store_port.get().copied()
    }

    /// How many port numbers the kernel can handle.
    pub fn usable_ports(&self) -> u32 {
        self.guest.nr_channels()
    }

    /// The kernel's page at a frame.
    pub fn page(&self, gfn: Gfn) -> Option<SharedPage> {
        self.pages.at(gfn)
    }

    /// Makes a hypercall, which fails with ESRCH once the domain has ended.
    pub fn hypercall<T>(
        &self,
        machine: &Machine,
        call: impl FnOnce(&Xen<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let running = self.running.read();
        if !*running {
            return Err(Errno::ESRCH);
        }
        call(&InProcess::new(&machine.engine, self.domain, VcpuId(0)))
    }

    /// The domain ends: no hypercall of its kernel is under way any more, and none comes.
    pub fn stop(&self) {
        *self.running.write() = false;
    }

    /// Lets a port's events in.
    pub fn unmask(&self, machine: &Machine, port: Port) {
        // Always the hypercall, as from another vCPU than the port's: this thread is none, and an event may be handled, and the
        // port masked, at the same time. A static binding may name a port that does not exist; nothing comes from it.
        let _ = self.hypercall(machine, |xen| xen.unmask(port));
    }

    /// Makes a port usable: with FIFO the array may have to grow.
    ///
    /// # Errors
    /// ENOMEM if there is no memory, or the ABI has no such port, which is how Linux puts it; ESRCH if the domain has ended.
    fn cover(&self, machine: &Machine, port: Port) -> Result<(), Errno> {
        if port.0 < self.usable_ports() {
            return Ok(());
        }
        let _growing = self.growing.lock();
        let covered = self.hypercall(machine, |xen| self.guest.cover(port, xen));
        covered.map_err(|error| if error == Errno::ENOSPC { Errno::ENOMEM } else { error })
    }

    /// Gives a port to a file and lets its events in.
    ///
    /// # Errors
    /// ENOMEM if there is no room for the port, ESRCH if the domain has ended.
    pub fn install(
        &self,
        machine: &Machine,
        port: Port,
        file: Arc<File>,
        binding: Arc<Binding>,
    ) -> Result<(), Errno> {
        self.cover(machine, port)?;
        self.guest.bind(port, VcpuId(0));
        self.users.write().entry(port).or_default().push(User::File(file, binding));
        self.unmask(machine, port);
        Ok(())
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
            self.take_events(vcpu);
            let before = upcall.calls.fetch_sub(seen, Ordering::AcqRel);
            if before == seen {
                return;
            }
            seen = before - seen;
        }
    }

    /// Takes a vCPU's events. What has been taken must not find another user than it was sent to.
    fn take_events(&self, vcpu: VcpuId) {
        let users = self.users.read();
        self.guest.upcall(vcpu, |port| {
            if let Some(users) = users.get(&port) {
                self.event(port, users);
            }
        });
    }

    /// A port has an event.
    fn event(&self, port: Port, users: &[User]) {
        if users.iter().any(|user| matches!(user, User::File(..))) {
            // It stays masked until the program writes the port. An event that came since this one was taken is found masked.
            self.guest.mask(port);
        }
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
