// SPDX-License-Identifier: MIT OR Apache-2.0
//! A hypercall page of our own code in the place of Xen's, which notes what comes in and spoils what it may.
#![allow(missing_docs)]
#![allow(unsafe_code)]
#![cfg(target_arch = "x86_64")]
// UNSAFETY: the stand-in for Xen is assembly, and calling it is unsafe.

use core::arch::{asm, global_asm};
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard};

use evtchn_abi::{CallbackVia, DomId, Errno, HvmOp, Op, PhysdevOp, Port, SchedOp, VcpuId, VcpuOp};
use evtchn_guest::Hypercall;
use evtchn_hypercall::{Gate, HypercallPage, Xen};

// As in Xen's page: an entry of 32 bytes for each number, which uses the stack and gives RCX and R11 back. The common part
// notes the number, RDI, RSI, RDX, R10, R8, the stack pointer and the flags; spoils the arguments' registers; and answers with
// `stub_result`. If RSI, or with vcpu_op RDX, is not 0, it is taken for an argument, and its first byte inverted.
global_asm!(
    ".pushsection .text",
    ".balign 4096",
    "stub_page:",
    ".set number, 0",
    ".rept 128",
    ".balign 32",
    "push rcx",
    "push r11",
    "mov eax, number",
    "jmp stub_common",
    ".set number, number + 1",
    ".endr",
    ".balign 4096",
    "stub_common:",
    "pushfq",
    "lea rcx, [rip + stub_seen]",
    "mov [rcx], rax",
    "mov [rcx + 8], rdi",
    "mov [rcx + 16], rsi",
    "mov [rcx + 24], rdx",
    "mov [rcx + 32], r10",
    "mov [rcx + 40], r8",
    "mov [rcx + 48], rsp",
    "pop r11",
    "mov [rcx + 56], r11",
    "cmp eax, 24",
    "cmove rsi, rdx",
    "test rsi, rsi",
    "jz 2f",
    "not byte ptr [rsi]",
    "2:",
    "mov rdi, -1",
    "mov rsi, -1",
    "mov rdx, -1",
    "mov r10, -1",
    "mov r8, -1",
    "mov r9, -1",
    "mov rax, [rip + stub_result]",
    "pop r11",
    "pop rcx",
    "ret",
    ".popsection",
    ".pushsection .bss",
    ".balign 8",
    "stub_seen: .skip 64",
    "stub_result: .skip 8",
    ".popsection",
);

unsafe extern "C" {
    static stub_page: HypercallPage;
    static mut stub_seen: [u64; 8];
    static mut stub_result: i64;
}

/// What the stand-in saw of a hypercall.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    number: u64,
    args: [u64; 5],
}

/// The stand-in, for one test at a time.
struct Stub {
    xen: Xen,
    _alone: MutexGuard<'static, ()>,
}

impl Stub {
    fn answering(result: i64) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: alone by the lock.
        unsafe { stub_result = result };
        // SAFETY: nothing of memory is touched but the statics above and the first byte of an argument.
        let xen = unsafe { Xen::new(Gate::page(&raw const stub_page)) };
        let stub = Self { xen, _alone: alone };
        stub.words(); // what the last test has left
        stub
    }

    /// The eight words, zeroed.
    fn words(&self) -> [u64; 8] {
        let words = &raw mut stub_seen;
        // SAFETY: alone by the lock.
        unsafe { words.replace([0; 8]) }
    }

    fn seen(&self) -> Seen {
        let [number, rdi, rsi, rdx, r10, r8, ..] = self.words();
        Seen { number, args: [rdi, rsi, rdx, r10, r8] }
    }
}

fn address<T>(of: &T) -> u64 {
    std::ptr::from_ref(of).addr() as u64
}

