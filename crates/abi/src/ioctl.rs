// SPDX-License-Identifier: MIT OR Apache-2.0
//! The commands of `/dev/xen/evtchn` on Linux and their arguments (`xen/evtchn.h`).
//!
//! The commands carry no direction although all but one read an argument. A port is the call's result, never
//! written to the argument.

use crate::{DomId, Port, Virq};

/// The path of the device.
pub const DEVICE_PATH: &str = "/dev/xen/evtchn";

open_enum! {
    /// A command word. It is compared as a whole: with another size it is another, unknown command.
    struct Ioctl(u32), "IOCTL_EVTCHN_" {
        /// Binds a port to a VIRQ. Argument: [`BindVirq`]; result: the port.
        BIND_VIRQ = 0x0004_4500, "BIND_VIRQ";
        /// Binds a port to a peer's. Argument: [`BindInterdomain`]; result: the port.
        BIND_INTERDOMAIN = 0x0008_4501, "BIND_INTERDOMAIN";
        /// Makes a port for a domain to bind to. Argument: [`BindUnboundPort`]; result: the port.
        BIND_UNBOUND_PORT = 0x0004_4502, "BIND_UNBOUND_PORT";
        /// Closes a port. Argument: [`Unbind`].
        UNBIND = 0x0004_4503, "UNBIND";
        /// Signals the peer of a port. Argument: [`Notify`].
        NOTIFY = 0x0004_4504, "NOTIFY";
        /// Empties the ring and ends an overflow. No argument.
        RESET = 0x0000_4505, "RESET";
        /// Allows only one peer domain from now on. Argument: [`RestrictDomid`].
        RESTRICT_DOMID = 0x0002_4506, "RESTRICT_DOMID";
        /// Takes over a port that Xen made when the domain was built. Argument: [`BindStatic`]. Linux 6.1 does not know it yet.
        BIND_STATIC = 0x0004_4507, "BIND_STATIC";
    }
}

impl Ioctl {
    /// The size of the argument in bytes, as the word carries it.
    #[must_use]
    pub const fn size(self) -> usize {
        (self.0 >> 16 & 0x3fff) as usize
    }
}

/// A command without a direction, built as `_IOC(_IOC_NONE, group, number, size)` on x86 and Arm.
#[must_use]
pub const fn ioc_none(group: u8, number: u8, size: u16) -> u32 {
    ((size & 0x3fff) as u32) << 16 | (group as u32) << 8 | number as u32
}

c_struct! {
    /// [`Ioctl::BIND_VIRQ`].
    BindVirq = "ioctl_evtchn_bind_virq", 4 bytes {
        /// The virtual interrupt.
        virq: Virq = 0,
    }
}

c_struct! {
    /// [`Ioctl::BIND_INTERDOMAIN`].
    BindInterdomain = "ioctl_evtchn_bind_interdomain", 8 bytes {
        /// The peer's domain, 32 bits wide here; see [`remote_domid`](Self::remote_domid).
        remote_domain: u32 = 0,
        /// The peer's port.
        remote_port: Port = 4,
    }
}

impl BindInterdomain {
    /// The domain that reaches Xen: the lower 16 bits.
    #[must_use]
    pub const fn remote_domid(&self) -> DomId {
        DomId(self.remote_domain as u16)
    }
}

c_struct! {
    /// [`Ioctl::BIND_UNBOUND_PORT`].
    BindUnboundPort = "ioctl_evtchn_bind_unbound_port", 4 bytes {
        /// The domain that may bind to the port, 32 bits wide here; see [`remote_domid`](Self::remote_domid).
        remote_domain: u32 = 0,
    }
}

impl BindUnboundPort {
    /// The domain that reaches Xen: the lower 16 bits.
    #[must_use]
    pub const fn remote_domid(&self) -> DomId {
        DomId(self.remote_domain as u16)
    }
}

c_struct! {
    /// [`Ioctl::UNBIND`].
    Unbind = "ioctl_evtchn_unbind", 4 bytes {
        /// The port.
        port: Port = 0,
    }
}

c_struct! {
    /// [`Ioctl::NOTIFY`].
    Notify = "ioctl_evtchn_notify", 4 bytes {
        /// The caller's own port.
        port: Port = 0,
    }
}

c_struct! {
    /// [`Ioctl::RESTRICT_DOMID`].
    RestrictDomid = "ioctl_evtchn_restrict_domid", 2 bytes {
        /// The only domain to talk to.
        domid: DomId = 0,
    }
}

c_struct! {
    /// [`Ioctl::BIND_STATIC`].
    BindStatic = "ioctl_evtchn_bind", 4 bytes {
        /// The port, which exists already.
        port: Port = 0,
    }
}

macro_rules! assert_commands {
    ($($command:ident = $number:literal, $size:expr;)*) => {
        $(const _: () = assert!(Ioctl::$command.0 == ioc_none(b'E', $number, $size as u16));)*
    };
}

assert_commands! {
    BIND_VIRQ = 0, BindVirq::SIZE;
    BIND_INTERDOMAIN = 1, BindInterdomain::SIZE;
    BIND_UNBOUND_PORT = 2, BindUnboundPort::SIZE;
    UNBIND = 3, Unbind::SIZE;
    NOTIFY = 4, Notify::SIZE;
    RESET = 5, 0;
    RESTRICT_DOMID = 6, RestrictDomid::SIZE;
    BIND_STATIC = 7, BindStatic::SIZE;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_with_a_size_is_an_unknown_command() {
        assert!(Ioctl(0x4505).is_known());
        assert!(!Ioctl(0x4_4505).is_known());
    }

    #[test]
    fn a_command_carries_the_size_of_its_argument() {
        assert_eq!(Ioctl::BIND_INTERDOMAIN.size(), BindInterdomain::SIZE);
        assert_eq!(Ioctl::RESET.size(), 0);
    }

    #[test]
    fn only_the_lower_half_of_a_domain_counts() {
        let bind = BindInterdomain { remote_domain: 0x0001_7ff0, remote_port: Port(1) };
        assert_eq!(bind.remote_domid(), DomId::SELF);
    }
}
