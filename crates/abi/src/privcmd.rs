// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one command of `/dev/xen/privcmd` that reaches event channels: a hypercall on behalf of a program (`xen/privcmd.h`).

use crate::Hypercall;
use crate::ioctl::ioc_none;

/// The path of the device.
pub const DEVICE_PATH: &str = "/dev/xen/privcmd";

/// The command that makes a hypercall. Argument: [`PrivcmdHypercall`]; result: the hypercall's.
#[doc(alias = "IOCTL_PRIVCMD_HYPERCALL")]
pub const HYPERCALL: u32 = 0x0030_5000;

c_struct! {
    /// The argument of [`HYPERCALL`]. Pointers in it are addresses in the calling program.
    PrivcmdHypercall = "privcmd_hypercall", 48 bytes {
        /// Which hypercall.
        op: Hypercall = 0,
        /// Its arguments; those it does not use mean nothing.
        arg: [u64; 5] = 8,
    }
}

const _: () = assert!(HYPERCALL == ioc_none(b'P', 0, PrivcmdHypercall::SIZE as u16));
