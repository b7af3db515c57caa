// SPDX-License-Identifier: MIT OR Apache-2.0
//! vCPUs: what their guest is told of the processor, how they begin, and what is done when they leave the guest.

use anyhow::{Context, Result, bail};
use evtchn_abi::VcpuId;
use evtchn_engine::{Caller, Engine, Level};
use evtchn_kvm::{Hypercall, XenLeaves};
use kvm_bindings::{CpuId, KVM_EXIT_XEN, kvm_cpuid_entry2, kvm_lapic_state, kvm_regs};
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use crate::boot::Entry;
use crate::devices::{Effect, Wish};
use crate::guest::Guest;
use crate::hypercalls::{self, Answer};
use crate::options::Options;
use crate::ports;
use crate::vmm::Vmm;

/// The version that guests are told.
pub fn version(level: Level) -> (u16, u16) {
    if level == Level::Xen4_17 { (4, 17) } else { (4, 20) }
}

/// Makes a vCPU that is ready to run; all but the first wait for the guest to start them.
pub fn create(vm: &VmFd, number: u8, cpuid: &CpuId, entry: Entry, options: &Options) -> Result<VcpuFd> {
    let vcpu = vm.create_vcpu(number.into()).context("KVM_CREATE_VCPU")?;
    let version = version(options.level());
    let leaves = XenLeaves { version, vcpu: number.into(), vcpu_vector: options.vcpu_vector };
    let mut entries = cpuid.clone();
    entries.as_mut_slice().iter_mut().for_each(|leaf| adapt(leaf, number, options.no_xsave));
    vcpu.set_cpuid2(&leaves.apply(&entries).context("too many leaves of CPUID")?)?;
    let mut apic = vcpu.get_lapic()?;
    set_register(&mut apic, 0x350, 0x700); // LINT0: ExtINT
    set_register(&mut apic, 0x360, 0x400); // LINT1: NMI
    vcpu.set_lapic(&apic)?;
    if number == 0 {
        vcpu.set_sregs(&entry.special_registers(vcpu.get_sregs()?))?;
        vcpu.set_regs(&entry.registers())?;
    }
    Ok(vcpu)
}

fn set_register(apic: &mut kvm_lapic_state, offset: usize, value: u32) {
    for (to, byte) in apic.regs[offset..].iter_mut().zip(value.to_le_bytes()) {
        *to = byte.cast_signed();
    }
}

/// Makes a leaf of CPUID that of one vCPU.
fn adapt(leaf: &mut kvm_cpuid_entry2, number: u8, no_xsave: bool) {
    match leaf.function {
        1 => leaf.ebx = leaf.ebx & 0x00ff_ffff | u32::from(number) << 24,
        0xb | 0x1f => leaf.edx = number.into(),
        _ => {}
    }
    if !no_xsave {
        return;
    }
    match leaf.function {
        1 => leaf.ecx &= !(1 << 12 | 1 << 26 | 1 << 27 | 1 << 28 | 1 << 29), // FMA, XSAVE, OSXSAVE, AVX, F16C
        7 if leaf.index == 0 => {
            leaf.ebx &= !(1 << 5 | 1 << 16); // AVX2, AVX-512
            leaf.ecx &= !(1 << 3 | 1 << 4 | 1 << 9 | 1 << 10); // PKU, OSPKE, VAES, VPCLMULQDQ
        }
        0xd => (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx) = (0, 0, 0, 0),
        _ => {}
    }
}

/// Why a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It reset its machine, by the keyboard controller or a triple fault, or ended by a hypercall that says that it is not well.
    Off,
    /// It switched itself off, by a hypercall.
    PoweredOff,
    /// It asked to be killed, or was killed because the main guest has ended.
    Killed,
    /// KVM could not go on with it.
    Broken,
    /// Its vCPUs were sent home.
    SentHome,
}

/// A vCPU as its thread has it.
pub struct Vcpu<'a> {
    pub engine: &'a Engine<Vmm>,
    pub guest: &'a Guest,
    pub number: VcpuId,
    pub fd: VcpuFd,
}

impl Vcpu<'_> {
    /// Runs it until the guest ends.
    pub fn run(&mut self) -> Result<End> {
        while self.guest.gate.pass() {
            // A domain that was destroyed and restored is another one: its vCPUs are callers anew.
            let mut caller = self.engine.caller(self.guest.domain.id(), self.number)?;
            while self.guest.gate.is_open() {
                if let Some(end) = self.once(&mut caller)? {
                    return Ok(end);
                }
            }
        }
        Ok(End::SentHome)
    }

    /// Enters the guest once, and does what it asks for.
    fn once(&mut self, caller: &mut Caller<'_, Vmm>) -> Result<Option<End>> {
        let door = self.guest.domain.vcpu(self.number)?;
        match door.run(&mut self.fd)? {
            VcpuExit::IoOut(port, _) if self.guest.calls_by_port() && port == u16::from(ports::PORT) => {
                return self.port_hypercall(caller);
            }
            VcpuExit::X86Wrmsr(exit) => {
                *exit.error = u8::from(ports::write_msr(self.guest, exit.index, exit.data).is_err());
            }
            VcpuExit::X86Rdmsr(exit) => *exit.error = 1,
            VcpuExit::IoOut(port, data) => {
                let effect = self.guest.devices.lock().write(port, data);
                return Ok(self.effect(effect));
            }
            VcpuExit::IoIn(port, data) => self.guest.devices.lock().read(port, data),
            VcpuExit::MmioRead(_, data) => data.fill(0xff),
            VcpuExit::Unsupported(KVM_EXIT_XEN) => return self.hypercall(caller),
            VcpuExit::MmioWrite(..) | VcpuExit::Intr => {}
            VcpuExit::Shutdown | VcpuExit::SystemEvent(..) => return Ok(Some(End::Off)),
            other => {
                let what = format!("{other:?}");
                bail!("vCPU {}: {what} at {:#x}", self.number.0, self.fd.get_regs()?.rip);
            }
        }
        Ok(None)
    }

    fn effect(&self, effect: Effect) -> Option<End> {
        match effect {
            Effect::Nothing => None,
            Effect::Reset => Some(End::Off),
            Effect::Mark(mark) => {
                self.guest.mark(mark);
                None
            }
            Effect::Status(status) => {
                *self.guest.status.lock() = Some(status);
                None
            }
            Effect::Wish(Wish::Kill) => Some(End::Killed),
            Effect::Wish(Wish::Snapshot) => {
                self.engine.hooks().wish_for_a_snapshot();
                None
            }
        }
    }

    fn hypercall(&mut self, caller: &mut Caller<'_, Vmm>) -> Result<Option<End>> {
        let call = Hypercall::taken(self.fd.get_kvm_run()).context("an exit for Xen that is no hypercall")?;
        match hypercalls::answer(self, caller, &call)? {
            Answer::Result(result) => Hypercall::answer(self.fd.get_kvm_run(), result),
            Answer::End(end) => return Ok(Some(end)),
        }
        Ok(None)
    }

    /// A hypercall by the page of ports, whose result goes into a register.
    fn port_hypercall(&mut self, caller: &mut Caller<'_, Vmm>) -> Result<Option<End>> {
        let (registers, special) = (self.fd.get_regs()?, self.fd.get_sregs()?);
        let call = Hypercall::of_port(&registers, special.cs.l != 0, special.ss.dpl);
        match hypercalls::answer(self, caller, &call)? {
            Answer::Result(result) => {
                self.fd.set_regs(&kvm_regs { rax: result.cast_unsigned(), ..registers })?
            }
            Answer::End(end) => return Ok(Some(end)),
        }
        Ok(None)
    }
}
