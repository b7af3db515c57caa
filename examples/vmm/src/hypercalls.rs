// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls: the engine's first, then the few others that Linux makes.

use std::cell::Cell;
use std::io::Write;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::Result;
use evtchn_abi::{Errno, Feature, Gfn, Hypercall as Number, Op, SchedOp, VcpuId, VcpuOp, XenVersion};
use evtchn_engine::{Caller, Fault, GuestMemory, Outcome};
use evtchn_kvm::{Hypercall, Paging, Tables, VcpuAttribute};
use evtchn_sync::PAGE_SIZE;
use evtchn_vm_memory::Arguments;
use kvm_bindings::{KVM_MP_STATE_HALTED, kvm_mp_state};
use vm_memory::{Bytes, GuestMemoryBackend, Permissions};

use crate::guest::address;
use crate::ports;
use crate::vcpu::{self, End, Vcpu};
use crate::vmm::Vmm;

const MEMORY_OP: Number = Number(12);
const CONSOLE_IO: Number = Number(18);

/// XENMEM_add_to_physmap, and its spaces.
const ADD_TO_PHYSMAP: u32 = 7;
const SPACE_SHARED_INFO: u32 = 0;
const SPACE_GRANT_TABLE: u32 = 1;
/// Bytes of a runstate area.
const RUNSTATE_SIZE: usize = 48;
/// SHUTDOWN_poweroff
const POWER_OFF: [u8; 4] = [0; 4];
/// CONSOLEIO_write
const CONSOLE_WRITE: u32 = 0;
/// The most that is taken in one call.
const CONSOLE_CHUNK: usize = 4096;

/// What features Linux is told of: it does not see the machine's frames, upcalls come by a vector, a clock is kept.
const FEATURES: u32 = Feature::AUTO_TRANSLATED_PHYSMAP.bit()
    | Feature::HVM_CALLBACK_VECTOR.bit()
    | Feature::HVM_SAFE_PVCLOCK.bit();

/// What becomes of a hypercall.
pub enum Answer {
    Result(i64),
    /// The guest has ended.
    End(End),
}

/// Carries out a hypercall.
pub fn answer(vcpu: &Vcpu<'_>, caller: &mut Caller<'_, Vmm>, call: &Hypercall) -> Result<Answer> {
    if let Some(refusal) = call.refusal() {
        return Ok(Answer::Result(refusal));
    }
    let memory = vcpu.guest.domain.memory();
    let fetched = Cell::default();
    let registers = || {
        let start = Instant::now();
        let registers = vcpu.fd.get_sregs().ok()?;
        fetched.set(start.elapsed());
        Some(Paging::from(&registers))
    };
    let mut arguments = Arguments::new(memory, Tables::new(memory, registers));
    let mut args = call.args;
    loop {
        let start = Instant::now();
        let outcome = caller.hypercall(call.number, args, &mut arguments);
        count_send(vcpu, call, start.elapsed(), fetched.get());
        match outcome {
            Outcome::Done(result) => return Ok(Answer::Result(result)),
            Outcome::Block { deadline } => return block(vcpu, SchedOp(args[0] as u32), deadline),
            // Nobody asks for a pause: see `Hooks::preempt`.
            Outcome::Again => args[0] = Op::RESET_CONT.0.into(),
            Outcome::NotMine => return other(vcpu, call, &mut arguments),
        }
    }
}

/// For the report: how long sends take, and of that KVM to tell the registers.
fn count_send(vcpu: &Vcpu<'_>, call: &Hypercall, took: Duration, registers: Duration) {
    if Number(call.number) == Number::EVENT_CHANNEL_OP && call.args[0] == u64::from(Op::SEND.0) {
        vcpu.guest.counters.count_send(took, registers);
    }
}

/// `SCHEDOP_block`: KVM knows how to wait for an interrupt of any kind. Where it has Xen support it answers `SCHEDOP_poll` itself, so that
/// one comes here only from guests that call by a port.
fn block(vcpu: &Vcpu<'_>, command: SchedOp, deadline: Option<NonZeroU64>) -> Result<Answer> {
    if command == SchedOp::POLL {
        wait(vcpu, deadline)?;
    } else {
        vcpu.fd.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_HALTED })?;
    }
    vcpu.engine.finish_poll(vcpu.guest.domain.id(), vcpu.number);
    Ok(Answer::Result(0))
}

/// Waits for the end of a poll: an event, an upcall, the deadline, or that the vCPU is called back.
fn wait(vcpu: &Vcpu<'_>, deadline: Option<NonZeroU64>) -> Result<()> {
    let Vcpu { engine, guest, number, .. } = vcpu;
    let (domain, now) = (guest.domain.id(), guest.domain.now()?);
    let begun = Instant::now();
    let at_most =
        deadline.map_or(Duration::MAX, |deadline| Duration::from_nanos(deadline.get().saturating_sub(now)));
    guest.pollers.wait(|| {
        let is_told = !matches!(engine.pending_upcall(domain, *number), Ok(None));
        let is_over = is_told || !engine.is_polling(domain, *number);
        let left = at_most.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
        left.filter(|_| !is_over && guest.gate.is_open())
    });
    Ok(())
}

