// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every structure keeps every byte, and its fields tell where they are.

use evtchn_abi::args::*;
use evtchn_abi::*;

/// Bytes that are all different, from a start that varies.
fn pattern<A: CStruct>(start: u8) -> A::Bytes {
    let mut bytes = A::ZEROED;
    for (i, byte) in bytes.as_mut().iter_mut().enumerate() {
        *byte = start.wrapping_add((i as u8).wrapping_mul(7));
    }
    bytes
}

fn keeps_every_byte<A: CStruct>() {
    for start in 0..=u8::MAX {
        let bytes = pattern::<A>(start);
        let back = A::from_bytes(bytes).to_bytes();
        assert_eq!(back.as_ref(), bytes.as_ref(), "{}", A::C_NAME);
    }
    assert_eq!(A::ZEROED.as_ref().len(), A::SIZE);
}

fn fields_are_complete<A: CStruct>() {
    let mut end = 0;
    for field in A::FIELDS {
        assert_eq!(field.offset, end, "{}.{}", A::C_NAME, field.name);
        end += field.size;
    }
    assert_eq!(end, A::SIZE, "{}", A::C_NAME);
}

macro_rules! for_every_structure {
    ($check:ident) => {
        for_every_structure! { $check:
            AllocUnbound, BindInterdomain, BindVirq, BindPirq, BindIpi, Close, Send, Status, BindVcpu, Unmask, Reset,
            InitControl, ExpandArray, SetPriority, EvtchnOp, SchedPoll, SchedPoll32, SchedShutdown,
            VcpuRegisterVcpuInfo, VcpuSetPeriodicTimer, VcpuSetSingleshotTimer, VcpuSetSingleshotTimer32,
            HvmParamValue, EvtchnUpcallVector, PhysdevEoi, PhysdevIrqStatusQuery, PhysdevPirqEoiGmfn,
            PhysdevPirqEoiGmfn32, DomctlHeader, DomctlSetVirqHandler, DomctlSubscribe,
            ioctl::BindVirq, ioctl::BindInterdomain, ioctl::BindUnboundPort, ioctl::Unbind,
            ioctl::Notify, ioctl::RestrictDomid, ioctl::BindStatic, privcmd::PrivcmdHypercall,
        }
    };
    ($check:ident: $($type:ty),* $(,)?) => { $($check::<$type>();)* };
}

#[test]
fn a_round_trip_keeps_every_byte_padding_included() {
    for_every_structure!(keeps_every_byte);
}

#[test]
fn the_table_of_fields_covers_the_structure() {
    for_every_structure!(fields_are_complete);
}

#[test]
fn fields_are_read_little_endian_from_their_places() {
    let bind = BindInterdomain::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(bind.remote_dom, DomId(0x0201));
    assert_eq!(bind.pad, [3, 4]);
    assert_eq!(bind.remote_port, Port(0x0807_0605));
    assert_eq!(bind.local_port, Port(0x0c0b_0a09));
}

#[test]
fn a_hypercall_of_a_program_is_read_with_all_its_arguments() {
    let bytes = pattern::<privcmd::PrivcmdHypercall>(0);
    let call = privcmd::PrivcmdHypercall::from_bytes(bytes);
    let word = |n: usize| u64::from_le_bytes(bytes[n * 8..][..8].try_into().unwrap());
    assert_eq!(call.op.0, word(0));
    assert_eq!(call.arg, [word(1), word(2), word(3), word(4), word(5)]);
}

#[test]
fn each_status_is_read_back_as_it_was_stored() {
    let kinds = [
        StatusKind::Closed,
        StatusKind::Unbound { dom: DomId(0x1234) },
        StatusKind::Interdomain { dom: DomId(7), port: Port(0x0102_0304) },
        StatusKind::Pirq(Pirq(0x0a0b_0c0d)),
        StatusKind::Virq(Virq::ARGO),
        StatusKind::Ipi,
    ];
    for kind in kinds {
        let mut status = Status::from_bytes(pattern::<Status>(1));
        status.set_kind(kind);
        assert_eq!(Status::from_bytes(status.to_bytes()).kind(), Some(kind));
    }
}

