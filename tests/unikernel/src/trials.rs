// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is tried.

use core::fmt::Write;
use core::num::NonZeroU64;

use evtchn_abi::args::{BindIpi, StatusKind};

use evtchn_abi::{DomId, Errno, Hypercall as Number, Op, Port, Priority, Virq};
use evtchn_guest::{Hypercall, Recording};

use crate::events::{self, V0};
use crate::machine::{Kind, Machine, SHARED_INFO};
use crate::{clock, script};

/// How many turns an event may take to come. Far more than needed; a guest that waits for ever says nothing.
const PATIENCE: u32 = 10_000_000;
/// An address of the guest's that is not mapped: far above its memory, of 32 MiB.
const NOWHERE: u64 = 1 << 40;
const MILLISECOND: u64 = 1_000_000;
/// By how much something may come too early: Xen and the guest read the time at different moments, and round it.
const SKEW: u64 = MILLISECOND / 10;

/// How many events go over the connected pair. Each takes a PVH guest as long as thirty of a PV guest's, where the machine below
/// is emulated.
fn events_of(machine: &Machine) -> u32 {
    match machine.kind {
        Kind::Pv(_) => 100_000,
        Kind::Pvh => 5_000,
    }
}

/// The ports of the trials, which stay open when the ABI changes.
struct Ports {
    timer: Port,
    ipi: Port,
    near: Port,
    far: Port,
}

/// Everything, with both ABIs. Panics where something is wrong.
pub fn all(machine: &Machine) {
    record(machine);
    events::begin_two_level(machine).expect("the two-level ABI");
    // A PV guest begins with a tick of 10 ms.
    machine.xen.stop_periodic_timer(V0).expect("no ticks");
    let ports = bind(machine).expect("ports");
    arguments(machine);
    let _ = writeln!({ machine.console }, "unikernel: arguments: ok");
    with_abi(machine, &ports, "two-level");
    events::begin_fifo(machine).expect("FIFO");
    with_abi(machine, &ports, "FIFO");
    priorities(machine).expect("priorities");
    say(machine, "FIFO", "priorities");
}

/// Makes the hypercalls of the script, and prints each with its answer.
fn record(machine: &Machine) {
    let say = |call| {
        let _ = writeln!({ machine.console }, "unikernel: call: {call}");
    };
    script::run(&Recording::new(machine.xen, say), matches!(machine.kind, Kind::Pv(_)))
        .expect("the script's ports");
}

fn with_abi(machine: &Machine, ports: &Ports, abi: &str) {
    for port in [ports.timer, ports.ipi, ports.near, ports.far] {
        events::listen(machine, port).expect("the port is open");
    }
    timer(machine, ports);
    say(machine, abi, "timer");
    interruptions(machine, ports);
    say(machine, abi, "interruptions");
    ipi(machine, ports);
    say(machine, abi, "IPI");
    let took = interdomain(machine, ports);
    say(machine, abi, "events");
    let _ = writeln!({ machine.console }, "unikernel: {abi}: {} events, {took} ns each", events_of(machine));
    masks(machine, ports);
    say(machine, abi, "masks");
    if machine.has_polls {
        polls(machine, ports);
        say(machine, abi, "polls");
    }
}

fn say(machine: &Machine, abi: &str, what: &str) {
    let _ = writeln!({ machine.console }, "unikernel: {abi}: {what}: ok");
}

fn bind(machine: &Machine) -> Result<Ports, Errno> {
    let xen = &machine.xen;
    let far = xen.alloc_unbound(DomId::SELF, DomId::SELF)?;
    let near = xen.bind_interdomain(DomId::SELF, far)?;
    let Some(StatusKind::Interdomain { port, .. }) = xen.status(DomId::SELF, near)?.kind() else {
        return Err(Errno::EINVAL);
    };
    assert!(port == far, "another end");
    assert!(xen.send(Port(0)) == Err(Errno::EINVAL), "port 0 is not refused");
    Ok(Ports { timer: xen.bind_virq(Virq::TIMER, V0)?, ipi: xen.bind_ipi(V0)?, near, far })
}