#[test]
fn arguments_and_the_result_are_in_their_registers() {
    for result in [0, -22, i64::MAX, i64::MIN] {
        let stub = Stub::answering(result);
        let mut byte = 0x0f_u8;
        let args = [11, (&raw mut byte).expose_provenance() as u64, 33, 44, 55];
        // SAFETY: the stand-in changes the byte only.
        assert_eq!(unsafe { stub.xen.call(32, args) }, result);
        assert_eq!(stub.seen(), Seen { number: 32, args });
        assert_eq!(byte, 0xf0, "a write by the hypervisor was not seen");
    }
}

#[test]
fn each_number_has_its_entry() {
    let stub = Stub::answering(0);
    for number in 0..128 {
        // SAFETY: no argument.
        unsafe { stub.xen.call(number, [0; 5]) };
        assert_eq!(stub.seen().number, u64::from(number));
    }
}

/// What is in registers and below the stack pointer survives: many values are alive across the call.
#[inline(never)]
fn sums(xen: Xen, seed: u64) -> [u64; 24] {
    let mut values = [0; 24];
    for (index, value) in (0u64..).zip(values.iter_mut()) {
        *value = seed.wrapping_mul(index + 3).rotate_left(7);
    }
    for turn in 0..3 {
        // SAFETY: no argument is taken for an address.
        let result = unsafe { xen.call(29, [turn, 0, values[1], values[2], values[3]]) };
        for (index, value) in (0u64..).zip(values.iter_mut()) {
            *value = value.wrapping_add(result as u64).wrapping_add(index ^ turn);
        }
    }
    values
}

#[test]
fn what_the_caller_has_in_registers_and_on_its_stack_survives() {
    let stub = Stub::answering(5);
    let seed = std::hint::black_box(0x1234_5678_9abc_def1);
    let values = sums(stub.xen, seed);
    for (index, value) in (0u64..).zip(values) {
        let start = seed.wrapping_mul(index + 3).rotate_left(7);
        let expected = (0..3).fold(start, |sum, turn| sum.wrapping_add(5).wrapping_add(index ^ turn));
        assert_eq!(value, expected, "{index}");
    }
}

#[test]
fn the_stack_has_room_and_is_aligned() {
    let stub = Stub::answering(0);
    // SAFETY: no argument.
    unsafe { stub.xen.call(0, [0; 5]) };
    let words = stub.words();
    // Aligned at the call, then the return address, two registers and the flags.
    assert_eq!((words[6] + 4 * 8) % 16, 0);
    let here: u64;
    // SAFETY: reads the stack pointer.
    unsafe { asm!("mov {}, rsp", out(reg) here, options(nomem, nostack)) };
    assert!(here.abs_diff(words[6]) < 64 << 10);
    assert_eq!(words[7] & 1 << 10, 0, "the direction flag is set");
}

#[test]
fn operations_pass_their_argument_in_memory_and_see_what_xen_writes() {
    let stub = Stub::answering(0);
    let mut arg = [0x0f, 2, 3, 4];
    assert_eq!(stub.xen.event_channel_op(Op::SEND, &mut arg), Ok(()));
    assert_eq!(arg, [0xf0, 2, 3, 4]);
    assert_eq!(stub.seen(), Seen { number: 32, args: [4, address(&arg), 0, 0, 0] });
    // The first byte of the structure is that of the domain, the port is 0 as before.
    assert_eq!(stub.xen.alloc_unbound(DomId(1), DomId(2)), Ok(Port(0)));
    assert_eq!(stub.xen.status(DomId(1), Port(2)).unwrap().dom, DomId(0xfe));
}

