// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls that the filter stops, by what they are about.

mod descriptor;
mod device;
mod path;
mod stat;
mod transfer;

use evtchn_abi::DomId;

use crate::trapped::{Answer, Trapped};
use crate::world::World;

/// Decides how a stopped call of a program of `domain` goes on.
pub fn handle(world: &mut World, call: &mut Trapped<'_>, domain: DomId) -> Answer {
    if call.is_foreign() {
        world.warnings.foreign(call.thread());
        return Answer::Continue;
    }
    let number = call.call();
    let result = match number {
        libc::SYS_read | libc::SYS_readv | libc::SYS_preadv2 => transfer::read(world, call, number),
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwritev2 => transfer::write(world, call, number),
        libc::SYS_splice | libc::SYS_tee | libc::SYS_sendfile | libc::SYS_vmsplice => {
            transfer::splice(world, call, number)
        }
        libc::SYS_ioctl => device::ioctl(world, call, domain),
        libc::SYS_fcntl => descriptor::fcntl(world, call),
        libc::SYS_dup => descriptor::dup(world, call),
        libc::SYS_mmap => descriptor::mmap(world, call),
        libc::SYS_fstat => stat::of_descriptor(world, call),
        _ => path::handle(world, call, domain),
    };
    result.unwrap_or_else(|answer| answer)
}