/// What `evtchn-hypercall` says about arguments: they may lie across the end of a page and unaligned, and where nothing is mapped the
/// answer is EFAULT.
fn arguments(machine: &Machine) {
    #[repr(align(4096))]
    struct Pages([u8; 8192]);

    let xen = &machine.xen;
    let mut pages = Pages([0; 8192]);
    let across = &mut pages.0[4096 - 3..][..BindIpi::SIZE];
    xen.event_channel_op(Op::BIND_IPI, across).expect("an argument in two pages");
    let port = Port(u32::from_le_bytes([across[4], across[5], across[6], across[7]]));
    assert!(xen.status(DomId::SELF, port).is_ok_and(|status| status.kind() == Some(StatusKind::Ipi)));
    xen.close(port).expect("the port is open");

    let operation = |op: Op, address| {
        // SAFETY: nothing is mapped there.
        let result = unsafe { xen.call(Number::EVENT_CHANNEL_OP.0 as u32, [op.0.into(), address, 0, 0, 0]) };
        Errno::from_result(result)
    };
    assert!(operation(Op::CLOSE, NOWHERE) == Some(Errno::EFAULT), "an argument that is nowhere");
    assert!(operation(Op(99), NOWHERE) == Some(Errno::ENOSYS), "an unknown operation");
    assert!(xen.event_channel_op(Op::CLOSE, &mut [0; 3]) == Err(Errno::EFAULT), "too short an argument");
}

/// Lets upcalls in until there have been `wanted` events at a port.
fn until(machine: &Machine, port: Port, wanted: u32) {
    machine.open();
    for _ in 0..PATIENCE {
        if events::count(port) >= wanted {
            break;
        }
        core::hint::spin_loop();
    }
    machine.shut();
    assert!(events::count(port) == wanted, "{} of {wanted} events at port {port}", events::count(port));
}

/// A timer wakes the vCPU from its sleep, and not too early.
fn timer(machine: &Machine, ports: &Ports) {
    for _ in 0..5 {
        let before = events::count(ports.timer);
        let deadline = clock::now(&SHARED_INFO) + 20 * MILLISECOND;
        machine.xen.set_timer_op(NonZeroU64::new(deadline)).expect("a timer");
        for _ in 0..100 {
            if events::count(ports.timer) != before {
                break;
            }
            machine.sleep();
        }
        assert!(events::count(ports.timer) == before + 1, "no timer");
        let early = deadline.saturating_sub(events::last());
        assert!(early <= SKEW, "the timer came {early} ns too early");
    }
}

/// Upcalls in the middle of work: nothing of it is lost, neither in integer nor in floating-point registers.
fn interruptions(machine: &Machine, ports: &Ports) {
    let expected = work();
    let (before, mut done) = (events::count(ports.timer), 0);
    while done < 20 {
        let deadline = clock::now(&SHARED_INFO) + MILLISECOND / 4;
        machine.xen.set_timer_op(NonZeroU64::new(deadline)).expect("a timer");
        machine.open();
        let mut same = true;
        let mut turns = 0;
        while events::count(ports.timer) == before + done && same && turns < PATIENCE {
            same = work() == expected;
            turns += 1;
        }
        machine.shut();
        assert!(same, "an upcall has changed a register");
        assert!(turns < PATIENCE, "no timer");
        done += 1;
    }
}

/// Some microseconds of arithmetic with many values at once.
#[inline(never)]
fn work() -> ([u64; 6], [u64; 6]) {
    let mut whole = [1u64, 2, 3, 4, 5, 6];
    let mut float = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0];
    for turn in 0..200u64 {
        for value in &mut whole {
            *value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(turn);
        }
        for value in &mut float {
            *value = *value * 1.0625 - turn as f64;
        }
    }
    (whole, float.map(f64::to_bits))
}