#[test]
fn the_other_hypercalls_have_their_numbers_and_registers() {
    let stub = Stub::answering(0);
    let xen = stub.xen;
    xen.set_timer_op(NonZeroU64::new(77)).unwrap();
    assert_eq!(stub.seen(), Seen { number: 15, args: [77, 0, 0, 0, 0] });
    xen.set_timer_op(None).unwrap();
    assert_eq!(stub.seen(), Seen { number: 15, args: [0; 5] });
    xen.block().unwrap();
    assert_eq!(stub.seen(), Seen { number: 29, args: [1, 0, 0, 0, 0] });
    let first_three = |seen: Seen| (seen.number, seen.args[0], seen.args[1] != 0, seen.args[2]);
    xen.shutdown(3).unwrap();
    assert_eq!(first_three(stub.seen()), (29, 2, true, 0));
    xen.poll(&[Port(1)], None).unwrap();
    assert_eq!(first_three(stub.seen()), (29, 3, true, 0));
    xen.set_callback(CallbackVia::None).unwrap();
    assert_eq!(first_three(stub.seen()), (34, 0, true, 0));
    xen.pirq_eoi(evtchn_abi::Pirq(1)).unwrap();
    assert_eq!(first_three(stub.seen()), (33, 12, true, 0));
    xen.stop_periodic_timer(VcpuId(4)).unwrap();
    assert_eq!(stub.seen(), Seen { number: 24, args: [7, 4, 0, 0, 0] });
    let mut period = [0x0f; 8];
    xen.vcpu_op(VcpuOp::SET_PERIODIC_TIMER, VcpuId(4), &mut period).unwrap();
    assert_eq!((period[0], stub.seen().args), (0xf0, [6, 4, address(&period), 0, 0]));
}

#[test]
fn an_answer_is_an_error_or_a_value() {
    assert_eq!(Stub::answering(-22).xen.send(Port(1)), Err(Errno::EINVAL));
    assert_eq!(Stub::answering(-38).xen.block(), Err(Errno::ENOSYS));
    assert_eq!(Stub::answering(1).xen.vcpu_is_up(VcpuId(0)), Ok(true));
    assert_eq!(Stub::answering(0).xen.vcpu_is_up(VcpuId(0)), Ok(false));
}

#[test]
fn an_argument_that_is_too_short_is_not_shown_to_xen() {
    let stub = Stub::answering(0);
    for op in Op::ALL {
        assert_eq!(stub.xen.event_channel_op(*op, &mut [0; 1]), Err(Errno::EFAULT), "{op}");
    }
    assert_eq!(stub.xen.event_channel_op(Op::STATUS, &mut [0; 23]), Err(Errno::EFAULT));
    assert_eq!(stub.xen.sched_op(SchedOp::SHUTDOWN, &mut [0; 3]), Err(Errno::EFAULT));
    assert_eq!(stub.xen.vcpu_op(VcpuOp::REGISTER_VCPU_INFO, VcpuId(0), &mut [0; 15]), Err(Errno::EFAULT));
    assert_eq!(stub.xen.hvm_op(HvmOp::GET_PARAM, &mut [0; 15]), Err(Errno::EFAULT));
    assert_eq!(stub.xen.physdev_op(PhysdevOp::EOI, &mut [0; 3]), Err(Errno::EFAULT));
    assert_eq!(stub.words(), [0; 8], "Xen was asked");
}

#[test]
fn what_has_other_addresses_in_it_or_is_unknown_is_not_shown_to_xen() {
    let stub = Stub::answering(0);
    let mut arg = [0; 64];
    assert_eq!(stub.xen.event_channel_op(Op(15), &mut arg), Err(Errno::ENOSYS));
    assert_eq!(stub.xen.sched_op(SchedOp::POLL, &mut arg), Err(Errno::ENOSYS));
    for op in [VcpuOp::INITIALISE, VcpuOp::REGISTER_RUNSTATE_MEMORY_AREA, VcpuOp(13)] {
        assert_eq!(stub.xen.vcpu_op(op, VcpuId(0), &mut arg), Err(Errno::ENOSYS), "{op}");
    }
    assert_eq!(stub.xen.hvm_op(HvmOp(2), &mut arg), Err(Errno::ENOSYS));
    assert_eq!(stub.xen.physdev_op(PhysdevOp::MAP_PIRQ, &mut arg), Err(Errno::ENOSYS));
    assert_eq!(stub.words(), [0; 8], "Xen was asked");
}

#[test]
fn the_page_is_a_page() {
    assert_eq!((size_of::<HypercallPage>(), align_of::<HypercallPage>()), (4096, 4096));
    assert!(format!("{:?}", HypercallPage::default()).starts_with("HypercallPage(0x"));
}
