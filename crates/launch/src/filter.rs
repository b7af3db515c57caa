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
    BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW,
    SECCOMP_RET_USER_NOTIF,
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
const PATH_CALLS: &[i64] =
    &[libc::SYS_openat, libc::SYS_openat2, libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat];

/// Calls that stop when their first argument is a descriptor in the range. The first two are the most frequent.
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
    // The most frequent calls come first.
    let (frequent, others) = DESCRIPTOR_CALLS.split_at(2);
    frequent.iter().for_each(|&call| code.descriptor_call(call));
    code.call(libc::SYS_ioctl, |code| {
        code.load(argument(1));
        for command in ioctl_commands() {
            code.notify_if_equal(command);
        }
        code.notify_in_range(argument(0));
    });
    others.iter().for_each(|&call| code.descriptor_call(call));
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

    /// A call whose first argument is a descriptor.
    fn descriptor_call(&mut self, number: i64) {
        self.call(number, |code| code.notify_in_range(argument(0)));
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

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: Range<u32> = 768..1024;

    /// Runs the filter as the kernel does. Panics on anything that the kernel's own checker refuses.
    fn runs_to(architecture: u32, number: u32, arguments: &[u64]) -> u32 {
        let program = program(&RANGE);
        let word = |offset: u32| match offset {
            NUMBER => number,
            ARCHITECTURE => architecture,
            _ => {
                assert_eq!(offset % 8, 0, "only lower halves are looked at");
                arguments.get((offset as usize - 16) / 8).copied().unwrap_or(0) as u32
            }
        };
        let (mut at, mut value) = (0, 0);
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            let jump = |taken| at + 1 + usize::from(if taken { jt } else { jf });
            at = match u32::from(code) {
                c if c == BPF_LD | BPF_W | BPF_ABS => {
                    value = word(k);
                    at + 1
                }
                c if c == BPF_JMP | BPF_JEQ | BPF_K => jump(value == k),
                c if c == BPF_JMP | BPF_JGE | BPF_K => jump(value >= k),
                c if c == BPF_JMP | BPF_JSET | BPF_K => jump(value & k != 0),
                c if c == BPF_RET | BPF_K => return k,
                other => panic!("unknown instruction {other:#x}"),
            };
        }
    }

    fn stops(call: i64, arguments: &[u64]) -> bool {
        match runs_to(native::ARCHITECTURE, call as u32, arguments) {
            SECCOMP_RET_USER_NOTIF => true,
            SECCOMP_RET_ALLOW => false,
            other => panic!("unknown answer {other:#x}"),
        }
    }

    const AT_CWD: u64 = libc::AT_FDCWD as u32 as u64;

    #[test]
    fn descriptor_calls_stop_for_the_range_only() {
        for call in DESCRIPTOR_CALLS {
            for (fd, expected) in
                [(0, false), (767, false), (768, true), (1023, true), (1024, false), (u64::MAX, false)]
            {
                assert_eq!(stops(*call, &[fd]), expected, "call {call} on {fd}");
            }
        }
    }

    #[test]
    fn device_commands_stop_on_any_descriptor_and_others_in_the_range() {
        for command in ioctl_commands() {
            assert!(stops(libc::SYS_ioctl, &[5, command.into()]));
        }
        assert!(!stops(libc::SYS_ioctl, &[5, 0x5401]));
        assert!(stops(libc::SYS_ioctl, &[800, 0x5401]));
    }

    #[test]
    fn of_fcntl_only_what_a_pipe_answers_differently_stops() {
        assert!(stops(libc::SYS_fcntl, &[800, libc::F_GETFL as u64]));
        assert!(stops(libc::SYS_fcntl, &[800, libc::F_DUPFD_CLOEXEC as u64]));
        assert!(!stops(libc::SYS_fcntl, &[800, libc::F_SETFL as u64]));
        assert!(!stops(libc::SYS_fcntl, &[5, libc::F_GETFL as u64]));
    }

    #[test]
    fn mappings_stop_only_for_a_descriptor_that_counts() {
        let map = |flags: i32, fd| stops(libc::SYS_mmap, &[0, 4096, 3, flags as u64, fd]);
        assert!(map(libc::MAP_SHARED, 800));
        assert!(!map(libc::MAP_SHARED, 5));
        assert!(!map(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, 800));
    }

    #[test]
    fn both_descriptors_of_a_transfer_count() {
        assert!(stops(libc::SYS_splice, &[5, 0, 800]));
        assert!(stops(libc::SYS_splice, &[800, 0, 5]));
        assert!(stops(libc::SYS_tee, &[5, 800]));
        assert!(!stops(libc::SYS_sendfile, &[5, 6, 0, 800]));
    }

    #[test]
    fn a_stat_of_a_descriptor_is_no_path() {
        let empty = u64::from(AT_EMPTY_PATH);
        for (call, flags) in [(libc::SYS_newfstatat, 3), (libc::SYS_statx, 2)] {
            let stat = |fd, flag| {
                let mut arguments = [fd, 0, 0, 0, 0];
                arguments[flags] = flag;
                stops(call, &arguments)
            };
            assert!(stat(AT_CWD, 0) && stat(5, 0) && stat(AT_CWD, empty) && stat(800, empty));
            assert!(!stat(5, empty));
        }
    }

    #[test]
    fn paths_stop_and_everything_else_passes() {
        for call in PATH_CALLS.iter().chain(native::LEGACY_PATH_CALLS) {
            assert!(stops(*call, &[AT_CWD]), "call {call}");
        }
        for call in [libc::SYS_close, libc::SYS_getppid, libc::SYS_ppoll, libc::SYS_execve, libc::SYS_lseek] {
            assert!(!stops(call, &[800]), "call {call}");
        }
    }

    #[test]
    fn programs_of_another_architecture_stop_only_to_be_warned_of() {
        const I386: u32 = 0x4000_0003;
        assert_eq!(runs_to(I386, native::COMPAT_OPEN[0], &[]), SECCOMP_RET_USER_NOTIF);
        assert_eq!(runs_to(I386, native::COMPAT_OPEN[1], &[]), SECCOMP_RET_USER_NOTIF);
        assert_eq!(runs_to(I386, 3, &[800]), SECCOMP_RET_ALLOW);
        assert_eq!(runs_to(I386, libc::SYS_ioctl as u32, &[800]), SECCOMP_RET_ALLOW);
    }

    #[test]
    fn the_program_is_short_enough_for_the_kernel() {
        assert!(program(&RANGE).len() < 4096);
    }
}
