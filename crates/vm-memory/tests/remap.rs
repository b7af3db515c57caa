// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's memory is exchanged while another domain sends: nothing crashes, nothing is lost that the guest still
//! looks at, and the old memory goes when the engine has let go of it.
#![allow(missing_docs)]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use common::{
    CONTROL, DirtyPage, FifoGuest, GUEST, Guest, PAGE, SENDER, SHARED_INFO, V0, Vmm, array, connect, engine,
    fifo, memory,
};
use evtchn_abi::{DomId, Port};
use evtchn_engine::{Engine, Hooks};
use evtchn_guest::{Abi, Hypercall};
use evtchn_sync::Page;
use vm_memory::bitmap::AtomicBitmap;
use vm_memory::{GuestAddress, GuestMemoryBackend, MmapRegion};

/// Runs `work` while a thread sends on `port` all the time; how often it sent.
fn while_sending(engine: &Engine<Vmm>, port: Port, work: impl FnOnce()) -> u64 {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(SeqCst) {
                engine.send(SENDER, port).unwrap();
                sent += 1;
            }
            sent
        });
        work();
        stop.store(true, SeqCst);
        sender.join().unwrap()
    })
}

/// The mapping in which a guest's shared_info is.
fn mapping(engine: &Engine<Vmm>) -> Weak<MmapRegion<AtomicBitmap>> {
    let memory = engine.hooks().memory(GUEST);
    Arc::downgrade(&memory.find_region(GuestAddress(SHARED_INFO.0 * PAGE)).unwrap().get_mmap())
}

/// Waits for something that a sending thread will bring about.
fn soon(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn pending(page: &DirtyPage, port: Port) -> bool {
    page.u64(2048 + 8 * (port.0 as usize / 64)).unwrap().load(SeqCst) >> (port.0 % 64) & 1 == 1
}

#[test]
fn events_go_to_the_new_shared_info_and_the_old_memory_goes() {
    let engine = engine();
    let (near, far) = connect(&engine);
    let sent = while_sending(&engine, near, || {
        for _ in 0..200 {
            let old = mapping(&engine);
            engine.hooks().replace(GUEST, memory(&[(0, 16)]));
            assert!(old.upgrade().is_some(), "shared_info is in it");
            let page = engine.hooks().pin(GUEST, SHARED_INFO).unwrap();
            drop(engine.set_shared_info(GUEST, Some(page.clone())).unwrap());
            assert!(old.upgrade().is_none(), "no sender uses it any more");
            soon("the event in the new page", || pending(&page, far));
        }
    });
    assert!(sent >= 200);
    engine.validate().unwrap();
}

#[test]
fn a_guest_without_shared_info_loses_its_events_and_gets_the_next_ones() {
    let engine = engine();
    let (near, far) = connect(&engine);
    while_sending(&engine, near, || {
        for _ in 0..200 {
            let old = mapping(&engine);
            engine.set_shared_info(GUEST, None).unwrap();
            engine.hooks().replace(GUEST, memory(&[(0, 16)]));
            assert!(old.upgrade().is_none());
            let page = engine.hooks().pin(GUEST, SHARED_INFO).unwrap();
            engine.set_shared_info(GUEST, Some(page.clone())).unwrap();
            soon("the event in the new page", || pending(&page, far));
        }
    });
}

/// Handles one event, if there is any: a whole upcall might not end while somebody sends.
fn one_event(guest: &FifoGuest) -> Option<Port> {
    let mut event = [Port(0)];
    (guest.take_pending(V0, &mut event) == 1).then_some(event[0])
}

#[test]
fn fifo_pages_stay_where_they_were_until_the_guest_resets() {
    let engine = engine();
    for _ in 0..50 {
        let (near, far) = connect(&engine);
        let guest = fifo(&engine, 1);
        guest.unmask(far, &Guest(&engine, GUEST)).unwrap();
        let old = mapping(&engine);
        while_sending(&engine, near, || {
            soon("an event in the old memory", || one_event(&guest) == Some(far));
            // The memory goes away under the guest; Xen's side goes on with the old one.
            engine.hooks().replace(GUEST, memory(&[(0, 16)]));
            soon("an event that is still there", || one_event(&guest) == Some(far));
            drop(guest);
            let shared_info = engine.hooks().pin(GUEST, SHARED_INFO);
            drop(engine.set_shared_info(GUEST, shared_info).unwrap());
            assert!(old.upgrade().is_some(), "the control block and the array are in it");
        });
        Guest(&engine, GUEST).reset(DomId::SELF).unwrap();
        assert!(old.upgrade().is_none(), "the reset has let go of them");
        engine.close(SENDER, near).unwrap();
        engine.validate().unwrap();
    }
}

#[test]
fn a_destroyed_guest_leaves_no_page_behind() {
    let engine = engine();
    let (near, far) = connect(&engine);
    let guest = fifo(&engine, 1);
    guest.unmask(far, &Guest(&engine, GUEST)).unwrap();
    engine.send(SENDER, near).unwrap();
    let old = mapping(&engine);
    drop(guest);
    engine.hooks().replace(GUEST, memory(&[(0, 1)]));
    assert!(old.upgrade().is_some());
    drop(engine.destroy_domain(GUEST).unwrap());
    assert!(old.upgrade().is_none());
}

/// Arguments and pins race with an exchange of the map: each sees one map or the other, whole.
#[test]
fn hypercalls_race_with_the_exchange_of_the_map() {
    let engine = engine();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                engine.hooks().replace(GUEST, memory(&[(0, 8)]));
                engine.hooks().replace(GUEST, memory(&[(0, 3), (3, 5)]));
            }
        });
        let xen = Guest(&engine, GUEST);
        for _ in 0..500 {
            xen.init_control(V0, CONTROL, 8).unwrap();
            xen.expand_array(array(0)).unwrap();
            xen.reset(DomId::SELF).unwrap();
        }
        stop.store(true, SeqCst);
    });
    engine.validate().unwrap();
}
