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
use vm_memory::{
    Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, Permissions,
};

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
const RUNSTATE_SIZE: u64 = 48;
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

/// The area's address is a virtual one; KVM wants a physical one.
fn register_runstate(vcpu: &Vcpu<'_>, whose: VcpuId, at: u64, memory: &mut impl GuestMemory) -> Done {
    if vcpu.guest.calls_by_port() {
        return Err(Errno::ENOSYS); // KVM would refuse it, which ends the guest
    }
    let door = vcpu.guest.domain.vcpu(whose).map_err(|_| Errno::ENOENT)?;
    let mut area = [0; 8];
    memory.read(at, &mut area).map_err(fault)?;
    let registers = vcpu.fd.get_sregs().map_err(|_| Errno::EFAULT)?;
    let address = u64::from_le_bytes(area);
    let place = contiguous(vcpu.guest.domain.memory(), &Paging::from(&registers), address, RUNSTATE_SIZE);
    door.post(VcpuAttribute::Runstate(Some(place.ok_or(Errno::EFAULT)?)));
    Ok(0)
}

/// Where an area that the guest's kernel may write to is in its memory. `None` for one whose second page does not follow the first there,
/// or is not memory: KVM would write to another page, or refuse the area when the vCPU runs next.
fn contiguous(memory: &GuestMemoryMmap, tables: &Paging, address: u64, size: u64) -> Option<GuestAddress> {
    let walk = |address| tables.walk(memory, address, Permissions::Write);
    let (first, last) = (walk(address)?, walk(address.checked_add(size - 1)?)?);
    let follows = first.checked_add(size - 1) == Some(last);
    (follows && memory.check_range(first, usize::try_from(size).ok()?)).then_some(first)
}

/// Puts shared_info at a frame of the guest's: the memory that is there becomes shared_info, with what the old one held.
///
/// An event that is raised between the copy and the change is lost, in the two-level ABI. Linux moves shared_info before it has ports, and
/// names the same frame when it is resumed.
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
    take_over(guest.domain.memory(), *place, gfn).map_err(|_| Errno::EINVAL)?;
    guest.domain.set_shared_info(vcpu.engine, Some(gfn)).map_err(|_| Errno::EINVAL)?;
    if guest.calls_by_port() {
        ports::write_time(guest, &vcpu.fd, gfn).map_err(|_| Errno::EINVAL)?;
    }
    *place = Some(gfn);
    Ok(0)
}

/// Gives a new shared_info what the old one held. The same one stays as it is: others write to it.
fn take_over(memory: &GuestMemoryMmap, old: Option<Gfn>, new: Gfn) -> Result<(), GuestMemoryError> {
    if old == Some(new) {
        return Ok(());
    }
    let mut contents = [0; PAGE_SIZE];
    if let Some(old) = old {
        memory.read_slice(&mut contents, address(old))?;
    }
    memory.write_slice(&contents, address(new))
}

/// Xen's debug console: what the guest has to say, a page at a time.
fn console_write(vcpu: &Vcpu<'_>, count: u64, at: u64, memory: &mut impl GuestMemory) -> Done {
    let mut bytes = vec![0; usize::try_from(count).unwrap_or(usize::MAX).min(CONSOLE_CHUNK)];
    memory.read(at, &mut bytes).map_err(fault)?;
    vcpu.guest.output.lock().write_all(&bytes).map_err(|_| Errno::EIO)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;
    use std::thread;

    use evtchn_sync::Page;
    use evtchn_vm_memory::pin;

    const PAGE: u64 = PAGE_SIZE as u64;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
    }

    #[test]
    fn a_new_shared_info_has_what_the_old_one_held() {
        let memory = memory();
        memory.write_slice(&[7; PAGE_SIZE], address(Gfn(1))).unwrap();
        memory.write_slice(&[9; PAGE_SIZE], address(Gfn(2))).unwrap();
        take_over(&memory, None, Gfn(1)).unwrap();
        assert_eq!(memory.read_obj::<u64>(address(Gfn(1))).unwrap(), 0, "the first one is empty");
        take_over(&memory, Some(Gfn(2)), Gfn(1)).unwrap();
        assert_eq!(memory.read_obj::<u64>(address(Gfn(1))).unwrap(), 0x0909_0909_0909_0909);
        assert!(take_over(&memory, None, Gfn(0x100)).is_err());
        assert!(take_over(&memory, None, Gfn(u64::MAX)).is_err());
    }

    #[test]
    fn a_shared_info_that_stays_loses_nothing_that_is_raised_meanwhile() {
        const EVENTS: u64 = 200_000;
        let memory = memory();
        let page = pin(&memory, Gfn(1)).unwrap();
        thread::scope(|scope| {
            let word = page.u64(0x800).unwrap();
            let events = scope.spawn(|| (0..EVENTS).for_each(|_| _ = word.fetch_add(1, SeqCst)));
            while !events.is_finished() {
                take_over(&memory, Some(Gfn(1)), Gfn(1)).unwrap();
            }
        });
        assert_eq!(page.u64(0x800).unwrap().load(SeqCst), EVENTS);
    }

    #[test]
    fn an_area_for_kvm_must_go_on_where_it_does_for_the_guest() {
        const RW: u64 = 3;
        let (memory, size) = (memory(), RUNSTATE_SIZE);
        let tables = Paging { cr0: 1 << 31 | 1 << 16, cr3: 0x1000, cr4: 1 << 5, efer: 1 << 10 };
        let entries = [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000)];
        // Pages 0 and 1 follow each other, 2 lies before them, 3 is the last of the memory, 4 is none.
        let pages = [0x1_0000, 0x1_1000, 0x8000, 0xf_f000, 0x10_0000];
        let pages = (0x4000_u64..).step_by(8).zip(pages);
        for (at, value) in entries.into_iter().chain(pages) {
            memory.write_obj(value | RW, GuestAddress(at)).unwrap();
        }
        let place = |address| contiguous(&memory, &tables, address, size).map(|place| place.0);
        assert_eq!(place(0x10), Some(0x1_0010));
        assert_eq!(place(PAGE - 8), Some(0x1_0ff8));
        assert_eq!(place(2 * PAGE - 8), None, "its second page is elsewhere");
        assert_eq!(place(2 * PAGE - size), Some(0x1_2000 - size));
        assert_eq!(place(4 * PAGE - size), Some(0x10_0000 - size));
        assert_eq!(place(4 * PAGE - 8), None, "it goes on behind the end of the memory");
        assert_eq!(place(4 * PAGE), None);
        assert_eq!(place(u64::MAX), None);
        let physical = |address| contiguous(&memory, &Paging::default(), address, size).map(|place| place.0);
        assert_eq!(
            [physical(0x10), physical(0x10_0000 - 8), physical(u64::MAX - 8)],
            [Some(0x10), None, None]
        );
    }
}
