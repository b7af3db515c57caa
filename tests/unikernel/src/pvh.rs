// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start of a PVH guest.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ffi::CStr;

use evtchn_abi::{CallbackVia, DomId, HvmParam, Port};
use evtchn_guest::Hypercall;
use evtchn_hypercall::cpuid::{self, Leaves};
use evtchn_hypercall::{Gate, Xen};
use evtchn_sync::HeapPage;

use crate::apic;
use crate::console::{Console, Ring};
use crate::events::V0;
use crate::machine::{Kind, Machine, SHARED_INFO};
use crate::start::{HYPERCALL_PAGE, pvh_event, pvh_fault};

/// The vector of upcalls.
const VECTOR: u8 = 0xf3;

/// `memory_op` and its command `XENMEM_add_to_physmap`, with its argument (Xen's public `memory.h`).
const MEMORY_OP: u32 = 12;
const ADD_TO_PHYSMAP: u64 = 7;

#[repr(C)]
struct AddToPhysmap {
    domid: u16,
    size: u16,
    /// 0 for shared_info.
    space: u32,
    index: u64,
    frame: u64,
}

/// Called by `pvh_start`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pvh_main(start_info: *const StartInfo) -> ! {
    // SAFETY: whoever starts a guest this way has put it there.
    let options = Options::of(unsafe { &*start_info });
    let leaves = Leaves::find(cpuid::native).expect("this is not Xen");
    let gate = Gate::of_processor().expect("the processor is unknown");
    load_interrupts();

    let page = &raw const HYPERCALL_PAGE;
    // SAFETY: a static.
    let hypercall_page = unsafe { &*page };
    // SAFETY: the MSR is what Xen says, and the address is physical, too.
    unsafe { hypercall_page.register(leaves.hypercall_page_msr(), page.addr() as u64) };
    // SAFETY: in a PVH guest's kernel mode, and the page has been filled; what this program shares with Xen are its `HeapPage`s.
    let xen = unsafe { Xen::new(Gate::page(page)) };
    // By the processor's instruction besides, to have tried it; not where it is not Xen's.
    // SAFETY: as above.
    let first = if options.has_instruction { unsafe { Xen::new(gate) } } else { xen };
    map_shared_info(first);
    if options.vcpu_vector {
        apic::start();
        first.set_upcall_vector(V0, VECTOR).expect("upcalls by the vCPU's vector");
    } else {
        first.set_callback(CallbackVia::Vector(VECTOR)).expect("upcalls by vector");
    }
    let (console, has_polls) = (console(xen), options.has_polls);
    crate::run(Machine { xen, kind: Kind::Pvh, version: leaves.version(), console, has_polls })
}

fn console(xen: Xen) -> Console {
    let [frame, port] = [HvmParam::CONSOLE_PFN, HvmParam::CONSOLE_EVTCHN].map(|param| xen.hvm_param(param));
    let (Ok(frame), Ok(port)) = (frame, port) else { return Console::Debug(xen) };
    // SAFETY: Xen has memory for the console there, below 4 GiB, which nobody else uses.
    let page = unsafe { &*core::ptr::with_exposed_provenance::<HeapPage>(frame as usize * 4096) };
    Console::Ring(Ring { xen, page, port: Port(port as u32) })
}

/// What a PVH guest is told, as far as it is used (Xen's public `arch-x86/hvm/start_info.h`).
#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    modules: u32,
    module_list: u64,
    /// The physical address of the command line; 0 for none.
    command_line: u64,
}

/// What the words of the command line say of the machine.
struct Options {
    /// Not `no-instruction`: the processor's instruction for hypercalls leads to Xen.
    has_instruction: bool,
    /// `vcpu-vector`: upcalls come by a vector of the vCPU, not of the domain.
    vcpu_vector: bool,
    /// Not `no-polls`: `SCHEDOP_poll` waits.
    has_polls: bool,
}

impl Options {
    fn of(info: &StartInfo) -> Self {
        let line = match info.command_line {
            0 => c"",
            // SAFETY: a text that ends with a 0, as the interface has it, in memory that is mapped to itself.
            address => unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance(address as usize)) },
        };
        let has = |wanted: &[u8]| line.to_bytes().split(|&byte| byte == b' ').any(|word| word == wanted);
        Self {
            has_instruction: !has(b"no-instruction"),
            vcpu_vector: has(b"vcpu-vector"),
            has_polls: !has(b"no-polls"),
        }
    }
}

fn map_shared_info(xen: Xen) {
    let frame = core::ptr::from_ref(&SHARED_INFO).expose_provenance() as u64 / 4096;
    let argument = AddToPhysmap { domid: DomId::SELF.0, size: 0, space: 0, index: 0, frame };
    let address = (&raw const argument).expose_provenance() as u64;
    // SAFETY: the page is seen as atomics only, and has had nothing in it.
    let result = unsafe { xen.call(MEMORY_OP, [ADD_TO_PHYSMAP, address, 0, 0, 0]) };
    assert!(result == 0, "shared_info cannot be mapped");
}

/// The processor's table of interrupts: two words each.
#[repr(align(16))]
struct Interrupts(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: filled once, by the only vCPU.
unsafe impl Sync for Interrupts {}

static INTERRUPTS: Interrupts = Interrupts(UnsafeCell::new([[0; 2]; 256]));

#[repr(C, packed)]
struct Place {
    limit: u16,
    address: u64,
}

fn load_interrupts() {
    let table = INTERRUPTS.0.get();
    let mut gates = [[0; 2]; 256];
    gates[..32].fill(gate(pvh_fault));
    gates[usize::from(VECTOR)] = gate(pvh_event);
    // SAFETY: nobody else uses the table before it is loaded.
    unsafe { table.write(gates) };
    let place = Place { limit: 4095, address: table.expose_provenance() as u64 };
    // SAFETY: the table is complete, and stays.
    unsafe { asm!("lidt [{}]", in(reg) &raw const place, options(readonly, nostack, preserves_flags)) };
}

/// An interrupt gate of 64-bit mode: present, in the code segment 8, with interrupts kept out.
fn gate(entry: unsafe extern "C" fn()) -> [u64; 2] {
    let address = entry as usize as u64;
    [address & 0xffff | 8 << 16 | 0x8e00 << 32 | (address >> 16 & 0xffff) << 48, address >> 32]
}
