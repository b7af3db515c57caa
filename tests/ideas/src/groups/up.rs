// SPDX-License-Identifier: MIT OR Apache-2.0
//! UP: upcalls, and where their bytes are.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;

use evtchn_abi::DomId;
use evtchn_engine::Upcall;
use evtchn_sync::{HeapPage, Page};

use crate::race::{Mail, until_read};
use crate::vcpus::{intx, vector};
use crate::world::*;
use crate::{Case, case, rounds};

/// A frame of domain 1's memory.
const FRAME: u64 = 50;

/// The size of a vcpu_info.
const SIZE: usize = 64;

/// A hardware-assisted domain 1 with this callback.
fn hvm(callback: u64) -> World {
    let w = World::hvm();
    assert_eq!(w.set_callback(D1, callback), 0);
    w
}

/// An event for a vCPU of domain 1 whose upcall byte is clear: how it is delivered.
fn told(w: &World, vcpu: u32) -> Vec<(u16, u32, Upcall)> {
    let p = port(w.bind_ipi(D1, vcpu));
    w.calm();
    assert_eq!((w.send(D1, p), w.bits(D1, p, vcpu)), (0, "P.SU".into()));
    w.upcalls()
}

fn clear_upcall(w: &World, vcpu: u32) {
    w.set(D1, Bit::U, 0, vcpu, false);
}

/// A vcpu_info's bytes.
fn info(page: &HeapPage, start: usize) -> Vec<u8> {
    snapshot(page)[start..start + SIZE].to_vec()
}

fn fill(page: &HeapPage, value: impl Fn(usize) -> u8) {
    (0..4096).for_each(|at| page.u8(at).unwrap().store(value(at), SeqCst));
}

/// What a vcpu_info looks like after it was registered: the bytes, with the upcall and all of the selector set.
fn announced(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[0] = 1;
    bytes[8..16].fill(0xff);
    bytes
}