/// What is not the engine's. What goes wrong is the guest's error.
fn other(vcpu: &Vcpu<'_>, call: &Hypercall, memory: &mut impl GuestMemory) -> Result<Answer> {
    #[allow(clippy::cast_possible_truncation)] // commands are C ints
    let command = call.args[0] as u32;
    let argument = call.args[1];
    let result = match Number(call.number) {
        Number::XEN_VERSION => version(vcpu, XenVersion(command), argument, memory),
        Number::VCPU_OP if VcpuOp(command) == VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA => {
            register_runstate(vcpu, VcpuId(argument as u32), call.args[2], memory)
        }
        Number::SCHED_OP if SchedOp(command) == SchedOp::SHUTDOWN => {
            return Ok(Answer::End(end(argument, memory)));
        }
        Number::SCHED_OP if SchedOp(command) == SchedOp::YIELD => Ok(0),
        Number::HVM_OP => Err(Errno::EINVAL), // parameters that it does not have
        MEMORY_OP if command == ADD_TO_PHYSMAP => add_to_physmap(vcpu, argument, memory),
        CONSOLE_IO if command == CONSOLE_WRITE => console_write(vcpu, argument, call.args[2], memory),
        _ => Err(Errno::ENOSYS),
    };
    Ok(Answer::Result(result.unwrap_or_else(Errno::negated)))
}

type Done = Result<i64, Errno>;

fn fault(Fault: Fault) -> Errno {
    Errno::EFAULT
}

fn version(vcpu: &Vcpu<'_>, command: XenVersion, at: u64, memory: &mut impl GuestMemory) -> Done {
    match command {
        XenVersion::VERSION => {
            let (major, minor) = vcpu::version(vcpu.engine.level());
            return Ok(i64::from(major) << 16 | i64::from(minor));
        }
        XenVersion::EXTRAVERSION => memory.write(at, b".0-evtchn\0\0\0\0\0\0\0").map_err(fault)?,
        XenVersion::GET_FEATURES => {
            let mut map = [0; 4];
            memory.read(at, &mut map).map_err(fault)?;
            let features = if map == [0; 4] { FEATURES } else { 0 };
            memory.write(at.wrapping_add(4), &features.to_le_bytes()).map_err(fault)?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// Why the guest ends.
fn end(at: u64, memory: &mut impl GuestMemory) -> End {
    let mut reason = [0; 4];
    match memory.read(at, &mut reason) {
        Ok(()) if reason == POWER_OFF => End::PoweredOff,
        _ => End::Off,
    }
}

/// The area's address is a virtual one; KVM wants a physical one, and that it goes on in the next page.
fn register_runstate(vcpu: &Vcpu<'_>, whose: VcpuId, at: u64, memory: &mut impl GuestMemory) -> Done {
    let door = vcpu.guest.domain.vcpu(whose).map_err(|_| Errno::ENOENT)?;
    let mut area = [0; 8];
    memory.read(at, &mut area).map_err(fault)?;
    let registers = vcpu.fd.get_sregs().map_err(|_| Errno::EFAULT)?;
    let tables = Paging::from(&registers);
    let guest_memory = vcpu.guest.domain.memory();
    let place =
        tables.walk(guest_memory, u64::from_le_bytes(area), Permissions::Write).ok_or(Errno::EFAULT)?;
    if !guest_memory.check_range(place, RUNSTATE_SIZE) {
        return Err(Errno::EFAULT); // KVM would refuse it when the vCPU runs next
    }
    door.post(VcpuAttribute::Runstate(Some(place)));
    Ok(0)
}

/// Puts shared_info at a frame of the guest's: the memory that is there becomes shared_info, with what the old one held.
fn add_to_physmap(vcpu: &Vcpu<'_>, at: u64, memory: &mut impl GuestMemory) -> Done {
    let mut bytes = [0; 24];
    memory.read(at, &mut bytes).map_err(fault)?;
    let space = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let gfn = Gfn(bytes[16..].try_into().map_or(u64::MAX, u64::from_le_bytes));
    match space {
        SPACE_SHARED_INFO => {}
        SPACE_GRANT_TABLE => return Ok(0), // there are no grants in it
        _ => return Err(Errno::EINVAL),
    }
    let guest = vcpu.guest;
    let mut place = guest.shared_info.lock();
    guest.domain.pin(gfn).ok_or(Errno::EINVAL)?;
    let mut contents = [0; PAGE_SIZE];
    if let Some(old) = *place {
        guest.domain.memory().read_slice(&mut contents, address(old)).map_err(|_| Errno::EINVAL)?;
    }
    guest.domain.memory().write_slice(&contents, address(gfn)).map_err(|_| Errno::EINVAL)?;
    guest.domain.set_shared_info(vcpu.engine, Some(gfn)).map_err(|_| Errno::EINVAL)?;
    if guest.calls_by_port() {
        ports::write_time(guest, &vcpu.fd, gfn).map_err(|_| Errno::EINVAL)?;
    }
    *place = Some(gfn);
    Ok(0)
}

/// Xen's debug console: what the guest has to say, a page at a time.
fn console_write(vcpu: &Vcpu<'_>, count: u64, at: u64, memory: &mut impl GuestMemory) -> Done {
    let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX).min(CONSOLE_CHUNK)];
    memory.read(at, &mut bytes).map_err(fault)?;
    vcpu.guest.output.lock().write_all(&bytes).map_err(|_| Errno::EIO)?;
    Ok(0)
}
