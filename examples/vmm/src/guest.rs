// SPDX-License-Identifier: MIT OR Apache-2.0
//! One guest: a virtual machine of KVM's with its memory and devices, which is a domain of the engine's.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use evtchn_abi::{DomId, Gfn, VcpuId};
use evtchn_engine::{DomainConfig, DomainKind};
use evtchn_kvm::{Interface, KvmDomain, NewVcpu, VcpuDoor, VmAttribute, XenCapabilities};
use evtchn_sync::PAGE_SIZE;
use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use parking_lot::Mutex;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::boot;
use crate::devices::{Board, Console, Devices};
use crate::gate::Gate;
use crate::map;
use crate::options::Options;
use crate::poll::Pollers;
use crate::ports;
use crate::report::Counters;
use crate::routes::Routes;
use crate::vcpu;

/// Where KVM may put three pages that it needs on Intel's processors; nothing of the guest's is there.
const TSS: usize = 0xfffb_d000;

/// The most marks that a report has.
const MOST_MARKS: usize = 256;

/// What the threads of the VMM share of a guest.
pub struct Guest {
    pub domain: KvmDomain,
    pub devices: Mutex<Devices>,
    pub gate: Gate,
    pub pollers: Pollers,
    pub routes: Mutex<Routes>,
    /// Where shared_info is.
    pub shared_info: Mutex<Option<Gfn>>,
    /// The frames that the engine has, or has had, shared with it.
    pub pinned: Mutex<BTreeSet<Gfn>>,
    /// What it wrote with `console_io`.
    pub output: Mutex<Box<dyn Write + Send>>,
    /// Its marks, with the milliseconds since its start.
    pub marks: Mutex<Vec<(u8, u128)>>,
    /// The status with which it says that it ends.
    pub status: Mutex<Option<u8>>,
    pub counters: Counters,
    pub start: Instant,
}

