// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of the `domctl` commands that concern event channels (`domctl.h`).
//!
//! Every command uses one structure of 144 bytes: a header of 16 and a union of 128.
//!
//! `domctl` is the toolstack's interface and is not stable: a caller states the version that it was built for, and Xen
//! refuses all versions but its own. The version is therefore no number of this crate. Whoever embeds Xen's side knows
//! which versions it accepts; it checks the header and hands on what the union holds.

use crate::{DomId, Domctl, Port, Virq};

c_struct! {
    /// What every `domctl` begins with.
    DomctlHeader = "xen_domctl", 16 bytes {
        /// Which command.
        cmd: Domctl = 0,
        /// The version of the interface that the caller was built for; another one is answered with EACCES.
        interface_version: u32 = 4,
        /// The domain to control.
        domain: DomId = 8,
        /// Unused, `_pad` in C.
        pad: [u8; 6] = 10,
    }
}

impl DomctlHeader {
    /// The size of the whole structure, with its union.
    pub const DOMCTL_SIZE: usize = 144;
}

c_struct! {
    /// [`Domctl::SET_VIRQ_HANDLER`]: what the union holds.
    DomctlSetVirqHandler = "xen_domctl_set_virq_handler", 4 bytes {
        /// The VIRQ; the domain of the header becomes its handler.
        virq: Virq = 0,
    }
}

c_struct! {
    /// [`Domctl::SUBSCRIBE`]: what the union holds.
    DomctlSubscribe = "xen_domctl_subscribe", 4 bytes {
        /// The port to signal when the domain has suspended.
        port: Port = 0,
    }
}
