// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two guests whose pages are in rust-vmm's memory: events arrive with both ABIs, and the dirty log names the pages
//! that were written and no others.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{
    ARGUMENT, CONTROL, GUEST, Guest, PAGE, Pages, SENDER, SHARED_INFO, V0, Vmm, array, connect, engine, fifo,
    pages, take_dirty, two_level_pages,
};
use evtchn_abi::{DomId, Errno, Gfn, Op, Port, Priority, VcpuId};
use evtchn_engine::{Engine, Hooks, Outcome};
use evtchn_guest::{Abi, Hypercall, TwoLevel, TwoLevelVcpu};
use evtchn_vm_memory::Arguments;

/// The frames of the guest that were marked since the last time.
fn dirty(engine: &Engine<Vmm>) -> Vec<u64> {
    take_dirty(&engine.hooks().memory(GUEST))
}

/// The guest with the two-level ABI on one vCPU.
fn two_level(engine: &Engine<Vmm>) -> TwoLevel<Pages, [TwoLevelVcpu; 1]> {
    TwoLevel::new(pages(engine, 0), [TwoLevelVcpu::new()])
}

#[test]
fn a_two_level_event_reaches_the_guest() {
    let engine = engine();
    let guest = two_level(&engine);
    let (near, far) = connect(&engine);
    guest.bind(far, V0);
    let before = engine.hooks().upcalls.load(SeqCst);
    Guest(&engine, SENDER).send(near).unwrap();
    assert_eq!(engine.hooks().upcalls.load(SeqCst), before + 1);
    let mut seen = Vec::new();
    assert!(guest.upcall(V0, |port| seen.push(port)));
    assert_eq!(seen, [far]);
}

#[test]
fn a_two_level_event_marks_shared_info_of_the_receiver_only() {
    let engine = engine();
    let (near, _) = connect(&engine);
    take_dirty(&engine.hooks().memory(SENDER));
    dirty(&engine);
    engine.send(SENDER, near).unwrap();
    assert_eq!(dirty(&engine), [SHARED_INFO.0]);
    assert!(take_dirty(&engine.hooks().memory(SENDER)).is_empty());
    engine.send(SENDER, near).unwrap();
    assert!(dirty(&engine).is_empty(), "the bit was set, nothing was written");
}

#[test]
fn an_argument_in_guest_memory_marks_its_page_only_if_there_is_a_result() {
    let engine = engine();
    let (near, _) = connect(&engine);
    let sender = Guest(&engine, SENDER);
    let memory = engine.hooks().memory(SENDER);
    sender.send(near).unwrap();
    take_dirty(&memory); // the guest's own store of the argument is marked by this test's `write_slice`
    let outcome = engine.event_channel_op(SENDER, Op::SEND.0, ARGUMENT, &mut Arguments::physical(&memory));
    assert_eq!(outcome, Outcome::Done(0));
    assert!(take_dirty(&memory).is_empty());
    sender.bind_ipi(VcpuId(1)).unwrap();
    assert_eq!(take_dirty(&memory), [ARGUMENT / PAGE]);
}

#[test]
fn fifo_events_reach_the_guest_by_priority() {
    let engine = engine();
    let guest = fifo(&engine, 2);
    let xen = Guest(&engine, GUEST);
    let channels: Vec<(Port, Port)> = (0..3).map(|_| connect(&engine)).collect();
    for (&(_, far), priority) in channels.iter().zip([9, 0, 4]) {
        xen.set_priority(far, Priority(priority)).unwrap();
        guest.unmask(far, &xen).unwrap();
    }
    channels.iter().for_each(|&(near, _)| engine.send(SENDER, near).unwrap());
    let mut seen = Vec::new();
    assert!(guest.upcall(V0, |port| seen.push(port)));
    assert_eq!(seen, [channels[1].1, channels[2].1, channels[0].1]);
}

#[test]
fn a_fifo_event_marks_its_word_the_control_block_and_shared_info() {
    let engine = engine();
    let guest = fifo(&engine, 2);
    let xen = Guest(&engine, GUEST);
    let channels: Vec<(Port, Port)> = (0..1030).map(|_| connect(&engine)).collect();
    let low = channels[0];
    let (high_near, high) = channels[1029];
    assert!(high.0 >= 1024, "its word is in the second page");
    guest.unmask(low.1, &xen).unwrap();
    guest.unmask(high, &xen).unwrap();
    dirty(&engine);

    engine.send(SENDER, low.0).unwrap();
    assert_eq!(dirty(&engine), [SHARED_INFO.0, CONTROL.0, array(0).0]);
    engine.send(SENDER, high_near).unwrap();
    assert_eq!(dirty(&engine), [array(0).0, array(1).0], "the word before it on the queue is linked to it");
    engine.send(SENDER, high_near).unwrap();
    assert!(dirty(&engine).is_empty(), "it was pending");

    let mut seen = Vec::new();
    guest.upcall(V0, |port| seen.push(port));
    assert_eq!(seen, [low.1, high]);
    assert_eq!(
        dirty(&engine),
        [SHARED_INFO.0, CONTROL.0, array(0).0, array(1).0],
        "the guest's side marks, too"
    );

    engine.send(SENDER, high_near).unwrap();
    assert_eq!(dirty(&engine), [SHARED_INFO.0, CONTROL.0, array(1).0]);
}

#[test]
fn a_masked_fifo_event_marks_its_word_only() {
    let engine = engine();
    let _guest = fifo(&engine, 2);
    let (near, _) = connect(&engine);
    dirty(&engine);
    engine.send(SENDER, near).unwrap();
    assert_eq!(dirty(&engine), [array(0).0]);
}

#[test]
fn frames_outside_memory_leave_a_guest_two_level() {
    let engine = engine();
    let xen = Guest(&engine, GUEST);
    for gfn in [Gfn(16), Gfn(u64::MAX), Gfn(1 << 52)] {
        assert_eq!(xen.init_control(V0, gfn, 0), Err(Errno::EINVAL), "{gfn}");
    }
    assert_eq!(xen.expand_array(array(0)), Err(Errno::EOPNOTSUPP));
    assert!(xen.init_control(V0, CONTROL, 0).is_ok());
    assert_eq!(xen.expand_array(Gfn(16)), Err(Errno::EINVAL));
}

/// One frame as shared_info, as both control blocks and as all of the array: the guest's own loss.
#[test]
fn a_guest_that_uses_one_page_for_everything_harms_itself_only() {
    let engine = engine();
    let xen = Guest(&engine, GUEST);
    for vcpu in [0, 1].map(VcpuId) {
        xen.init_control(vcpu, SHARED_INFO, 0).unwrap();
    }
    for _ in 0..4 {
        xen.expand_array(SHARED_INFO).unwrap();
    }
    let ipi = engine.bind_ipi(SENDER, VcpuId(1)).unwrap();
    for round in 0..200 {
        let (near, far) = connect(&engine);
        engine.set_priority(GUEST, far, round % 16).unwrap();
        engine.bind_vcpu(GUEST, far, VcpuId(round % 2)).unwrap();
        engine.send(SENDER, near).unwrap();
        engine.unmask(GUEST, far).unwrap();
    }
    engine.validate().unwrap();
    // The other domain's own channel works as ever.
    engine.send(SENDER, ipi).unwrap();
    let shared = engine.hooks().pin(SENDER, SHARED_INFO).unwrap();
    assert!(TwoLevel::new(two_level_pages(shared), []).is_pending(ipi));
    xen.reset(DomId::SELF).unwrap();
    engine.validate().unwrap();
}
