// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which accesses a mapping was made for: a store into a read-only one would kill the VMM.

use vm_memory::{MmapRegion, Permissions};

/// Is every access that `wanted` names possible?
pub(crate) fn allows<B>(mapping: &MmapRegion<B>, wanted: Permissions) -> bool
where
    B: vm_memory::bitmap::Bitmap,
{
    let bits = match wanted {
        Permissions::No => 0,
        Permissions::Read => libc::PROT_READ,
        Permissions::Write => libc::PROT_WRITE,
        Permissions::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
    };
    mapping.prot() & bits == bits
}