#[test]
fn storing_a_status_leaves_the_other_bytes_of_the_union_alone() {
    let stored = |kind| {
        let mut status = Status { u: StatusUnion([0xff; 8]), ..Status::default() };
        status.set_kind(kind);
        status.u.0
    };
    let f = 0xff;
    assert_eq!(stored(StatusKind::Closed), [f; 8]);
    assert_eq!(stored(StatusKind::Ipi), [f; 8]);
    assert_eq!(stored(StatusKind::Unbound { dom: DomId(1) }), [1, 0, f, f, f, f, f, f]);
    let interdomain = StatusKind::Interdomain { dom: DomId(1), port: Port(2) };
    assert_eq!(stored(interdomain), [1, 0, f, f, 2, 0, 0, 0]);
    assert_eq!(stored(StatusKind::Pirq(Pirq(3))), [3, 0, 0, 0, f, f, f, f]);
    assert_eq!(stored(StatusKind::Virq(Virq(4))), [4, 0, 0, 0, f, f, f, f]);
}

#[test]
fn a_status_without_a_name_has_no_kind() {
    let status = Status { status: ChannelStatus(6), ..Status::default() };
    assert_eq!(status.kind(), None);
}

#[test]
fn the_old_form_carries_the_arguments_of_every_old_operation() {
    let mut op = EvtchnOp::from_bytes(pattern::<EvtchnOp>(3));
    let before = op;
    let send = Send { port: Port(77) };
    assert!(op.set_arguments(&send));
    assert_eq!(op.arguments(), Some(send));
    assert_eq!(op.u[4..], before.u[4..]);
    let status = Status::from_bytes(pattern::<Status>(9));
    assert!(op.set_arguments(&status));
    assert_eq!(op.arguments(), Some(status));
}

#[test]
fn what_is_larger_than_the_union_does_not_fit_the_old_form() {
    let mut op = EvtchnOp::from_bytes(pattern::<EvtchnOp>(3));
    let before = op;
    assert!(!op.set_arguments(&privcmd::PrivcmdHypercall::default()));
    assert_eq!(op, before);
    assert_eq!(op.arguments::<privcmd::PrivcmdHypercall>(), None);
}

#[test]
fn numbers_of_32_bit_guests_keep_their_meaning() {
    let poll = SchedPoll32 { ports: u32::MAX, nr_ports: 3, timeout: 1 << 40 };
    let wide = SchedPoll { ports: 0xffff_ffff, nr_ports: 3, pad: [0; 4], timeout: 1 << 40 };
    assert_eq!(SchedPoll::from(poll), wide);
    let timer = VcpuSetSingleshotTimer32 { timeout_abs_ns: 5, flags: VcpuSetSingleshotTimer::FUTURE };
    assert_eq!(VcpuSetSingleshotTimer::from(timer).flags, 1);
    let page = PhysdevPirqEoiGmfn32 { gmfn: u32::MAX };
    assert_eq!(PhysdevPirqEoiGmfn::from(page).gmfn, Gfn(0xffff_ffff));
}

#[test]
fn all_operations_have_names_and_others_have_none() {
    assert_eq!(Op::ALL.len(), 15);
    assert!(Op::ALL.iter().enumerate().all(|(number, op)| op.0 as usize == number));
    assert_eq!(Op::RESET_CONT.name(), Some("reset_cont"));
    assert!(!Op(15).is_known());
    assert!(!Op(u32::MAX).is_known());
    assert_eq!(format!("{} {}", Op::SEND, Op(77)), "send 77");
}

#[test]
fn lists_are_ascending_without_duplicates() {
    macro_rules! ascending {
        ($($list:ident)*) => { $(assert!($list::ALL.is_sorted_by(|a, b| a < b), stringify!($list));)* };
    }
    ascending! { Op ChannelStatus Hypercall SchedOp VcpuOp HvmOp CallbackOp PhysdevOp Domctl XenVersion }
    ascending! { HvmParam Feature Virq }
    assert!(ioctl::Ioctl::ALL.iter().all(|command| command.name().is_some()));
}

#[test]
fn every_command_for_a_vcpu_up_to_its_vcpu_info_has_a_name() {
    assert!((0..=VcpuOp::REGISTER_VCPU_INFO.0).all(|number| VcpuOp(number).is_known()));
    assert!(!VcpuOp(u32::MAX).is_known());
}

#[test]
fn reserved_domains_are_recognised() {
    assert!(!DomId(0).is_reserved());
    assert!(!DomId(0x7fef).is_reserved());
    assert!(DomId::SELF.is_reserved() && DomId::IDLE.is_reserved());
}
