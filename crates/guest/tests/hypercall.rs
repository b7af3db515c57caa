// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hypercalls of a guest: what each function asks for, and what records, replays and answers them.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;

use evtchn_abi::args::{InitControl, PhysdevIrqStatusQuery};
use evtchn_abi::{
    CallbackVia, DomId, Errno, Gfn, HvmOp, HvmParam, Op, PhysdevOp, Pirq, Port, Priority, SchedOp, VcpuId,
    VcpuOp, Virq,
};
use evtchn_guest::{Argument, Call, Hypercall, Recording, ReplayError, Replaying};

const V1: VcpuId = VcpuId(1);

/// Has every hypercall, and sets the last byte of each argument.
struct Obliging;

fn answer(arg: &mut [u8]) -> Result<(), Errno> {
    if let Some(last) = arg.last_mut() {
        *last = 1;
    }
    Ok(())
}

impl Hypercall for Obliging {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        if op == Op::INIT_CONTROL {
            let control = InitControl { link_bits: 17, ..InitControl::default() };
            arg.copy_from_slice(&control.to_bytes());
        }
        answer(arg)
    }

    fn sched_op(&self, _: SchedOp, arg: &mut [u8]) -> Result<(), Errno> {
        answer(arg)
    }

    fn poll(&self, _: &[Port], _: Option<NonZeroU64>) -> Result<(), Errno> {
        Ok(())
    }

    fn vcpu_op(&self, _: VcpuOp, vcpu: VcpuId, arg: &mut [u8]) -> Result<u32, Errno> {
        answer(arg).map(|()| vcpu.0)
    }

    fn hvm_op(&self, _: HvmOp, arg: &mut [u8]) -> Result<(), Errno> {
        answer(arg)
    }

    fn physdev_op(&self, _: PhysdevOp, arg: &mut [u8]) -> Result<(), Errno> {
        answer(arg)
    }

    fn set_timer_op(&self, _: Option<NonZeroU64>) -> Result<(), Errno> {
        Ok(())
    }
}

/// Has what it must have.
struct Least;

impl Hypercall for Least {
    fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
        Ok(())
    }
}

/// The hypercalls that `guest` makes to a hypervisor.
fn calls(xen: impl Hypercall, guest: impl FnOnce(&dyn Hypercall)) -> Vec<Call> {
    let calls = RefCell::new(Vec::new());
    guest(&Recording::new(xen, |call| calls.borrow_mut().push(call)));
    calls.into_inner()
}

fn asked(guest: impl FnOnce(&dyn Hypercall)) -> String {
    match calls(Obliging, guest).as_slice() {
        [call] => call.request.to_string(),
        other => panic!("{} calls", other.len()),
    }
}

#[test]
fn each_operation_on_event_channels_asks_for_itself() {
    let (dom, port) = (DomId(0x0102), Port(0x0304));
    type Guest = fn(&dyn Hypercall, DomId, Port);
    let table: [(Guest, &str); 15] = [
        (
            |x, d, p| assert!(x.bind_interdomain(d, p).is_ok()),
            "bind_interdomain [02 01 00 00 04 03 00 00 00 00 00 00]",
        ),
        (
            |x, _, _| assert!(x.bind_virq(Virq(5), V1).is_ok()),
            "bind_virq [05 00 00 00 01 00 00 00 00 00 00 00]",
        ),
        (
            |x, _, _| assert!(x.bind_pirq(Pirq(6), 1).is_ok()),
            "bind_pirq [06 00 00 00 01 00 00 00 00 00 00 00]",
        ),
        (|x, _, p| x.close(p).unwrap(), "close [04 03 00 00]"),
        (|x, _, p| x.send(p).unwrap(), "send [04 03 00 00]"),
        (
            |x, d, p| assert!(x.status(d, p).is_ok()),
            "status [02 01 00 00 04 03 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00]",
        ),
        (|x, d, _| assert!(x.alloc_unbound(DomId(7), d).is_ok()), "alloc_unbound [07 00 02 01 00 00 00 00]"),
        (|x, _, _| assert!(x.bind_ipi(V1).is_ok()), "bind_ipi [01 00 00 00 00 00 00 00]"),
        (|x, _, p| x.bind_vcpu(p, V1).unwrap(), "bind_vcpu [04 03 00 00 01 00 00 00]"),
        (|x, _, p| x.unmask(p).unwrap(), "unmask [04 03 00 00]"),
        (|x, d, _| x.reset(d).unwrap(), "reset [02 01]"),
        (
            |x, _, _| assert_eq!(x.init_control(V1, Gfn(9), 8), Ok(17)),
            "init_control [09 00 00 00 00 00 00 00 08 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00]",
        ),
        (|x, _, _| x.expand_array(Gfn(9)).unwrap(), "expand_array [09 00 00 00 00 00 00 00]"),
        (|x, _, p| x.set_priority(p, Priority(3)).unwrap(), "set_priority [04 03 00 00 03 00 00 00]"),
        (|x, d, _| x.reset_cont(d).unwrap(), "reset_cont [02 01]"),
    ];
    for (op, (guest, expected)) in (0..).zip(table) {
        let calls = calls(Obliging, |xen| guest(xen, dom, port));
        assert_eq!(calls[0].request.to_string(), format!("event_channel_op {expected}"));
        assert_eq!((calls.len(), calls[0].request.command), (1, op));
    }
}

