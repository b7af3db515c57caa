// SPDX-License-Identifier: MIT OR Apache-2.0
//! `ioctl`: the device's commands, and hypercalls through `/dev/xen/privcmd`.

use std::cell::Cell;

use evtchn_abi::ioctl::Ioctl;
use evtchn_abi::privcmd::{self, PrivcmdHypercall};
use evtchn_abi::{DomId, Errno};
use evtchn_host::{Fault, GuestMemory, UserArgument, UserFault};

use crate::files::PipeId;
use crate::node::Node;
use crate::trapped::{Answer, Trapped, Unreachable};
use crate::world::{Thing, World};

/// Commands that the kernel handles before it asks a driver.
const GENERIC: [u64; 5] = [libc::FIONBIO, libc::FIOASYNC, libc::FIOCLEX, libc::FIONCLEX, FIOQSIZE];
const FIOQSIZE: u64 = 0x5460;

/// `ioctl` on any descriptor.
pub fn ioctl(world: &mut World, call: &mut Trapped<'_>, domain: DomId) -> Result<Answer, Answer> {
    let command = call.argument(1) as u32;
    let thing = world.identify(call, call.int(0) as u32)?;
    if GENERIC.contains(&command.into()) {
        return Ok(Answer::Continue);
    }
    match thing {
        Thing::Evtchn(id, _copy) => event_channel(world, call, id, Ioctl(command)),
        Thing::Other(Node::Privcmd) if command == privcmd::HYPERCALL => hypercall(world, call, domain),
        Thing::Other(_) => Ok(Answer::Error(Errno::ENOTTY)),
        Thing::Foreign => Ok(Answer::Continue),
    }
}

fn event_channel(
    world: &mut World,
    call: &Trapped<'_>,
    id: PipeId,
    command: Ioctl,
) -> Result<Answer, Answer> {
    let file = world.files.get(id).ok_or(Answer::Continue)?;
    let denied = Cell::new(false);
    let argument = Argument { call, address: call.argument(2), denied: &denied };
    let result = file.device.ioctl(command, argument);
    if command == Ioctl::RESET {
        world.files.settle(id);
    }
    if denied.get() {
        return Err(Answer::Error(Errno::EACCES));
    }
    Ok(Answer::Value(result?.into()))
}

/// What an ioctl's third argument points to.
struct Argument<'a> {
    call: &'a Trapped<'a>,
    address: u64,
    denied: &'a Cell<bool>,
}

impl UserArgument for Argument<'_> {
    fn copy_in(&mut self, to: &mut [u8]) -> Result<(), UserFault> {
        let read = self.call.read(self.address, to);
        self.denied.set(read == Err(Unreachable::Hidden));
        read.map_err(|_| UserFault)
    }
}

fn hypercall(world: &World, call: &Trapped<'_>, domain: DomId) -> Result<Answer, Answer> {
    let mut bytes = [0; PrivcmdHypercall::SIZE];
    call.read(call.argument(2), &mut bytes).map_err(Errno::from)?;
    let request = PrivcmdHypercall::from_bytes(bytes);
    let result = world.host.hypercall(domain, request.op, request.arg, &mut Memory(call));
    // A hypercall's error is a negative number; so is the system call's.
    Ok(match u16::try_from(-result) {
        Ok(error) if result < 0 => Answer::Error(Errno(error)),
        _ => Answer::Value(result),
    })
}

/// A program's memory as the hypervisor sees it: arguments of hypercalls lie in it.
struct Memory<'a>(&'a Trapped<'a>);

impl GuestMemory for Memory<'_> {
    fn read(&mut self, address: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.0.read(address, to).map_err(|_| Fault)
    }

    fn write(&mut self, address: u64, from: &[u8]) -> Result<(), Fault> {
        self.0.write(address, from).map_err(|_| Fault)
    }
}
