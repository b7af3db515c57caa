// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hypercalls in a kernel of its own. Nobody is below it, so a hypercall page is played by a few instructions; those of the
//! processor are linked and not executed.
#![no_std]
#![no_main]

use core::arch::global_asm;
use core::hint::black_box;

use evtchn_abi::{Errno, Op, Port, VcpuId};
use evtchn_guest::Hypercall;
use evtchn_hypercall::cpuid::{self, Leaves};
use evtchn_hypercall::{Gate, HypercallPage, Xen};
use evtchn_link::{check, program};

program!(&[instructions, leaves, registers, operations]);

// Each entry answers its number and spoils what it may; that of event_channel_op (32) writes 7 to the second word of its
// argument, and answers 0.
global_asm!(
    ".balign 4096",
    "page:",
    ".set number, 0",
    ".rept 128",
    ".balign 32",
    "mov eax, number",
    "jmp common",
    ".set number, number + 1",
    ".endr",
    "common:",
    "cmp eax, 32",
    "jne 1f",
    "mov dword ptr [rsi + 4], 7",
    "xor eax, eax",
    "1:",
    "mov rdi, -1",
    "mov rsi, -1",
    "mov rdx, -1",
    "mov r10, -1",
    "mov r8, -1",
    "mov r9, -1",
    "ret",
);

unsafe extern "C" {
    #[link_name = "page"]
    static PAGE: HypercallPage;
}

fn xen() -> Xen {
    // SAFETY: the page above touches an argument's second word, which those here have.
    unsafe { Xen::new(Gate::page(&raw const PAGE)) }
}

fn instructions() -> Option<()> {
    // Not known to the compiler, so all ways in are there; a step that is never taken uses them.
    let gate = black_box(Gate::of_processor().unwrap_or(Gate::VMCALL));
    if black_box(false) {
        // SAFETY: never executed.
        unsafe { Xen::new(gate).call(29, [0; 5]) };
    }
    check(gate == Gate::VMCALL || gate == Gate::VMMCALL)
}

fn leaves() -> Option<()> {
    // Under Xen itself there are some.
    Leaves::find(cpuid::native).is_none_or(|xen| xen.version().0 >= 3).then_some(())
}

fn registers() -> Option<()> {
    // SAFETY: numbers only.
    let answers = [0, 1, 127].map(|number| unsafe { xen().call(number, [1, 2, 3, 4, 5]) });
    check(answers == [0, 1, 127])
}

fn operations() -> Option<()> {
    check(xen().bind_ipi(VcpuId(0)) == Ok(Port(7)))?;
    check(xen().event_channel_op(Op::SEND, &mut [0; 3]) == Err(Errno::EFAULT))?;
    check(xen().poll(&[Port(1)], None) == Ok(()))
}
