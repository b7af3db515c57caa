// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ways from a guest into Xen.
#![allow(unsafe_code)]
// UNSAFETY: a hypercall is assembly.

use core::arch::asm;

use crate::cpuid;
use crate::page::HypercallPage;

/// A way into Xen: an instruction of the processor's, or a [hypercall page](HypercallPage).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate(Way);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Vmcall,
    Vmmcall,
    /// The address of the page.
    Page(*const HypercallPage),
}

// SAFETY: an address of code; who makes a `Xen` of it vouches for what is there.
unsafe impl Send for Gate {}
// SAFETY: as above.
unsafe impl Sync for Gate {}

/// The distance between two entries of a hypercall page.
const ENTRY_SIZE: usize = 32;

impl Gate {
    /// `vmcall`, the instruction of Intel's processors (and of those that are like them).
    pub const VMCALL: Self = Self(Way::Vmcall);
    /// `vmmcall`, the instruction of AMD's processors (and of those that are like them).
    pub const VMMCALL: Self = Self(Way::Vmmcall);

    /// The entries of a hypercall page.
    #[must_use]
    pub const fn page(page: *const HypercallPage) -> Self {
        Self(Way::Page(page))
    }

    /// The instruction of the processor that this runs on; `None` if its vendor is not known.
    ///
    /// For HVM and PVH guests. A PV guest has neither instruction.
    #[must_use]
    pub fn of_processor() -> Option<Self> {
        Self::of_vendor(&cpuid::vendor(cpuid::native))
    }

    /// The instruction of the processors of a vendor, by the name that CPUID gives.
    ///
    /// ```
    /// use evtchn_hypercall::Gate;
    ///
    /// assert_eq!(Gate::of_vendor(b"GenuineIntel"), Some(Gate::VMCALL));
    /// assert_eq!(Gate::of_vendor(b"AuthenticAMD"), Some(Gate::VMMCALL));
    /// ```
    #[must_use]
    pub const fn of_vendor(vendor: &[u8; 12]) -> Option<Self> {
        match vendor {
            b"GenuineIntel" | b"CentaurHauls" | b"  Shanghai  " => Some(Self::VMCALL),
            b"AuthenticAMD" | b"HygonGenuine" => Some(Self::VMMCALL),
            _ => None,
        }
    }

    /// Goes through.
    ///
    /// # Safety
    /// The gate leads to Xen, and what is asked there harms nobody.
    #[inline]
    pub(crate) unsafe fn call(self, number: u32, args: [u64; 5]) -> i64 {
        match self.0 {
            // SAFETY: the caller's promise.
            Way::Vmcall => unsafe { vmcall(number, args) },
            // SAFETY: the caller's promise.
            Way::Vmmcall => unsafe { vmmcall(number, args) },
            // SAFETY: the caller's promise.
            Way::Page(page) => unsafe { enter_page(page, number, args) },
        }
    }
}

/// Defines the call by one instruction. None of them uses the stack; all memory may be read and written.
macro_rules! instruction {
    ($name:ident) => {
        /// # Safety
        /// As for [`Gate::call`].
        #[inline]
        unsafe fn $name(number: u32, [rdi, rsi, rdx, r10, r8]: [u64; 5]) -> i64 {
            let result;
            // SAFETY: the caller's promise; the operands are those of the convention.
            unsafe {
                asm!(
                    stringify!($name),
                    inlateout("rax") u64::from(number) => result,
                    inlateout("rdi") rdi => _,
                    inlateout("rsi") rsi => _,
                    inlateout("rdx") rdx => _,
                    inlateout("r10") r10 => _,
                    inlateout("r8") r8 => _,
                    lateout("r9") _,
                    options(nostack),
                );
            }
            result
        }
    };
}

instruction!(vmcall);
instruction!(vmmcall);

/// Calls an entry of a hypercall page, which uses the stack: for the address to return to, and what Xen's code puts there.
///
/// # Safety
/// As for [`Gate::call`].
#[inline]
unsafe fn enter_page(page: *const HypercallPage, number: u32, [rdi, rsi, rdx, r10, r8]: [u64; 5]) -> i64 {
    let entry = page.cast::<u8>().wrapping_add(number as usize * ENTRY_SIZE);
    let result;
    // SAFETY: the caller's promise; the operands are those of the convention.
    unsafe {
        asm!(
            "call rax",
            inlateout("rax") entry => result,
            inlateout("rdi") rdi => _,
            inlateout("rsi") rsi => _,
            inlateout("rdx") rdx => _,
            inlateout("r10") r10 => _,
            inlateout("r8") r8 => _,
            lateout("r9") _,
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_vendor_has_no_instruction() {
        assert_eq!(Gate::of_vendor(b"TCGTCGTCGTCG"), None);
        assert_eq!(Gate::of_vendor(b"HygonGenuine"), Some(Gate::VMMCALL));
        assert_eq!(Gate::of_vendor(b"CentaurHauls"), Some(Gate::VMCALL));
    }
}
