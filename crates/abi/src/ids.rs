// SPDX-License-Identifier: MIT OR Apache-2.0
//! The identifiers that C passes as plain integers, each a type of its own.
//!
//! All of them may hold any value: they come from guests and programs. Nothing here checks a range.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// The number of an event channel's end in its domain (`evtchn_port_t`). Port 0 is never usable.
    #[doc(alias = "evtchn_port_t")]
    Port(u32)
}
id! {
    /// A domain's id (`domid_t`). Ids from [`DomId::FIRST_RESERVED`] up have special meanings (`xen.h`).
    #[doc(alias = "domid_t")]
    DomId(u16)
}
id! {
    /// A virtual CPU of a domain, counted from 0.
    VcpuId(u32)
}
id! {
    /// A virtual interrupt's number (`VIRQ_*` of `xen.h`).
    Virq(u32)
}
id! {
    /// A physical interrupt's number as a domain names it.
    Pirq(u32)
}
id! {
    /// A guest frame number: a page of a guest's memory.
    Gfn(u64)
}

impl DomId {
    /// The first id that cannot be a real domain's.
    pub const FIRST_RESERVED: Self = Self(0x7ff0);
    /// The caller itself.
    pub const SELF: Self = Self(0x7ff0);
    /// The owner of I/O memory.
    pub const IO: Self = Self(0x7ff1);
    /// The hypervisor.
    pub const XEN: Self = Self(0x7ff2);
    /// The owner of shared copy-on-write pages.
    pub const COW: Self = Self(0x7ff3);
    /// No domain.
    pub const INVALID: Self = Self(0x7ff4);
    /// Any domain.
    pub const ANY: Self = Self(0x7ff5);
    /// The idle domain.
    pub const IDLE: Self = Self(0x7fff);
    /// The bits that a domain id may have.
    pub const MASK: u16 = 0x7fff;

    /// Whether the id has a special meaning and cannot be a real domain's.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        self.0 >= Self::FIRST_RESERVED.0
    }
}