#[test]
fn each_binding_returns_the_port_that_xen_wrote() {
    let port = Port(1 << 24); // the last byte
    assert_eq!(Obliging.alloc_unbound(DomId(1), DomId(2)), Ok(port));
    assert_eq!(Obliging.bind_interdomain(DomId(1), Port(2)), Ok(port));
    assert_eq!(Obliging.bind_virq(Virq(1), V1), Ok(port));
    assert_eq!(Obliging.bind_pirq(Pirq(1), 0), Ok(port));
    assert_eq!(Obliging.bind_ipi(V1), Ok(port));
    assert_eq!(Obliging.status(DomId(1), Port(2)).unwrap().to_bytes()[23], 1);
}

#[test]
fn the_hypercalls_around_event_channels_ask_for_themselves() {
    assert_eq!(asked(|x| x.yield_now().unwrap()), "sched_op yield");
    assert_eq!(asked(|x| x.block().unwrap()), "sched_op block");
    assert_eq!(asked(|x| x.shutdown(3).unwrap()), "sched_op shutdown [03 00 00 00]");
    assert_eq!(
        asked(|x| x.poll(&[Port(1), Port(2)], NonZeroU64::new(9)).unwrap()),
        "sched_op poll [09 00 00 00 00 00 00 00 01 00 00 00 02 00 00 00]",
    );
    assert_eq!(asked(|x| x.poll(&[], None).unwrap()), "sched_op poll [00 00 00 00 00 00 00 00]");
    assert_eq!(
        asked(|x| x.register_vcpu_info(V1, Gfn(2), 64).unwrap()),
        "vcpu_op register_vcpu_info vCPU 1 [02 00 00 00 00 00 00 00 40 00 00 00 00 00 00 00]",
    );
    assert_eq!(
        asked(|x| x.set_periodic_timer(V1, 256).unwrap()),
        "vcpu_op set_periodic_timer vCPU 1 [00 01 00 00 00 00 00 00]",
    );
    assert_eq!(asked(|x| x.stop_periodic_timer(V1).unwrap()), "vcpu_op stop_periodic_timer vCPU 1");
    assert_eq!(
        asked(|x| x.set_singleshot_timer(V1, 256).unwrap()),
        "vcpu_op set_singleshot_timer vCPU 1 [00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00]",
    );
    assert_eq!(asked(|x| x.stop_singleshot_timer(V1).unwrap()), "vcpu_op stop_singleshot_timer vCPU 1");
    assert_eq!(asked(|x| assert_eq!(x.vcpu_is_up(V1), Ok(true))), "vcpu_op is_up vCPU 1");
    assert_eq!(Obliging.vcpu_is_up(VcpuId(0)), Ok(false));
    assert_eq!(
        asked(|x| x.set_callback(CallbackVia::Vector(0xf3)).unwrap()),
        "hvm_op set_param [f0 7f 00 00 00 00 00 00 f3 00 00 00 00 00 00 02]",
    );
    assert_eq!(
        asked(|x| assert_eq!(x.hvm_param(HvmParam::CONSOLE_EVTCHN), Ok(1 << 56))),
        "hvm_op get_param [f0 7f 00 00 12 00 00 00 00 00 00 00 00 00 00 00]",
    );
    assert_eq!(
        asked(|x| x.set_upcall_vector(V1, 0xf3).unwrap()),
        "hvm_op set_evtchn_upcall_vector [01 00 00 00 f3 00 00 00]",
    );
    assert_eq!(asked(|x| x.pirq_eoi(Pirq(4)).unwrap()), "physdev_op eoi [04 00 00 00]");
    let status = |x: &dyn Hypercall| assert_eq!(x.pirq_status(Pirq(4)).unwrap().flags, 1 << 24);
    assert_eq!(asked(status), "physdev_op irq_status_query [04 00 00 00 00 00 00 00]");
    let page = |auto| asked(|x| x.set_pirq_eoi_page(Gfn(1), auto).unwrap());
    assert_eq!(page(true), "physdev_op pirq_eoi_gmfn_v1 [01 00 00 00 00 00 00 00]");
    assert_eq!(page(false), "physdev_op pirq_eoi_gmfn_v2 [01 00 00 00 00 00 00 00]");
    assert_eq!(
        asked(|x| x.set_timer_op(NonZeroU64::new(2)).unwrap()),
        "set_timer_op [02 00 00 00 00 00 00 00]"
    );
    assert_eq!(asked(|x| x.set_timer_op(None).unwrap()), "set_timer_op [00 00 00 00 00 00 00 00]");
}

#[test]
fn what_an_implementor_does_not_give_is_not_implemented() {
    type Guest = fn(&Least) -> Result<(), Errno>;
    let missing: [Guest; 6] = [
        |x| x.block(),
        |x| x.poll(&[], None),
        |x| x.stop_periodic_timer(V1),
        |x| x.set_callback(CallbackVia::None),
        |x| x.pirq_eoi(Pirq(0)),
        |x| x.set_timer_op(None),
    ];
    for call in missing {
        assert_eq!(call(&Least), Err(Errno::ENOSYS));
    }
}