impl Guest {
    /// Makes a guest that is ready to run, and its vCPUs.
    pub fn new(kvm: &Kvm, id: DomId, options: &Options, board: &Board) -> Result<(Self, Vec<VcpuFd>)> {
        let vm = Arc::new(kvm.create_vm().context("KVM_CREATE_VM")?);
        let interface = if options.ports { by_port(&vm) } else { by_kvm(&vm, options) }?;
        let size = usize::try_from(options.memory)? << 20;
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), size)]).context("no memory")?;
        give_memory(&vm, &memory)?;
        vm.set_tss_address(TSS)?;
        vm.create_irq_chip().context("KVM_CREATE_IRQCHIP")?;
        vm.create_pit2(kvm_pit_config { flags: KVM_PIT_SPEAKER_DUMMY, ..Default::default() })?;

        let entry = boot::load(&memory, options, &format!("domain={}", id.0))?;
        let cpuid = kvm.get_supported_cpuid(kvm_bindings::KVM_MAX_CPUID_ENTRIES)?;
        let fds = (0..options.vcpus)
            .map(|number| vcpu::create(&vm, number, &cpuid, entry, options))
            .collect::<Result<Vec<_>>>()?;
        let new: Vec<_> = (0..).zip(&fds).map(|(apic_id, fd)| NewVcpu { fd, apic_id }).collect();
        let domain = KvmDomain::new(id, vm.clone(), memory, interface, &new)?;
        let prefix = if options.guests > 1 { format!("{}| ", id.0) } else { String::new() };
        let guest = Self {
            domain,
            devices: Mutex::new(Devices::new(vm.clone(), board.clone(), Console::new(prefix.clone()))),
            gate: Gate::new(fds.len()),
            pollers: Pollers::default(),
            routes: Mutex::new(Routes::new(vm)),
            shared_info: Mutex::default(),
            pinned: Mutex::default(),
            output: Mutex::new(output(options, id, prefix)?),
            marks: Mutex::default(),
            status: Mutex::default(),
            counters: Counters::default(),
            start: Instant::now(),
        };
        Ok((guest, fds))
    }

    /// What the engine is told of it.
    pub fn config(options: &Options) -> DomainConfig {
        DomainConfig {
            kind: DomainKind::Hvm,
            fifo: !options.no_fifo,
            ..DomainConfig::guest(options.vcpus.into())
        }
    }

    /// Do its hypercalls come by a port?
    pub fn calls_by_port(&self) -> bool {
        self.domain.interface() == Interface::Ports
    }

    /// The doors to all vCPUs.
    pub fn doors(&self) -> impl Iterator<Item = &VcpuDoor> {
        (0..).map(VcpuId).map_while(|vcpu| self.domain.vcpu(vcpu).ok()).map(AsRef::as_ref)
    }

    /// Makes all vCPUs look at the gate.
    pub fn call_back(&self) {
        self.doors().for_each(VcpuDoor::call_back);
        self.pollers.wake();
    }

    /// The contents of the pages that the engine writes to.
    pub fn copy_pages(&self) -> Vec<(GuestAddress, Box<[u8]>)> {
        let frames = self.pinned.lock().iter().copied().chain(*self.shared_info.lock()).collect::<Vec<_>>();
        let copy = |gfn: Gfn| {
            let (at, mut page) = (address(gfn), vec![0; PAGE_SIZE].into_boxed_slice());
            self.domain.memory().read_slice(&mut page, at).ok()?;
            Some((at, page))
        };
        frames.into_iter().filter_map(copy).collect()
    }

    /// Puts such contents back.
    pub fn put_pages(&self, pages: &[(GuestAddress, Box<[u8]>)]) -> Result<()> {
        pages
            .iter()
            .try_for_each(|(at, page)| self.domain.memory().write_slice(page, *at))
            .context("a page is gone")
    }

    /// Takes back what the machine's KVM was told for upcalls, so that it knows as little as that of a new machine does. (What
    /// vCPUs were told cannot be taken back while they are held.)
    pub fn forget(&self) -> Result<()> {
        if self.calls_by_port() {
            return Ok(());
        }
        VmAttribute::UpcallVector(0).set(self.domain.vm())?;
        Ok(VmAttribute::SharedInfo(None).set(self.domain.vm())?)
    }

    /// Notes that it has come to a mark; but of one that sets them without end only the first.
    pub fn mark(&self, mark: u8) {
        let mut marks = self.marks.lock();
        if marks.len() < MOST_MARKS {
            marks.push((mark, self.age()));
        }
    }

    /// Milliseconds since its start.
    pub fn age(&self) -> u128 {
        self.start.elapsed().as_millis()
    }
}

/// Switches KVM's Xen support on.
fn by_kvm(vm: &VmFd, options: &Options) -> Result<Interface> {
    let capabilities = XenCapabilities::of(vm);
    capabilities
        .enable(vm, options.offload)
        .with_context(|| format!("KVM_CAP_XEN_HVM is {:#x}, and Linux needs it", capabilities.bits()))?;
    Ok(Interface::Xen { sends: options.offload })
}

/// Prepares for guests that use the hypercall page.
fn by_port(vm: &VmFd) -> Result<Interface> {
    ports::enable(vm)?;
    Ok(Interface::Ports)
}

/// Where a frame of a guest's memory begins.
pub fn address(gfn: Gfn) -> GuestAddress {
    GuestAddress(gfn.0.wrapping_mul(PAGE_SIZE as u64))
}

fn output(options: &Options, id: DomId, prefix: String) -> Result<Box<dyn Write + Send>> {
    let Some(path) = &options.output else { return Ok(Box::new(Console::new(prefix))) };
    let path = format!("{}.{}", path.display(), id.0);
    Ok(Box::new(std::fs::File::create(&path).context(path)?))
}

/// One slot of memory, from address 0 on.
fn give_memory(vm: &VmFd, memory: &GuestMemoryMmap) -> Result<()> {
    ensure!(memory.num_regions() == 1, "more than one region");
    let host = memory.get_host_address(GuestAddress(0))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: memory.last_addr().0 + 1,
        userspace_addr: host as u64,
    };
    map::give(vm, region, memory).context("KVM_SET_USER_MEMORY_REGION")
}
