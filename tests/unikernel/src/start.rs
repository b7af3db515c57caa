// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the guest begins, and where upcalls enter it: what cannot be written in Rust.
//!
//! The ELF notes (Xen's public `elfnote.h`) offer two ways to start: as a PV guest in 64-bit mode, with page tables and a filled
//! hypercall page; and as a PVH guest in 32-bit mode without paging, by the way of `arch-x86/hvm/start_info.h`.

use core::arch::global_asm;

use evtchn_hypercall::HypercallPage;

unsafe extern "C" {
    /// A page of the program, for the code by which hypercalls are made. A PV guest finds it filled.
    #[link_name = "hypercall_page"]
    pub static HYPERCALL_PAGE: HypercallPage;

    /// Where a PV guest's upcalls enter.
    pub fn pv_event();
    /// Where Xen enters a PV guest whose segments it cannot load.
    pub fn pv_failsafe();
    /// Where a PVH guest's upcalls enter.
    pub fn pvh_event();
    /// Where a PVH guest's exceptions enter.
    pub fn pvh_fault();
}

// The notes. Types: entry 1, hypercall page 2, virtual base 3, offset of physical addresses 4, interface version 5, name of the system 6,
// loader 8, page tables 9, 32-bit entry 18.
global_asm!(
    ".macro number kind, value",
    ".long 4, 8, \\kind",
    ".asciz \"Xen\"",
    ".quad \\value",
    ".endm",
    ".macro text kind, value",
    ".long 4, 2f - 1f, \\kind",
    ".asciz \"Xen\"",
    "1: .asciz \"\\value\"",
    "2: .balign 4",
    ".endm",
    ".pushsection .note.Xen, \"a\", @note",
    ".balign 4",
    "number 1, pv_start",
    "number 2, hypercall_page",
    "number 3, 0",
    "number 4, 0",
    "text 5, xen-3.0",
    "text 6, evtchn",
    "text 8, generic",
    "text 9, yes",
    "number 18, pvh_start",
    ".popsection",
    ".pushsection .text.hypercall_page, \"ax\"",
    ".balign 4096",
    ".globl hypercall_page",
    "hypercall_page: .skip 4096, 0xcc",
    ".popsection",
    ".pushsection .bss.stack, \"aw\", @nobits",
    ".balign 4096",
    ".skip 65536",
    "stack_top:",
    ".popsection",
);

// PV. The start info is at RSI.
global_asm!(
    ".pushsection .text.start, \"ax\"",
    ".globl pv_start",
    "pv_start:",
    "cld",
    "lea rsp, [rip + stack_top]",
    "xor ebp, ebp",
    "mov rdi, rsi",
    "call pv_main",
    "ud2",
    ".popsection",
);

// The registers that a function may change, those of the floating point, too: saved, the function called, restored.
global_asm!(
    ".macro around function",
    "push rax",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push rbp",
    "mov rbp, rsp",
    "sub rsp, 512",
    "and rsp, -16",
    "fxsave64 [rsp]",
    "cld",
    "call \\function",
    "fxrstor64 [rsp]",
    "mov rsp, rbp",
    "pop rbp",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rax",
    ".endm",
);

// A PV upcall: Xen has masked upcalls, and put RCX and R11 below the usual frame. The way back is hypercall 23, `iret`, which unmasks them;
// its entry of the page is jumped to, with a word of flags below the frame.
global_asm!(
    ".pushsection .text.upcalls, \"ax\"",
    ".globl pv_event",
    "pv_event:",
    "pop rcx",
    "pop r11",
    "around on_upcall",
    "push 0",
    "jmp hypercall_page + 23 * 32",
    ".globl pv_failsafe",
    "pv_failsafe:",
    "and rsp, -16",
    "call on_fault",
    "ud2",
    ".globl pvh_event",
    "pvh_event:",
    "around on_upcall",
    "iretq",
    ".globl pvh_fault",
    "pvh_fault:",
    "and rsp, -16",
    "call on_fault",
    "ud2",
    ".popsection",
);

// PVH. The start info is at EBX. The first 4 GiB are mapped to themselves, by pages of 2 MiB; then 64-bit mode, with SSE.
global_asm!(
    ".pushsection .text.start, \"ax\"",
    ".code32",
    ".globl pvh_start",
    "pvh_start:",
    "cli",
    "cld",
    "mov esp, offset stack_top",
    // The second level: 2048 pages.
    "mov edi, offset level2",
    "mov eax, 0x83", // present, writable, large
    "3: mov [edi], eax",
    "mov dword ptr [edi + 4], 0",
    "add edi, 8",
    "add eax, 0x200000",
    "jnc 3b",
    // The third level: four tables of the second.
    "mov edi, offset level3",
    "mov eax, offset level2 + 3",
    "mov ecx, 4",
    "4: mov [edi], eax",
    "add edi, 8",
    "add eax, 4096",
    "dec ecx",
    "jnz 4b",
    "mov dword ptr [level4], offset level3 + 3",
    "mov eax, cr4",
    "or eax, 0x620", // PAE, and the two bits of SSE
    "mov cr4, eax",
    "mov eax, offset level4",
    "mov cr3, eax",
    "mov ecx, 0xc0000080", // EFER: 64-bit mode
    "rdmsr",
    "or eax, 0x100",
    "wrmsr",
    "mov eax, cr0",
    "and eax, ~0xc", // no emulation, no task switch
    "or eax, 0x80000002",
    "mov cr0, eax",
    "lgdt [descriptors_place]",
    "mov eax, 0x10",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "push 8",
    "mov eax, offset pvh_long",
    "push eax",
    "retf",
    ".code64",
    "pvh_long:",
    "lea rsp, [rip + stack_top]",
    "xor ebp, ebp",
    "mov edi, ebx",
    "call pvh_main",
    "ud2",
    ".balign 8",
    "descriptors: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "descriptors_place: .word 23",
    ".long descriptors",
    ".popsection",
    ".pushsection .bss.tables, \"aw\", @nobits",
    ".balign 4096",
    "level4: .skip 4096",
    "level3: .skip 4096",
    "level2: .skip 16384",
    ".popsection",
);