#[test]
fn what_points_to_a_hypervisor_keeps_what_it_overrides() {
    struct Shortcut;
    impl Hypercall for Shortcut {
        fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
            Err(Errno::EIO)
        }

        fn send(&self, _: Port) -> Result<(), Errno> {
            Ok(())
        }
    }
    fn check(xen: impl Hypercall) {
        assert_eq!(xen.send(Port(1)), Ok(()));
        assert_eq!(xen.close(Port(1)), Err(Errno::EIO));
    }
    check(&Shortcut);
    check(Box::new(Shortcut) as Box<dyn Hypercall>);
    check(Rc::new(Shortcut));
    check(Arc::new(Shortcut));
}

fn some_guest(xen: &dyn Hypercall) -> Vec<String> {
    let ports = [Port(1); 100];
    vec![
        format!("{:?}", xen.alloc_unbound(DomId::SELF, DomId(2))),
        format!("{:?}", xen.poll(&ports, None)),
        format!("{:?}", xen.vcpu_is_up(V1)),
        format!("{:?}", xen.hvm_param(HvmParam::STORE_EVTCHN)),
        format!("{:?}", xen.pirq_status(Pirq(1))),
        format!("{:?}", xen.set_timer_op(NonZeroU64::new(1))),
        format!("{:?}", xen.block()),
    ]
}

#[test]
fn what_was_recorded_is_answered_again() {
    let (mut live, mut again) = (Vec::new(), Vec::new());
    let recorded = calls(Obliging, |xen| live = some_guest(xen));
    let replay = Replaying::new(&recorded);
    let calls = calls(&replay, |xen| again = some_guest(xen));
    assert_eq!(replay.finish(), Ok(()));
    assert_eq!((live, recorded), (again, calls));
}

#[test]
fn errors_are_recorded_and_replayed_with_an_untouched_argument() {
    let recorded = calls(Least, |xen| assert!(xen.pirq_status(Pirq(1)).is_err()));
    assert_eq!(recorded[0].after, recorded[0].request.argument);
    let replay = Replaying::new(&recorded);
    assert_eq!(replay.pirq_status(Pirq(1)), Err(Errno::ENOSYS));
    assert_eq!(replay.finish(), Ok(()));
}

#[test]
fn the_first_divergence_is_kept_and_all_after_it_is_refused() {
    let recorded = calls(Obliging, |xen| [1, 2, 3].into_iter().for_each(|p| xen.send(Port(p)).unwrap()));
    let replay = Replaying::new(&recorded);
    assert_eq!(replay.send(Port(1)), Ok(()));
    assert_eq!(replay.send(Port(3)), Err(Errno::ENOSYS));
    assert_eq!(replay.send(Port(2)), Err(Errno::ENOSYS)); // the recorded one, too late
    let Err(ReplayError::Diverged(found)) = replay.finish() else { panic!("not noticed") };
    assert_eq!((found.index, found.expected), (1, Some(recorded[1].request)));
    assert_eq!(found.came, recorded[2].request);
    assert_eq!(
        replay.finish().unwrap_err().to_string(),
        "call 1: expected event_channel_op send [02 00 00 00], came event_channel_op send [03 00 00 00]",
    );
}

#[test]
fn a_poll_of_other_ports_diverges_even_beyond_what_is_kept() {
    let mut ports = [Port(7); 20];
    let recorded = calls(Obliging, |xen| xen.poll(&ports, None).unwrap());
    ports[19] = Port(8);
    let replay = Replaying::new(&recorded);
    assert_eq!(replay.poll(&ports, None), Err(Errno::ENOSYS));
    assert!(replay.finish().is_err());
}

#[test]
fn another_vcpu_diverges() {
    let recorded = calls(Obliging, |xen| xen.stop_periodic_timer(V1).unwrap());
    assert_eq!(Replaying::new(&recorded).stop_periodic_timer(VcpuId(2)), Err(Errno::ENOSYS));
}

#[test]
fn too_many_calls_and_too_few_are_told_apart() {
    let recorded = calls(Obliging, |xen| xen.send(Port(1)).unwrap());
    let replay = Replaying::new(&recorded);
    let missing = "ended after 0 of 1 calls: expected event_channel_op send [01 00 00 00]";
    assert_eq!(replay.finish().unwrap_err().to_string(), missing);
    replay.send(Port(1)).unwrap();
    assert_eq!(replay.finish(), Ok(()));
    assert_eq!(replay.yield_now(), Err(Errno::ENOSYS));
    let surplus = "call 1: expected no more, came sched_op yield";
    assert_eq!(replay.finish().unwrap_err().to_string(), surplus);
}

#[test]
fn a_recorder_gives_access_to_what_it_records() {
    let xen = Recording::new(Obliging, |_| ());
    assert_eq!(xen.inner().send(Port(1)), Ok(()));
    assert_eq!(Argument::new(&PhysdevIrqStatusQuery::default().to_bytes()).len(), 8);
}
