// SPDX-License-Identifier: MIT OR Apache-2.0
//! A page of code that Xen writes.
#![allow(unsafe_code)]
// UNSAFETY: the page is told to Xen by a privileged instruction.

use core::arch::asm;
use core::cell::UnsafeCell;

/// 4 KiB for Xen to write a hypercall page to. It must be mapped as executable.
///
/// A PV guest places one where its ELF note says, and Xen fills it before the guest starts. An HVM guest
/// [registers](Self::register) it:
///
/// ```no_run
/// use evtchn_hypercall::cpuid::{self, Leaves};
/// use evtchn_hypercall::{Gate, HypercallPage, Xen};
///
/// #[unsafe(link_section = ".text.hypercall_page")] // executable
/// static PAGE: HypercallPage = HypercallPage::new();
/// # fn physical(page: &HypercallPage) -> u64 { (page as *const HypercallPage).addr() as u64 }
///
/// let leaves = Leaves::find(cpuid::native).expect("not on Xen");
/// // SAFETY: in kernel mode on Xen, and that is the physical address of the page.
/// let xen = unsafe {
///     PAGE.register(leaves.hypercall_page_msr(), physical(&PAGE));
///     Xen::new(Gate::page(&PAGE))
/// };
/// # let _ = xen;
/// ```
#[repr(C, align(4096))]
pub struct HypercallPage(UnsafeCell<[u8; 4096]>);

// SAFETY: nobody but Xen touches the bytes.
unsafe impl Sync for HypercallPage {}

impl HypercallPage {
    /// A page that nothing is in yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; 4096]))
    }

    /// Lets Xen fill the page, by writing its physical address to the MSR that [CPUID](crate::cpuid::Leaves::hypercall_page_msr)
    /// names. For HVM and PVH guests.
    ///
    /// Besides, Xen takes the mode of the processor at this moment for the guest's word: shared_info is laid out for 64 bits
    /// from now on. (Setting the parameter for the callback does the same.)
    ///
    /// # Safety
    /// The processor is in kernel mode, `msr` is Xen's for this purpose, `physical` the physical address of this page, and
    /// nobody executes it meanwhile.
    pub unsafe fn register(&self, msr: u32, physical: u64) {
        let [low, high] = [physical as u32, (physical >> 32) as u32];
        // SAFETY: the caller's promise. Memory is written, this page's.
        unsafe {
            asm!("wrmsr", in("ecx") msr, in("eax") low, in("edx") high, options(nostack, preserves_flags))
        };
    }
}

impl Default for HypercallPage {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for HypercallPage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("HypercallPage").field(&self.0.get()).finish()
    }
}
