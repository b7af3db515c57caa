// SPDX-License-Identifier: MIT OR Apache-2.0
//! The version hypercall, which libraries ask before anything else.

use evtchn_abi::{Errno, XenVersion};
use evtchn_engine::{Fault, GuestMemory, Level};

/// Answers `xen_version`. Commands that tell of a machine that is not there are ENOSYS.
pub fn xen_version(
    level: Level,
    command: u32,
    argument: u64,
    memory: &mut (impl GuestMemory + ?Sized),
) -> i64 {
    let (major, minor, extra) = match level {
        Level::Xen4_17 => (4, 17, ".7"),
        _ => (4, 21, ".0"),
    };
    let mut text = |text: &str, length: usize| {
        let mut bytes = vec![0; length];
        let end = text.len().min(length);
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        done(memory.write(argument, &bytes))
    };
    match XenVersion(command) {
        XenVersion::VERSION => (major << 16 | minor).into(),
        XenVersion::EXTRAVERSION => text(extra, 16),
        XenVersion::CAPABILITIES => text("xen-3.0-x86_64 ", 1024),
        XenVersion::GET_FEATURES => get_features(argument, memory),
        _ => Errno::ENOSYS.negated(),
    }
}

/// No feature of guests matters to a program; there is one word of them.
fn get_features(argument: u64, memory: &mut (impl GuestMemory + ?Sized)) -> i64 {
    let mut index = [0; 4];
    if memory.read(argument, &mut index).is_err() {
        return Errno::EFAULT.negated();
    }
    if u32::from_ne_bytes(index) != 0 {
        return Errno::EINVAL.negated();
    }
    done(memory.write(argument.wrapping_add(4), &[0; 4]))
}

fn done(written: Result<(), Fault>) -> i64 {
    written.map_or(Errno::EFAULT.negated(), |()| 0)
}