fn ipi(machine: &Machine, ports: &Ports) {
    let before = events::count(ports.ipi);
    machine.xen.send(ports.ipi).expect("an IPI");
    assert!(events::count(ports.ipi) == before, "came while upcalls are kept out");
    until(machine, ports.ipi, before + 1);
}

/// Events from one port to another: each is counted once, and by an upcall of its own. Returns nanoseconds for each.
fn interdomain(machine: &Machine, ports: &Ports) -> u64 {
    let wanted = events_of(machine);
    let (before, upcalls) = (events::count(ports.far), events::upcalls());
    let start = clock::now(&SHARED_INFO);
    machine.open();
    for sent in 1..=wanted {
        let answer = machine.xen.send(ports.near);
        let mut turns = 0;
        while events::count(ports.far) != before + sent && turns < PATIENCE {
            turns += 1;
            core::hint::spin_loop();
        }
        if answer.is_err() || turns == PATIENCE {
            break;
        }
    }
    machine.shut();
    let took = clock::now(&SHARED_INFO) - start;
    let (came, upcalls) = (events::count(ports.far) - before, events::upcalls() - upcalls);
    assert!(came == wanted, "{came} of {wanted} events");
    assert!(upcalls >= wanted, "{upcalls} upcalls for {wanted} events");
    assert!(events::count(ports.near) == 0, "events at the wrong end");
    took / u64::from(wanted)
}

/// A masked port keeps one event, which comes when it is unmasked.
fn masks(machine: &Machine, ports: &Ports) {
    let before = events::count(ports.far);
    events::mask(ports.far);
    machine.open();
    let sent = [(); 3].map(|()| machine.xen.send(ports.near));
    machine.shut();
    assert!(sent == [Ok(()); 3], "a send to a masked port");
    assert!(
        events::count(ports.far) == before && events::is_pending(ports.far),
        "a masked port has an upcall"
    );
    events::unmask(machine, ports.far).expect("the port is open");
    until(machine, ports.far, before + 1);
    machine.open();
    machine.shut();
    assert!(events::count(ports.far) == before + 1, "masked events are not merged");
}

/// A poll ends by an event on a masked port, and by its deadline.
fn polls(machine: &Machine, ports: &Ports) {
    let xen = &machine.xen;
    events::mask(ports.far);
    xen.send(ports.near).expect("the port is open");
    xen.poll(&[ports.far], None).expect("a poll of a pending port");
    events::listen(machine, ports.far).expect("the port is open");

    events::mask(ports.far);
    let deadline = clock::now(&SHARED_INFO) + 20 * MILLISECOND;
    xen.poll(&[ports.far], NonZeroU64::new(deadline)).expect("a poll with a deadline");
    let early = deadline.saturating_sub(clock::now(&SHARED_INFO));
    assert!(early <= SKEW, "the poll ended {early} ns too early");
    assert!(xen.poll(&[Port(0)], None) == Err(Errno::EINVAL), "a poll of port 0");
    events::listen(machine, ports.far).expect("the port is open");
}

/// Events that wait come in the order of their ports' priorities, and within one in that of their sends.
fn priorities(machine: &Machine) -> Result<(), Errno> {
    let xen = &machine.xen;
    let mut ports = [Port(0); 4];
    for (port, priority) in ports.iter_mut().zip([Priority(12), Priority(3), Priority::HIGHEST, Priority(3)])
    {
        *port = xen.bind_ipi(V0)?;
        xen.set_priority(*port, priority)?;
        events::listen(machine, *port)?;
    }
    let [bulk, second, urgent, third] = ports;
    for port in [bulk, third, second, urgent] {
        xen.send(port)?;
    }
    until(machine, bulk, events::count(bulk) + 1);
    let order = events::latest();
    assert!(order == [urgent, third, second, bulk], "came in the order {order:?}");
    ports.into_iter().try_for_each(|port| xen.close(port))
}
