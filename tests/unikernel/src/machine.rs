// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the two kinds of guests give to the same program.

use core::arch::asm;
use core::sync::atomic::Ordering::SeqCst;

use evtchn_abi::{Gfn, Layout};
use evtchn_guest::Hypercall;
use evtchn_hypercall::Xen;
use evtchn_sync::{HeapPage, Page};

use crate::console::Console;

/// The page that Xen puts shared_info in the place of.
pub static SHARED_INFO: HeapPage = HeapPage::new();

/// How the guest was started.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Paravirtual; the machine's frame of each of the guest's.
    Pv(&'static [u64]),
    /// With the processor's help, and 1 to 1 page tables.
    Pvh,
}

/// A guest that can run.
#[derive(Clone, Copy)]
pub struct Machine {
    /// Its hypercalls.
    pub xen: Xen,
    /// How it was started.
    pub kind: Kind,
    /// The release of the Xen below it.
    pub version: (u16, u16),
    /// Its console.
    pub console: Console,
    /// Does `SCHEDOP_poll` wait? Where KVM answers it, it does not.
    pub has_polls: bool,
}

impl Machine {
    /// As people say it.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Pv(_) => "PV",
            Kind::Pvh => "PVH",
        }
    }

    /// May the guest announce an event to itself? Only Xen can interrupt one that has interrupts.
    pub fn announces_itself(&self) -> bool {
        matches!(self.kind, Kind::Pv(_))
    }

    /// A page of the program, as Xen calls it.
    pub fn gfn(&self, page: &'static HeapPage) -> Gfn {
        let frame = core::ptr::from_ref(page).addr() / 4096;
        Gfn(match self.kind {
            Kind::Pv(frames) => frames[frame],
            Kind::Pvh => frame as u64,
        })
    }

    /// Lets upcalls in. One that waits comes at once.
    pub fn open(&self) {
        match self.kind {
            Kind::Pv(_) => {
                mask().store(0, SeqCst);
                if SHARED_INFO
                    .u8(Layout::X86_64.upcall_pending)
                    .is_some_and(|pending| pending.load(SeqCst) != 0)
                {
                    // Xen looks on the way back from any hypercall.
                    let _ = self.xen.yield_now();
                }
            }
            // SAFETY: the table of interrupts is complete.
            Kind::Pvh => unsafe { asm!("sti") },
        }
    }

    /// Keeps upcalls out.
    pub fn shut(&self) {
        match self.kind {
            Kind::Pv(_) => mask().store(1, SeqCst),
            // SAFETY: interrupts may come late.
            Kind::Pvh => unsafe { asm!("cli") },
        }
    }

    /// Sleeps until an upcall. Called with upcalls kept out, and returns so, after it has been handled.
    pub fn sleep(&self) {
        match self.kind {
            Kind::Pv(_) => {
                let _ = self.xen.block(); // lets them in
                self.shut();
            }
            // SAFETY: as for `open` and `shut`. The processor lets no interrupt in between the first two.
            Kind::Pvh => unsafe { asm!("sti", "hlt", "cli") },
        }
    }
}

fn mask() -> &'static core::sync::atomic::AtomicU8 {
    SHARED_INFO.u8(Layout::X86_64.upcall_pending + 1).expect("inside the page")
}
