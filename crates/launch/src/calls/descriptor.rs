// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls about descriptors as such: copies, flags, mappings.

use std::os::fd::OwnedFd;

use evtchn_abi::Errno;

use crate::trapped::{Answer, NewDescriptor, Trapped, program_errno};
use crate::world::{Thing, World};

/// `dup`: the copy gets a number in the range, so that its calls are seen too.
pub fn dup(world: &mut World, call: &mut Trapped<'_>) -> Result<Answer, Answer> {
    copy_of(world, call, 0, false)
}

/// The `fcntl` commands whose answer differs from a pipe's.
pub fn fcntl(world: &mut World, call: &mut Trapped<'_>) -> Result<Answer, Answer> {
    match call.int(1) {
        libc::F_DUPFD => copy_of(world, call, call.argument(2), false),
        libc::F_DUPFD_CLOEXEC => copy_of(world, call, call.argument(2), true),
        libc::F_GETFL => get_flags(world, call),
        // F_SETPIPE_SZ and F_GETPIPE_SZ: this is no pipe.
        _ => ours(world, call).map(|_| Answer::Error(Errno::EBADF)),
    }
}

fn copy_of(
    world: &mut World,
    call: &mut Trapped<'_>,
    lowest: u64,
    close_on_exec: bool,
) -> Result<Answer, Answer> {
    let file = match world.identify(call, call.int(0) as u32)? {
        Thing::Evtchn(_, file) => file,
        Thing::Other(_) => call.descriptor(call.int(0) as u32).map_err(|_| Answer::Continue)?,
        Thing::Foreign => return Err(Answer::Continue),
    };
    // A number that the range cannot satisfy is the kernel's to choose or to refuse.
    let lowest = u32::try_from(lowest).map_err(|_| Answer::Continue)?;
    let number = world.free_number(call, lowest);
    if number.is_none() && lowest > 0 {
        return Err(Answer::Continue);
    }
    Ok(Answer::Descriptor(NewDescriptor { file, number, close_on_exec }))
}

/// The flags the program opened the file with: our end of the pipe is open for reading and writing in any case.
fn get_flags(world: &mut World, call: &mut Trapped<'_>) -> Result<Answer, Answer> {
    let Thing::Evtchn(id, file) = world.identify(call, call.int(0) as u32)? else {
        return Err(Answer::Continue);
    };
    let flags = rustix::fs::fcntl_getfl(&file).map_err(|error| Answer::Error(program_errno(error)))?;
    let opened = world.files.get(id).ok_or(Answer::Continue)?.flags.0;
    let access = libc::O_ACCMODE as u32;
    Ok(Answer::Value((flags.bits() & !access | opened & access).into()))
}

/// The device cannot be mapped: ENODEV, which is a pipe's answer too, but only after the access mode was checked.
pub fn mmap(world: &mut World, call: &mut Trapped<'_>) -> Result<Answer, Answer> {
    let Thing::Evtchn(id, _file) = world.identify(call, call.int(4) as u32)? else {
        return Err(Answer::Continue);
    };
    let file = world.files.get(id).ok_or(Answer::Continue)?;
    if file.flags.check_read().is_err() { Ok(Answer::Error(Errno::EACCES)) } else { Ok(Answer::Continue) }
}

/// The descriptor in the first argument, if it is an event channel file.
fn ours(world: &mut World, call: &mut Trapped<'_>) -> Result<OwnedFd, Answer> {
    match world.identify(call, call.int(0) as u32)? {
        Thing::Evtchn(_, file) => Ok(file),
        Thing::Other(_) | Thing::Foreign => Err(Answer::Continue),
    }
}
