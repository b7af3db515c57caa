// SPDX-License-Identifier: MIT OR Apache-2.0
//! IP: `bind_ipi`.

use evtchn_abi::args::{Status, StatusUnion};
use evtchn_abi::{ChannelStatus, DomId, Op, Port};

use crate::world::*;
use crate::{Case, case};

pub const CASES: &[Case] = &[
    case("IP-01", "an IPI port names its vCPU; the status leaves the caller's union as it was (Q6)", || {
        let w = World::new();
        assert_eq!(w.bind_ipi(D1, 3), 1);
        let u = StatusUnion([0xee; 8]);
        let mut arg = Status { dom: DomId::SELF, port: Port(1), u, ..Default::default() };
        assert_eq!(w.call(D1, Op::STATUS, &mut arg), 0);
        assert_eq!((arg.status, arg.vcpu.0, arg.u), (ChannelStatus::IPI, 3, u));
    }),
    case("IP-02", "an absent vCPU is ENOENT and takes no port", || {
        let w = World::new();
        assert_eq!((w.bind_ipi(D1, 4), w.bind_ipi(D1, u32::MAX)), (ENOENT, ENOENT));
        assert_eq!(w.counts(D1), (0, 0));
    }),
    case("IP-03", "a vCPU can have several", || {
        let w = World::new();
        assert_eq!((w.bind_ipi(D1, 1), w.bind_ipi(D1, 1)), (1, 2));
    }),
    case("IP-04", "sending raises the port itself on its vCPU", || {
        let w = World::new();
        assert_eq!((w.bind_ipi(D1, 3), w.send(D1, 1)), (1, 0));
        assert_eq!((w.bits(D1, 1, 3), w.delivered()), ("P.SU".into(), vec![(D1, 3)]));
    }),
    case("IP-05", "it cannot be moved", || {
        let w = World::new();
        assert_eq!((w.bind_ipi(D1, 3), w.bind_vcpu(D1, 1, 0), w.bind_vcpu(D1, 1, 3)), (1, EINVAL, EINVAL));
        assert_eq!(w.status(D1, SELF, 1), ipi(3));
    }),
    case("IP-06", "ENOENT comes before ENOSPC", || {
        let w = World::new();
        w.fill(D1);
        assert_eq!((w.bind_ipi(D1, 0), w.bind_ipi(D1, 99)), (ENOSPC, ENOENT));
    }),
];
