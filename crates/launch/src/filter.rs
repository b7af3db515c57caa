// SPDX-License-Identifier: MIT OR Apache-2.0
//! The seccomp filter: which calls of a program are stopped for the supervisor to look at.
//!
//! The program is classic BPF, assembled here from three groups. Calls that name a path always stop.
//! Calls on a descriptor stop when its number is in the range that device files get. `ioctl` also stops
//! for the device's command words on any descriptor. Everything else runs natively; for calls that are in no
//! group the kernel remembers that and does not even run the filter.

use std::ops::Range;

use evtchn_abi::ioctl::Ioctl;
use libc::{
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W,
    SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF,
};

use crate::sys::Instruction;

/// Offsets in the `seccomp_data` that a filter reads.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The offset of an argument's lower half (little-endian).
const fn argument(n: u32) -> u32 {
    16 + 8 * n
}

#[cfg(target_arch = "x86_64")]
mod native {
    /// `AUDIT_ARCH_X86_64`
    pub const ARCHITECTURE: u32 = 0xc000_003e;
    /// Calls of the x32 ABI carry this bit; they pass.
    pub const FOREIGN_BIT: Option<u32> = Some(0x4000_0000);
    /// `open` and `openat` of 32-bit programs, which pass with a warning.
    pub const COMPAT_OPEN: [u32; 2] = [5, 295];
    pub const LEGACY_PATH_CALLS: &[i64] = &[
        libc::SYS_open,
        libc::SYS_creat,
        libc::SYS_stat,
        libc::SYS_lstat,
        libc::SYS_access,
        libc::SYS_readlink,
    ];
}

#[cfg(target_arch = "aarch64")]
mod native {
    /// `AUDIT_ARCH_AARCH64`
    pub const ARCHITECTURE: u32 = 0xc000_00b7;
    pub const FOREIGN_BIT: Option<u32> = None;
    /// `open` and `openat` of 32-bit programs, which pass with a warning.
    pub const COMPAT_OPEN: [u32; 2] = [5, 322];
    pub const LEGACY_PATH_CALLS: &[i64] = &[];
}

pub use native::ARCHITECTURE as NATIVE_ARCHITECTURE;

/// The instructions that a call of another architecture runs: one load, two tests with their answer, one answer.
const FOREIGN_BLOCK: u8 = 6;

/// Calls that name a path, apart from those with a descriptor form.
const PATH_CALLS: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
];

/// Calls that stop when their first argument is a descriptor in the range.
const DESCRIPTOR_CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_fstat,
    libc::SYS_dup,
    libc::SYS_vmsplice,
];

/// Calls that move data between two descriptors, and which arguments those are.
const TWO_DESCRIPTOR_CALLS: &[(i64, [u32; 2])] =
    &[(libc::SYS_splice, [0, 2]), (libc::SYS_tee, [0, 1]), (libc::SYS_sendfile, [0, 1])];

/// The `fcntl` commands whose answer differs from a pipe's.
const FCNTL_COMMANDS: [i32; 5] =
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFL, libc::F_SETPIPE_SZ, libc::F_GETPIPE_SZ];

const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
const MAP_ANONYMOUS: u32 = libc::MAP_ANONYMOUS as u32;

