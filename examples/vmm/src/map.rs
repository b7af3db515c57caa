// SPDX-License-Identifier: MIT OR Apache-2.0
//! Giving memory to a guest.

// UNSAFETY: KVM is told addresses of this process.
#![allow(unsafe_code)]

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Error, VmFd};
use vm_memory::GuestMemoryMmap;

/// Gives `region` of `memory` to a machine, for good: the memory is never unmapped.
pub fn give(vm: &VmFd, region: kvm_userspace_memory_region, memory: &GuestMemoryMmap) -> Result<(), Error> {
    // The mapping lives as long as one of its owners, of which this one never goes.
    std::mem::forget(memory.clone());
    // SAFETY: the region is one of `memory`, which stays mapped from now on.
    unsafe { vm.set_user_memory_region(region) }
}
