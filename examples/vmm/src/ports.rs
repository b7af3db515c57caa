// SPDX-License-Identifier: MIT OR Apache-2.0
//! What KVM does for a Xen guest where it has Xen support, done here: for guests that call by a hypercall page.

use anyhow::{Context, Result};
use evtchn_abi::{Errno, Gfn};
use evtchn_kvm::{HYPERCALL_MSR, port_page};
use evtchn_sync::PAGE_SIZE;
use kvm_bindings::{
    KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_INVAL, KVM_MSR_EXIT_REASON_UNKNOWN, Msrs, kvm_enable_cap,
    kvm_msr_entry,
};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress};

use crate::guest::{Guest, address};

/// The I/O port of hypercalls.
pub const PORT: u8 = 0xe4;

const TIME_STAMP_COUNTER: u32 = 0x10;
/// Where a `vcpu_info` has the time, in a 64-bit guest.
const TIME: u64 = 32;

/// Has the guest's writes to MSRs that KVM does not know come to the VMM.
pub fn enable(vm: &VmFd) -> Result<()> {
    let reasons = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL;
    let capability = kvm_enable_cap {
        cap: KVM_CAP_X86_USER_SPACE_MSR,
        args: [reasons.into(), 0, 0, 0],
        ..Default::default()
    };
    vm.enable_cap(&capability).context("KVM_CAP_X86_USER_SPACE_MSR")
}

/// The guest has written to an MSR. What is none of Xen's is refused: a fault in the guest.
pub fn write_msr(guest: &Guest, msr: u32, value: u64) -> Result<(), Errno> {
    if msr != HYPERCALL_MSR {
        return Err(Errno::ENOENT);
    }
    let page = Gfn(value / PAGE_SIZE as u64);
    guest.domain.memory().write_slice(&port_page(PORT), address(page)).map_err(|_| Errno::EFAULT)
}

/// Writes the time into the first vCPU's vcpu_info, once: the processor's counter carries it on. (Xen's public `xen.h`,
/// `vcpu_time_info`.)
pub fn write_time(guest: &Guest, vcpu: &VcpuFd, shared_info: Gfn) -> Result<()> {
    let mut counter =
        Msrs::from_entries(&[kvm_msr_entry { index: TIME_STAMP_COUNTER, ..Default::default() }])
            .context("an MSR")?;
    vcpu.get_msrs(&mut counter)?;
    let [counter] = counter.as_slice() else { anyhow::bail!("no time stamp counter") };
    let (factor, shift) = scale(vcpu.get_tsc_khz()?);
    let place = GuestAddress(address(shared_info).0 + TIME);
    let memory = guest.domain.memory();
    memory.write_obj(counter.data, GuestAddress(place.0 + 8))?;
    memory.write_obj(guest.domain.now()?, GuestAddress(place.0 + 16))?;
    memory.write_obj(factor, GuestAddress(place.0 + 24))?;
    memory.write_obj(shift, GuestAddress(place.0 + 28))?;
    // Even: it is not being written.
    memory.write_obj(2_u32, place)?;
    Ok(())
}

/// How ticks become nanoseconds: shifted to the left, multiplied, and divided by 2 to the 32.
fn scale(kilohertz: u32) -> (u32, i8) {
    let (mut kilohertz, mut shift) = (u64::from(kilohertz.max(1)), 0);
    while kilohertz <= 1_000_000 {
        kilohertz *= 2;
        shift += 1;
    }
    let factor = (1_000_000_u64 << 32) / kilohertz;
    (u32::try_from(factor).unwrap_or(u32::MAX), shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_nanoseconds() {
        for kilohertz in [1, 999_999, 1_000_000, 1_000_001, 2_450_000, 5_000_000] {
            let (factor, shift) = scale(kilohertz);
            let second = (u128::from(kilohertz) * 1000) << shift;
            let nanoseconds = (second * u128::from(factor)) >> 32;
            assert!((999_999_000..=1_000_000_000).contains(&nanoseconds), "{kilohertz}: {nanoseconds}");
        }
    }
}