/// Makes the filter for device files whose descriptors are in `range`.
pub fn program(range: &Range<u32>) -> Vec<Instruction> {
    let mut code = Assembler { range: range.clone(), code: Vec::with_capacity(256) };
    code.load(ARCHITECTURE);
    code.if_equal(native::ARCHITECTURE, FOREIGN_BLOCK);
    code.load(NUMBER);
    native::COMPAT_OPEN.iter().for_each(|&call| code.notify_if_equal(call));
    code.allow();
    code.load(NUMBER);
    if let Some(bit) = native::FOREIGN_BIT {
        code.allow_if_at_least(bit);
    }
    for &call in DESCRIPTOR_CALLS {
        code.call(call, |code| code.notify_in_range(argument(0)));
    }
    code.call(libc::SYS_ioctl, |code| {
        code.load(argument(1));
        for command in ioctl_commands() {
            code.notify_if_equal(command);
        }
        code.notify_in_range(argument(0));
    });
    code.call(libc::SYS_fcntl, |code| {
        code.load(argument(1));
        code.allow_unless_one_of(&FCNTL_COMMANDS.map(|c| c as u32));
        code.notify_in_range(argument(0));
    });
    code.call(libc::SYS_mmap, |code| {
        code.load(argument(3));
        code.allow_if_any_bit(MAP_ANONYMOUS);
        code.notify_in_range(argument(4));
    });
    for (call, arguments) in TWO_DESCRIPTOR_CALLS {
        code.call(*call, |code| arguments.iter().for_each(|&n| code.notify_in_range(argument(n))));
    }
    // These have a form for a descriptor (an empty path), which is how C libraries implement `fstat`.
    for (call, flags) in [(libc::SYS_newfstatat, 3), (libc::SYS_statx, 2)] {
        code.call(call, |code| code.stat_call(argument(flags)));
    }
    for &call in PATH_CALLS.iter().chain(native::LEGACY_PATH_CALLS) {
        code.notify_if_equal(call as u32);
    }
    code.allow();
    code.code
}

/// Every command word that is the business of one of our nodes, whatever the descriptor's number.
fn ioctl_commands() -> impl Iterator<Item = u32> {
    Ioctl::ALL.iter().map(|command| command.0).chain([evtchn_abi::privcmd::HYPERCALL])
}

struct Assembler {
    range: Range<u32>,
    code: Vec<Instruction>,
}

impl Assembler {
    fn emit(&mut self, code: u32, k: u32, jt: u8, jf: u8) {
        self.code.push(Instruction { code: code as u16, jt, jf, k });
    }

    fn load(&mut self, offset: u32) {
        self.emit(BPF_LD | BPF_W | BPF_ABS, offset, 0, 0);
    }

    fn allow(&mut self) {
        self.emit(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
    }

    fn notify(&mut self) {
        self.emit(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0, 0);
    }

    /// Jumps over `skip` instructions if the loaded value equals `k`.
    fn if_equal(&mut self, k: u32, skip: u8) {
        self.emit(BPF_JMP | BPF_JEQ | BPF_K, k, skip, 0);
    }

    fn notify_if_equal(&mut self, k: u32) {
        self.emit(BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
        self.notify();
    }

    fn allow_if_at_least(&mut self, k: u32) {
        self.emit(BPF_JMP | BPF_JGE | BPF_K, k, 0, 1);
        self.allow();
    }

    fn allow_if_any_bit(&mut self, mask: u32) {
        self.emit(BPF_JMP | BPF_JSET | BPF_K, mask, 0, 1);
        self.allow();
    }

    fn allow_unless_one_of(&mut self, values: &[u32]) {
        for (i, &value) in values.iter().enumerate() {
            let rest = (values.len() - i) as u8;
            self.if_equal(value, rest);
        }
        self.allow();
    }

    /// Stops the call if the argument at `offset` is a descriptor in the range.
    fn notify_in_range(&mut self, offset: u32) {
        self.load(offset);
        self.emit(BPF_JMP | BPF_JGE | BPF_K, self.range.start, 0, 2);
        self.emit(BPF_JMP | BPF_JGE | BPF_K, self.range.end, 1, 0);
        self.notify();
    }

    /// Appends a block that runs for one call only, and allows what the block does not stop.
    fn call(&mut self, number: i64, block: impl FnOnce(&mut Self)) {
        let at = self.code.len();
        self.emit(BPF_JMP | BPF_JEQ | BPF_K, number as u32, 0, 0);
        block(self);
        self.allow();
        self.code[at].jf = u8::try_from(self.code.len() - at - 1).expect("a block fits a short jump");
    }

    /// A stat call with a descriptor and an empty path is one on a descriptor, any other names a path.
    fn stat_call(&mut self, flags: u32) {
        self.load(flags);
        self.emit(BPF_JMP | BPF_JSET | BPF_K, AT_EMPTY_PATH, 1, 0);
        self.notify();
        self.load(argument(0));
        // A negative descriptor is AT_FDCWD: the path counts.
        self.emit(BPF_JMP | BPF_JGE | BPF_K, 0x8000_0000, 0, 1);
        self.notify();
        self.notify_in_range(argument(0));
    }
}
