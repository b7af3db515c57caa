// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the processor says about itself and about Xen (`arch-x86/cpuid.h`).
#![allow(unsafe_code)]
// UNSAFETY: asking the processor, and a PV guest's CPUID is assembly.

use core::arch::asm;

/// The four registers of an answer: EAX, EBX, ECX, EDX.
pub type Answer = [u32; 4];

/// The first leaf that a hypervisor may use, the distance to the next, and how many are tried: Xen is not the first if it also
/// shows another hypervisor's leaves.
const FIRST: u32 = 0x4000_0000;
const DISTANCE: u32 = 0x100;
const PLACES: u32 = 0x100;

/// Asks the processor, for HVM and PVH guests.
#[must_use]
pub fn native(leaf: u32) -> Answer {
    #[allow(unused_unsafe)] // not unsafe any more in newer releases of Rust
    // SAFETY: every processor with 64 bits has the instruction.
    let answer = unsafe { core::arch::x86_64::__cpuid(leaf) };
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// Asks Xen in place of the processor, for PV guests: `cpuid` after a prefix that is an invalid instruction, which Xen takes for
/// a request to emulate what follows. (The instruction alone reaches the processor on old machines.)
///
/// # Safety
/// The caller runs in a PV guest. Elsewhere it raises an exception.
#[must_use]
pub unsafe fn emulated(leaf: u32) -> Answer {
    let (eax, ebx, ecx, edx);
    // SAFETY: Xen changes the four registers. RBX is the compiler's own, and so saved by hand.
    unsafe {
        asm!(
            "mov {saved:r}, rbx",
            "ud2",
            ".ascii \"xen\"",
            "cpuid",
            "xchg {saved:r}, rbx",
            saved = out(reg) ebx,
            inlateout("eax") leaf => eax,
            inlateout("ecx") 0 => ecx,
            lateout("edx") edx,
            options(nostack, nomem, preserves_flags),
        );
    }
    let ebx: u64 = ebx;
    [eax, ebx as u32, ecx, edx]
}

/// The vendor's name, such as `GenuineIntel`.
#[must_use]
pub fn vendor(cpuid: impl Fn(u32) -> Answer) -> [u8; 12] {
    let [_, ebx, ecx, edx] = cpuid(0);
    name([ebx, edx, ecx])
}

fn name(registers: [u32; 3]) -> [u8; 12] {
    let mut name = [0; 12];
    for (bytes, register) in name.chunks_exact_mut(4).zip(registers) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    name
}

/// Xen's leaves.
///
/// ```no_run
/// use evtchn_hypercall::cpuid::{self, Leaves};
///
/// if let Some(xen) = Leaves::find(cpuid::native) {
///     let (major, minor) = xen.version();
///     println!("Xen {major}.{minor}");
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Leaves<F> {
    cpuid: F,
    base: u32,
    last: u32,
}

impl<F: Fn(u32) -> Answer> Leaves<F> {
    /// Looks for Xen's leaves, with [`native`] or [`emulated`] as the question; `None` if there are none: it is not Xen.
    #[must_use]
    pub fn find(cpuid: F) -> Option<Self> {
        (0..PLACES)
            .map(|place| FIRST + place * DISTANCE)
            .find_map(|base| {
                let [last, ebx, ecx, edx] = cpuid(base);
                let is_xen = name([ebx, ecx, edx]) == *b"XenVMMXenVMM" && last >= base + 2;
                is_xen.then_some((base, last))
            })
            .map(|(base, last)| Self { cpuid, base, last })
    }

    /// Where they begin.
    #[must_use]
    pub const fn base(&self) -> u32 {
        self.base
    }

    /// The answer to one of them, counted from the first; `None` if Xen does not have it.
    #[must_use]
    pub fn leaf(&self, index: u32) -> Option<Answer> {
        let leaf = self.base.checked_add(index).filter(|&leaf| leaf <= self.last)?;
        Some((self.cpuid)(leaf))
    }

    /// The release: major and minor number.
    #[must_use]
    pub fn version(&self) -> (u16, u16) {
        let [version, ..] = (self.cpuid)(self.base + 1);
        ((version >> 16) as u16, version as u16)
    }

    /// The MSR that takes the address of a [hypercall page](crate::HypercallPage).
    #[must_use]
    pub fn hypercall_page_msr(&self) -> u32 {
        let [_, msr, ..] = (self.cpuid)(self.base + 2);
        msr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XEN: [u32; 3] = [0x566e_6558, 0x6558_4d4d, 0x4d4d_566e];

    /// A machine with Xen's leaves at a place, and another hypervisor's at the first one.
    fn machine(base: u32) -> impl Fn(u32) -> Answer {
        move |leaf| match leaf {
            leaf if leaf == base => [base + 5, XEN[0], XEN[1], XEN[2]],
            leaf if leaf == base + 1 => [4 << 16 | 17, 0, 0, 0],
            leaf if leaf == base + 2 => [1, 0x4000_0000, 0, 0],
            leaf if leaf == base + 4 => [1 << 6, 3, 0, 0],
            0 => [22, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
            FIRST => [FIRST + 2, 1, 2, 3],
            _ => [0; 4],
        }
    }

    #[test]
    fn xen_is_found_at_each_place_that_it_may_have() {
        for place in [0, 1, 0xff] {
            let base = FIRST + place * DISTANCE;
            let xen = Leaves::find(machine(base)).unwrap();
            assert_eq!((xen.base(), xen.version()), (base, (4, 17)));
            assert_eq!(xen.hypercall_page_msr(), 0x4000_0000);
        }
    }

    #[test]
    fn beyond_the_last_place_and_elsewhere_is_no_xen() {
        assert!(Leaves::find(machine(FIRST + PLACES * DISTANCE)).is_none());
        assert!(Leaves::find(|_| [0; 4]).is_none());
        assert!(Leaves::find(|leaf| [leaf + 1, XEN[0], XEN[1], XEN[2]]).is_none(), "too few leaves");
    }

    #[test]
    fn only_leaves_that_xen_has_are_asked_for() {
        let xen = Leaves::find(machine(FIRST + DISTANCE)).unwrap();
        assert_eq!(xen.leaf(4), Some([1 << 6, 3, 0, 0]));
        assert_eq!((xen.leaf(6), xen.leaf(u32::MAX)), (None, None));
    }

    #[test]
    fn a_vendor_is_spelled_in_the_order_of_cpuid() {
        assert_eq!(&vendor(machine(FIRST)), b"GenuineIntel");
    }

    #[test]
    fn the_processor_answers() {
        assert!(vendor(native).is_ascii());
    }
}
