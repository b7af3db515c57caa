// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest in Rust that tries its event channels on a real Xen: without std, libc, or anything of C.
//!
//! It starts as a PV or as a PVH guest (`start.rs`), says on its console what it tries, and powers off. The last line is
//! `unikernel: passed` or `unikernel: failed: ...`.
//!
//! `core` comes compiled with a red zone, which an upcall's frame would overwrite: so upcalls are let in only where no function of `core` that
//! is not compiled here is under way, such as formatting.
#![no_std]
#![no_main]

mod apic;
mod clock;
mod console;
mod events;
mod machine;
mod memory;
mod pv;
mod pvh;
mod script;
mod start;
mod trials;

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::panic::PanicInfo;

use evtchn_guest::Hypercall;

use machine::Machine;

/// The machine, for the entries that have no argument.
struct Global(UnsafeCell<Option<Machine>>);

// SAFETY: written once, by the only vCPU, before upcalls are let in.
unsafe impl Sync for Global {}

static MACHINE: Global = Global(UnsafeCell::new(None));

fn machine() -> Option<Machine> {
    // SAFETY: not written any more when it is read.
    unsafe { *MACHINE.0.get() }
}

/// What the guest does, however it was started.
fn run(machine: Machine) -> ! {
    machine.shut();
    // SAFETY: nobody reads it yet.
    unsafe { *MACHINE.0.get() = Some(machine) };
    let mut console = machine.console;
    let (major, minor) = machine.version;
    let _ = writeln!(console, "unikernel: {} guest on Xen {major}.{minor}", machine.name());
    trials::all(&machine);
    let _ = writeln!(console, "unikernel: passed");
    stop(&machine, 0)
}

fn stop(machine: &Machine, reason: u32) -> ! {
    machine.console.flush();
    let _ = machine.xen.shutdown(reason);
    loop {
        core::hint::spin_loop();
    }
}

/// An exception of a PVH guest; a PV guest has none of its own but this way for bad segments.
#[unsafe(no_mangle)]
extern "C" fn on_fault() -> ! {
    panic!("an exception");
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let Some(machine) = machine() else {
        loop {
            core::hint::spin_loop();
        }
    };
    machine.shut();
    let mut console = machine.console;
    let _ = writeln!(console, "unikernel: failed: {info}");
    stop(&machine, 0)
}
