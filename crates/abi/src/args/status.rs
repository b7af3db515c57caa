// SPDX-License-Identifier: MIT OR Apache-2.0
//! The argument of the status operation, with a union whose meaning depends on the status (`event_channel.h`).

use crate::c_struct::{Reader, Scalar, Writer};
use crate::{ChannelStatus, DomId, Pirq, Port, VcpuId, Virq};

c_struct! {
    /// [`Op::STATUS`](crate::Op::STATUS).
    ///
    /// ```
    /// use evtchn_abi::args::{Status, StatusKind};
    /// use evtchn_abi::{ChannelStatus, DomId, Port};
    ///
    /// let mut status = Status { dom: DomId::SELF, port: Port(4), ..Status::default() };
    /// status.set_kind(StatusKind::Interdomain { dom: DomId(7), port: Port(12) });
    /// assert_eq!(status.status, ChannelStatus::INTERDOMAIN);
    /// assert_eq!(Status::from_bytes(status.to_bytes()), status);
    /// ```
    Status = "evtchn_status", 24 bytes {
        /// The domain whose port is meant; others than the caller need privilege.
        dom: DomId = 0,
        /// Unused.
        pad: [u8; 2] = 2,
        /// The port.
        port: Port = 4,
        /// Out: what the port is.
        status: ChannelStatus = 8,
        /// Out: the vCPU that it notifies.
        vcpu: VcpuId = 12,
        /// Out: what it is bound to, to be read as `status` says.
        u: StatusUnion = 16,
    }
}

/// What a port is and what it is bound to: `status` and `u` of [`Status`] taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusKind {
    /// The port is not in use.
    Closed,
    /// The port waits to be bound by `dom`.
    Unbound {
        /// The domain that may bind to it.
        dom: DomId,
    },
    /// The port is connected.
    Interdomain {
        /// The peer's domain.
        dom: DomId,
        /// The peer's port.
        port: Port,
    },
    /// The port carries a physical interrupt.
    Pirq(Pirq),
    /// The port carries a virtual interrupt.
    Virq(Virq),
    /// The port carries signals between vCPUs.
    Ipi,
}

impl StatusKind {
    /// The number for [`Status::status`].
    #[must_use]
    pub const fn status(self) -> ChannelStatus {
        match self {
            Self::Closed => ChannelStatus::CLOSED,
            Self::Unbound { .. } => ChannelStatus::UNBOUND,
            Self::Interdomain { .. } => ChannelStatus::INTERDOMAIN,
            Self::Pirq(_) => ChannelStatus::PIRQ,
            Self::Virq(_) => ChannelStatus::VIRQ,
            Self::Ipi => ChannelStatus::IPI,
        }
    }
}

impl Status {
    /// The result as one value; `None` if `status` is a number without a name.
    #[must_use]
    pub const fn kind(&self) -> Option<StatusKind> {
        Some(match self.status {
            ChannelStatus::CLOSED => StatusKind::Closed,
            ChannelStatus::UNBOUND => StatusKind::Unbound { dom: self.u.dom() },
            ChannelStatus::INTERDOMAIN => StatusKind::Interdomain { dom: self.u.dom(), port: self.u.port() },
            ChannelStatus::PIRQ => StatusKind::Pirq(self.u.pirq()),
            ChannelStatus::VIRQ => StatusKind::Virq(self.u.virq()),
            ChannelStatus::IPI => StatusKind::Ipi,
            _ => return None,
        })
    }

    /// Stores the result in `status` and `u`. The bytes of `u` that the kind does not use keep their values, as with Xen.
    pub const fn set_kind(&mut self, kind: StatusKind) {
        self.status = kind.status();
        match kind {
            StatusKind::Closed | StatusKind::Ipi => {}
            StatusKind::Unbound { dom } => self.u.set_dom(dom),
            StatusKind::Interdomain { dom, port } => {
                self.u.set_dom(dom);
                self.u.set_port(port);
            }
            StatusKind::Pirq(pirq) => self.u.set_pirq(pirq),
            StatusKind::Virq(virq) => self.u.set_virq(virq),
        }
    }
}

/// The union at the end of [`Status`]: eight bytes with overlapping fields. Setting one leaves the other bytes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StatusUnion(pub [u8; 8]);

impl StatusUnion {
    /// Where `unbound.dom` and `interdomain.dom` lie in the union.
    pub const DOM: usize = 0;
    /// Where `interdomain.port` lies in the union.
    pub const PORT: usize = 4;
    /// Where `pirq` lies in the union.
    pub const PIRQ: usize = 0;
    /// Where `virq` lies in the union.
    pub const VIRQ: usize = 0;

    /// `unbound.dom` or `interdomain.dom`.
    #[must_use]
    pub const fn dom(self) -> DomId {
        let [a, b, ..] = self.0;
        DomId(u16::from_le_bytes([a, b]))
    }

    /// `interdomain.port`.
    #[must_use]
    pub const fn port(self) -> Port {
        let [.., a, b, c, d] = self.0;
        Port(u32::from_le_bytes([a, b, c, d]))
    }

    /// `pirq`.
    #[must_use]
    pub const fn pirq(self) -> Pirq {
        Pirq(self.first_word())
    }

    /// `virq`.
    #[must_use]
    pub const fn virq(self) -> Virq {
        Virq(self.first_word())
    }

    /// Sets `unbound.dom` and `interdomain.dom`, which are the same two bytes.
    pub const fn set_dom(&mut self, dom: DomId) {
        let [a, b, ..] = &mut self.0;
        [*a, *b] = dom.0.to_le_bytes();
    }

    /// Sets `interdomain.port`.
    pub const fn set_port(&mut self, port: Port) {
        let [.., a, b, c, d] = &mut self.0;
        [*a, *b, *c, *d] = port.0.to_le_bytes();
    }

    /// Sets `pirq`.
    pub const fn set_pirq(&mut self, pirq: Pirq) {
        self.set_first_word(pirq.0);
    }

    /// Sets `virq`.
    pub const fn set_virq(&mut self, virq: Virq) {
        self.set_first_word(virq.0);
    }

    const fn first_word(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    const fn set_first_word(&mut self, value: u32) {
        let [a, b, c, d, ..] = &mut self.0;
        [*a, *b, *c, *d] = value.to_le_bytes();
    }
}

impl Scalar for StatusUnion {
    const SIZE: usize = 8;

    #[inline]
    fn take(reader: &mut Reader<'_>) -> Self {
        Self(Scalar::take(reader))
    }

    #[inline]
    fn put(self, writer: &mut Writer<'_>) {
        self.0.put(writer);
    }
}
