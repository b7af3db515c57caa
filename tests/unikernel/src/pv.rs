// SPDX-License-Identifier: MIT OR Apache-2.0
//! The start of a PV guest.

use core::slice;

use evtchn_abi::{CallbackOp, Hypercall as Number, Port};
use evtchn_hypercall::cpuid::{self, Leaves};
use evtchn_hypercall::{Gate, Xen};
use evtchn_sync::HeapPage;

use crate::console::{Console, Ring};
use crate::machine::{Kind, Machine, SHARED_INFO};
use crate::start::{HYPERCALL_PAGE, pv_event, pv_failsafe};

/// What Xen tells a PV guest: `start_info` of Xen's public `xen.h`, as far as it is used.
#[repr(C)]
struct StartInfo {
    magic: [u8; 32],
    nr_pages: u64,
    /// The machine address of shared_info.
    shared_info: u64,
    flags: u32,
    store_mfn: u64,
    store_evtchn: u32,
    console_mfn: u64,
    console_evtchn: u32,
    pt_base: u64,
    nr_pt_frames: u64,
    mfn_list: *const u64,
}

/// The argument of `callback_op`'s `register`, `callback_register` of Xen's public `callback.h`.
#[repr(C)]
struct CallbackRegister {
    kind: u16,
    flags: u16,
    address: u64,
}

const CALLBACK_EVENT: u16 = 0;
const CALLBACK_FAILSAFE: u16 = 1;

const UPDATE_VA_MAPPING: u32 = 14;
/// Present, writable, for the guest's kernel (which is a user for the processor), accessed, dirty.
const PTE_FLAGS: u64 = 0x67;
/// Forget the old translation on this processor.
const INVALIDATE_LOCAL: u64 = 2;

static CONSOLE: HeapPage = HeapPage::new();

/// Called by `pv_start`.
#[unsafe(no_mangle)]
unsafe extern "C" fn pv_main(start_info: *const StartInfo) -> ! {
    // SAFETY: Xen has filled the page (and we run below it, as the note for this entry says); what this program shares with Xen are
    // its `HeapPage`s.
    let xen = unsafe { Xen::new(Gate::page(&raw const HYPERCALL_PAGE)) };
    // SAFETY: Xen gives its address, and changes it no more.
    let info = unsafe { &*start_info };
    // SAFETY: as long as that, by Xen's word.
    let frames = unsafe { slice::from_raw_parts(info.mfn_list, info.nr_pages as usize) };
    map(xen, &SHARED_INFO, info.shared_info / 4096);
    map(xen, &CONSOLE, info.console_mfn);
    let console = Console::Ring(Ring { xen, page: &CONSOLE, port: Port(info.console_evtchn) });
    register(xen, CALLBACK_EVENT, pv_event);
    register(xen, CALLBACK_FAILSAFE, pv_failsafe);
    // SAFETY: in a PV guest.
    let leaves = Leaves::find(|leaf| unsafe { cpuid::emulated(leaf) }).expect("no leaves of Xen's");
    crate::run(Machine { xen, kind: Kind::Pv(frames), version: leaves.version(), console, has_polls: true })
}

/// Puts a frame of the machine in the place of a page of the program.
fn map(xen: Xen, page: &'static HeapPage, frame: u64) {
    let address = core::ptr::from_ref(page).expose_provenance() as u64;
    // SAFETY: the page is seen as atomics only, and has had nothing in it.
    let result =
        unsafe { xen.call(UPDATE_VA_MAPPING, [address, frame << 12 | PTE_FLAGS, INVALIDATE_LOCAL, 0, 0]) };
    assert!(result == 0, "a frame cannot be mapped");
}

fn register(xen: Xen, kind: u16, entry: unsafe extern "C" fn()) {
    let argument = CallbackRegister { kind, flags: 0, address: entry as usize as u64 };
    let address = (&raw const argument).expose_provenance() as u64;
    // SAFETY: Xen reads the structure; the entries are made for that.
    let result =
        unsafe { xen.call(Number::CALLBACK_OP.0 as u32, [CallbackOp::REGISTER.0.into(), address, 0, 0, 0]) };
    assert!(result == 0, "an entry cannot be registered");
}
