// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device file in a kernel without an allocator: a port fires, is read, and is enabled by a write.
#![no_std]
#![no_main]

use evtchn_abi::{DomId, Port};
use evtchn_device::atomic::AtomicU32;
use evtchn_device::{Binding, Fired, Kind, Pushed, ReadStep, Restriction, Ring, poll, ports_in};
use evtchn_link::{check, program};

program!(&[fired_and_read, overflow, restricted]);

const PORT: Port = Port(7);
/// Where a kernel copies to and from a program may fault; here it does not.
type NoFault = core::convert::Infallible;

fn slots() -> [AtomicU32; 64] {
    [const { AtomicU32::new(0) }; 64]
}

fn fired_and_read() -> Option<()> {
    let (ring, slots, binding) = (Ring::new(), slots(), Binding::new(Kind::Dynamic));
    check(binding.fired() == Fired::Queue)?;
    let _wake = ring.push(&slots, PORT);
    check(ring.poll_mask() == poll::READABLE)?;

    let ReadStep::Ready(ready) = ring.read(&slots, 64) else { return None };
    let (mut buffer, mut len) = ([0; 64], 0);
    let copied = ready.copy_out(|bytes| {
        buffer[len..len + bytes.len()].copy_from_slice(bytes);
        len += bytes.len();
        Ok::<_, NoFault>(())
    });
    check(copied.is_ok() && ready.consume() == 4 && ring.is_empty())?;

    let mut written = ports_in(&buffer[..len]);
    check(written.next() == Some(PORT) && written.next().is_none() && binding.enable())
}

fn overflow() -> Option<()> {
    let (ring, slots) = (Ring::new(), slots());
    for port in 0..64 {
        check(ring.push(&slots, Port(port)) != Pushed::Overflow)?;
    }
    check(ring.push(&slots, PORT) == Pushed::Overflow && ring.poll_mask() == poll::OVERFLOWED)
}

fn restricted() -> Option<()> {
    let mut restriction = Restriction::NONE;
    check(restriction.permits(3) && restriction.permits(4))?;
    restriction.restrict_to(DomId(3)).ok()?;
    check(restriction.permits(3) && !restriction.permits(4) && restriction.require_none().is_err())
}