pub const CASES: &[Case] = &[
    case("UP-01", "an event on an idle vCPU is delivered exactly once", || {
        let w = World::new();
        let (near, _) = w.pair(D2, D1);
        assert_eq!((w.send(D2, near), w.send(D2, near), w.delivered()), (0, 0, vec![(D1, 0)]));
    }),
    case("UP-02", "while an upcall is pending another word gives none", || {
        let w = World::new();
        w.fill_to(D1, 64);
        assert_eq!((w.send(D1, 1), w.delivered()), (0, vec![(D1, 0)]));
        assert_eq!((w.send(D1, 64), w.delivered()), (0, vec![]));
        assert_eq!(w.bits(D1, 64, 0), "P.SU");
    }),
    case("UP-03", "the domain's vector is injected at each entry until the upcall byte is clear", || {
        let (w, expected) = (hvm(vector(0xf3)), Upcall::Vector(0xf3));
        for vcpu in [0, 2] {
            assert_eq!(told(&w, vcpu), [(D1, vcpu, expected)]);
            assert_eq!([(); 3].map(|()| w.at_entry(D1, vcpu)), [Some(expected); 3]);
            clear_upcall(&w, vcpu);
            assert_eq!((w.at_entry(D1, vcpu), w.upcalls()), (None, vec![]));
        }
    }),
    case("UP-04", "with an interrupt line an event for vCPU 1 gives no interrupt", || {
        for callback in [9, intx(3, 2)] {
            let w = hvm(callback);
            assert_eq!((told(&w, 1), w.at_entry(D1, 1), w.at_entry(D1, 0)), (vec![], None, None));
        }
    }),
    case("UP-05", "one for vCPU 0 asserts the line until the byte is clear at an entry", || {
        let (w, line) = (hvm(9), Upcall::Gsi(9));
        assert_eq!((w.at_entry(D1, 0), told(&w, 0)), (None, vec![(D1, 0, line)]));
        assert_eq!([(); 2].map(|()| w.at_entry(D1, 0)), [Some(line); 2]);
        clear_upcall(&w, 0);
        assert_eq!(w.at_entry(D1, 0), None);
    }),
    case("UP-06", "a callback that changes prods the vCPUs with an upcall that is pending", || {
        // Xen prods those without one, too, for which it means nothing.
        let w = World::hvm();
        assert_eq!((told(&w, 0), w.at_entry(D1, 0)), (vec![], None));
        w.set(D1, Bit::U, 0, 2, true);
        for (value, upcall) in [(vector(0xf3), Upcall::Vector(0xf3)), (vector(0x40), Upcall::Vector(0x40))] {
            assert_eq!((w.set_callback(D1, value), w.upcalls()), (0, vec![(D1, 0, upcall), (D1, 2, upcall)]));
        }
        assert_eq!((w.set_callback(D1, 9), w.upcalls()), (0, vec![(D1, 0, Upcall::Gsi(9))]));
    }),
    case("UP-07", "0, line 0, type 3 and lines out of range are no callback, with success", || {
        for value in [0, 0x100, 3 << 56 | 0xf3, 48, 255] {
            let w = hvm(vector(0xf3));
            assert_eq!((w.set_callback(D1, value), w.callback(D1)), (0, value));
            assert_eq!((told(&w, 0), w.at_entry(D1, 0)), (vec![], None), "{value:#x}");
        }
        assert_eq!(told(&hvm(47), 0), [(D1, 0, Upcall::Gsi(47))], "the last line");
        assert_eq!(told(&hvm(0xff09), 0), [(D1, 0, Upcall::Gsi(9))], "the lowest byte counts");
    }),
    case("UP-08", "type 1 is a pin of a device on bus 0, whatever the other bits are", || {
        let upcall = Upcall::PciIntx { device: 3, pin: 2 };
        for value in [1 << 56 | 3 << 11 | 2, 0x01ff_ffff_ffff_0000 | 3 << 11 | 0x7fc | 2] {
            let w = hvm(value);
            assert_eq!((told(&w, 0), w.at_entry(D1, 0)), (vec![(D1, 0, upcall)], Some(upcall)));
        }
    }),
    case("UP-09", "a vector of a vCPU's own below 16 is EINVAL; another prods the vCPU once", || {
        let w = World::hvm();
        assert_eq!([0, 0x0f].map(|vector| w.set_upcall_vector(D1, 1, vector)), [EINVAL; 2]);
        assert_eq!(w.upcalls(), []);
        assert_eq!(w.set_upcall_vector(D1, 1, 0x10), 0);
        assert_eq!(w.upcalls(), [(D1, 1, Upcall::VcpuVector(0x10))]);
        assert_eq!(World::new().set_upcall_vector(D1, 1, 0x10), EINVAL, "paravirtual");
    }),
    case("UP-10", "a vector for an absent vCPU is ENOENT", || {
        let w = World::hvm();
        assert_eq!([4, u32::MAX].map(|vcpu| w.set_upcall_vector(D1, vcpu, 0x10)), [ENOENT; 2]);
        assert_eq!((w.set_upcall_vector(D1, 4, 0x0f), w.upcalls()), (EINVAL, vec![]));
    }),
    case("UP-11", "a vCPU's own vector goes before the domain's callback", || {
        for callback in [vector(0xf3), 9, intx(3, 2)] {
            let w = hvm(callback);
            assert_eq!(w.set_upcall_vector(D1, 0, 0x30), 0);
            assert_eq!(told(&w, 0), [(D1, 0, Upcall::VcpuVector(0x30))]);
            assert_eq!(w.at_entry(D1, 0), Some(Upcall::VcpuVector(0x30)));
        }
        let w = hvm(vector(0xf3));
        assert_eq!(w.set_upcall_vector(D1, 0, 0x30), 0);
        assert_eq!(told(&w, 1), [(D1, 1, Upcall::Vector(0xf3))], "others have the domain's");
    }),
    case("UP-12", "the contents are copied, the selector is all ones, and an upcall is pending", || {
        let w = World::new();
        let (near, p) = w.pair(D2, D1);
        assert_eq!(w.bind_vcpu(D1, p, 1), 0);
        // A pattern in the whole slot; its upcall byte is clear.
        fill(w.page(D1), |at| if (SIZE..2 * SIZE).contains(&at) { (at - SIZE) as u8 } else { 0 });
        let (area, old) = (w.frame(D1, FRAME), info(w.page(D1), SIZE));
        assert_eq!(w.register_vcpu_info(D1, 1, FRAME, 128), 0);
        assert_eq!((info(&area, 128), info(w.page(D1), SIZE)), (announced(old.clone()), old.clone()));
        assert_eq!(w.upcalls(), [(D1, 1, Upcall::PvEntry)]);
        assert!(snapshot(&area)[..128].iter().chain(&snapshot(&area)[192..]).all(|&byte| byte == 0));
        // Events go there from now on.
        fill(&area, |_| 0);
        assert_eq!((w.send(D2, near), w.delivered()), (0, vec![(D1, 1)]));
        assert_eq!([128, 136].map(|at| byte(&area, at)), [1, 1]);
        assert_eq!(info(w.page(D1), SIZE), old);
    }),
    case("UP-13", "a second registration is EBUSY; with 4.17 EINVAL", || {
        for (w, refused) in [(World::new(), EBUSY), (World::old(), EINVAL)] {
            let (first, second) = (w.frame(D1, FRAME), w.frame(D1, FRAME + 1));
            assert_eq!([FRAME, FRAME + 1].map(|gfn| w.register_vcpu_info(D1, 0, gfn, 0)), [0, refused]);
            fill(&first, |_| 0);
            assert_eq!((w.bind_ipi(D1, 0), w.send(D1, 1), byte(&first, 0)), (1, 0, 1));
            assert_eq!(info(&second, 0), [0; SIZE]);
        }
    }),
    case("UP-14", "an area that crosses its page or is not aligned to a word is ENXIO", || {
        for w in [World::new(), World::old()] {
            w.frame(D1, FRAME);
            for offset in [4, 1, 4036, 4040, 4088, 4095] {
                assert_eq!(w.register_vcpu_info(D1, 0, FRAME, offset), ENXIO, "{offset}");
            }
            assert_eq!((w.delivered(), w.register_vcpu_info(D1, 0, FRAME, 4032)), (vec![], 0));
        }
        let narrow = World::narrow();
        narrow.frame(D1, FRAME);
        assert_eq!([2, 4036, 4].map(|at| narrow.register_vcpu_info(D1, 0, FRAME, at)), [ENXIO, ENXIO, 0]);
    }),
    case("UP-15", "that of vCPU 40 begins as zeroes with upcalls masked, then as any other", || {
        let w = World::with(|one| one.vcpus = 64);
        let area = w.frame(D1, FRAME);
        fill(&area, |_| 0xaa);
        assert_eq!((w.bind_ipi(D1, 40), w.send(D1, 1), w.delivered()), (1, 0, vec![]));
        assert_eq!((w.register_vcpu_info(D1, 40, FRAME, 64), w.delivered()), (0, vec![(D1, 40)]));
        let mut masked = vec![0; SIZE];
        masked[1] = 1;
        assert_eq!(info(&area, 64), announced(masked));
        assert_eq!([byte(&area, 63), byte(&area, 128)], [0xaa; 2]);
        // What was sent before is found by the scan, as every port is announced.
        let mut found = vec![];
        w.scan_by(D1, &area, 64, |port| found.push(port));
        assert_eq!((found, w.send(D1, 1), w.delivered()), (vec![1], 0, vec![(D1, 40)]));
        assert_eq!([64, 72].map(|at| byte(&area, at)), [1, 1]);
    }),
    case("UP-16", "an event that races the registration is visible in the new area", || {
        let w = World::new();
        let (near, p) = w.pair(D2, D1);
        let area = w.frame(D1, FRAME);
        w.quiet();
        for round in 0..rounds(1_000, 20_000) {
            let mails = [Mail::default()];
            thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..3 {
                        (0..round % 50 * 10).for_each(|_| std::hint::spin_loop());
                        mails[0].write();
                        assert_eq!(w.send(D2, near), 0);
                    }
                });
                let read = |port| {
                    assert_eq!(port, p);
                    mails[0].read();
                };
                w.scan(D1, 0, read);
                assert_eq!(w.register_vcpu_info(D1, 0, FRAME, 0), 0);
                // The guest no longer looks into shared_info, and here only while an upcall is pending.
                until_read(&mails, 3, || {
                    if byte(&area, 0) & 1 == 1 {
                        w.scan_by(D1, &area, 0, read);
                    }
                });
            });
            w.engine.drop_vcpu_infos(DomId(D1)).unwrap();
            w.scan(D1, 0, |port| assert_eq!(port, p));
        }
        assert_eq!(Arc::strong_count(&area), 2, "none is kept");
    }),
    case("UP-17", "a paravirtual vCPU with upcalls masked is entered when it unmasks them", || {
        // The entry is the embedder's: he is told once, and may enter when the byte is set and the mask is clear.
        let w = World::new();
        let (near, p) = w.pair(D2, D1);
        let mask = w.page(D1).u8(1).unwrap();
        mask.store(1, SeqCst);
        assert_eq!((w.send(D2, near), w.bits(D1, p, 0), w.delivered()), (0, "P.SU".into(), vec![(D1, 0)]));
        assert_eq!(w.at_entry(D1, 0), None);
        let other = port(w.bind_ipi(D1, 1));
        assert_eq!(w.poll(D1, 0, &[other], 0), SLEEPS, "nothing can be entered");
        assert!(w.finish_poll(D1, 0));
        mask.store(0, SeqCst);
        assert_eq!(w.at_entry(D1, 0), Some(Upcall::PvEntry));
        assert_eq!(w.poll(D1, 0, &[other], 0), DONE, "it is entered at once");
    }),
];
