// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hypercall that has left the guest: by KVM's Xen support, or by a port where KVM has none.

use evtchn_abi::Errno;
use kvm_bindings::{kvm_regs, kvm_run};

use crate::sys;

/// What the guest asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hypercall {
    /// Which hypercall.
    pub number: u64,
    /// Its arguments, in Xen's order.
    pub args: [u64; 5],
    /// Are its arguments those of 64-bit code?
    pub long_mode: bool,
    /// The privilege level it was made with. Xen answers EPERM to all but 0: see [`Hypercall::refusal`].
    pub cpl: u8,
}

impl Hypercall {
    /// The hypercall for which `KVM_RUN` has returned; kvm-ioctls calls that exit
    /// [`Unsupported`](kvm_ioctls::VcpuExit::Unsupported)`(34)`.
    #[must_use]
    pub fn taken(run: &mut kvm_run) -> Option<Self> {
        let exit = sys::hypercall(run)?;
        let [a, b, c, d, e, _] = exit.params;
        let long_mode = exit.longmode != 0;
        #[allow(clippy::cast_possible_truncation)] // 0 to 3
        Some(Self { number: exit.input, args: [a, b, c, d, e], long_mode, cpl: exit.cpl as u8 })
    }

    /// Answers it: the guest finds `result` when it runs again.
    pub fn answer(run: &mut kvm_run, result: i64) {
        if let Some(exit) = sys::hypercall(run) {
            exit.result = result.cast_unsigned();
        }
    }

    /// The hypercall in the registers of a guest that has written to the port of a [`port_page`](crate::port_page).
    #[must_use]
    pub fn of_port(registers: &kvm_regs, long_mode: bool, cpl: u8) -> Self {
        let r = registers;
        let low = |register: u64| register & 0xffff_ffff;
        let args = if long_mode {
            [r.rdi, r.rsi, r.rdx, r.r10, r.r8]
        } else {
            [r.rbx, r.rcx, r.rdx, r.rsi, r.rdi].map(low)
        };
        Self { number: low(r.rax), args, long_mode, cpl }
    }

    /// The answer to a hypercall that the guest's kernel did not make; `None` if it did.
    #[must_use]
    pub fn refusal(&self) -> Option<i64> {
        (self.cpl != 0).then(|| Errno::EPERM.negated())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::{KVM_EXIT_XEN, KVM_EXIT_XEN_HCALL};

    const REGISTERS: kvm_regs = kvm_regs {
        rax: 0xffff_ffff_0000_0020,
        rbx: 0xf_0000_0001,
        rcx: 2,
        rdx: 3,
        rsi: 4,
        rdi: 5,
        r10: 6,
        r8: 7,
        rsp: 0,
        rbp: 0,
        r9: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rip: 0,
        rflags: 0,
    };

    #[test]
    fn arguments_are_in_the_registers_of_the_mode() {
        let long = Hypercall::of_port(&REGISTERS, true, 0);
        assert_eq!((long.number, long.args), (32, [5, 4, 3, 6, 7]));
        let short = Hypercall::of_port(&REGISTERS, false, 0);
        assert_eq!((short.number, short.args), (32, [1, 2, 3, 4, 5]));
    }

    #[test]
    fn only_the_kernel_may_call() {
        assert_eq!(Hypercall::of_port(&REGISTERS, true, 0).refusal(), None);
        assert_eq!(Hypercall::of_port(&REGISTERS, true, 3).refusal(), Some(-1));
    }

    #[test]
    fn a_hypercall_is_taken_from_the_exit_and_answered_there() {
        let mut run = kvm_run { exit_reason: KVM_EXIT_XEN, ..kvm_run::default() };
        run.__bindgen_anon_1.xen.type_ = KVM_EXIT_XEN_HCALL;
        let exit = sys::hypercall(&mut run).unwrap();
        (exit.input, exit.params, exit.longmode, exit.cpl) = (32, [1, 2, 3, 4, 5, 6], 1, 3);
        let call = Hypercall { number: 32, args: [1, 2, 3, 4, 5], long_mode: true, cpl: 3 };
        assert_eq!(Hypercall::taken(&mut run), Some(call));
        Hypercall::answer(&mut run, -38);
        assert_eq!(sys::hypercall(&mut run).unwrap().result, 0_u64.wrapping_sub(38));
    }

    #[test]
    fn an_answer_to_no_hypercall_goes_nowhere() {
        let mut run = kvm_run::default();
        Hypercall::answer(&mut run, -38);
        assert_eq!(Hypercall::taken(&mut run), None);
    }
}
