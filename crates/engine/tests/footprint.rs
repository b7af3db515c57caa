// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the engine keeps in memory. `cargo test -p evtchn-engine --test footprint -- --nocapture` prints the figures.
#![allow(missing_docs)]
// UNSAFETY: an allocator that counts is a global allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use evtchn_abi::{DomId, Gfn, Port, VcpuId};
use evtchn_engine::test_utils::Recorder;
use evtchn_engine::{DomainConfig, Engine};

struct Counting;

/// The bytes that are allocated at the moment. There is one test in this program, so nobody else allocates.
static LIVE: AtomicIsize = AtomicIsize::new(0);

// SAFETY: it does what `System` does, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` leaves allocated.
fn grown<R>(work: impl FnOnce() -> R) -> (usize, R) {
    let before = LIVE.load(Relaxed);
    let result = work();
    (usize::try_from(LIVE.load(Relaxed) - before).expect("it grows"), result)
}

#[test]
fn an_idle_domain_and_an_open_port_are_as_small_as_promised() {
    let engine = Engine::new(Recorder::default());
    engine.create_domain(DomId(1), DomainConfig::guest(1)).unwrap(); // and the table of its group
    let (idle, _) = grown(|| engine.create_domain(DomId(2), DomainConfig::guest(1)).unwrap());
    println!("idle domain, 1 vCPU, two-level: {idle} bytes");
    assert!(idle <= 16 * 1024);

    let config = DomainConfig { max_port: None, ..DomainConfig::guest(1) };
    engine.create_domain(DomId(3), config).unwrap();
    let pages: Vec<_> = (0..129).map(|gfn| engine.hooks().frame(DomId(3), Gfn(gfn))).collect();
    engine.init_control(DomId(3), VcpuId(0), Gfn(128), 0).unwrap();
    (0..128).for_each(|gfn| engine.expand_array(DomId(3), Gfn(gfn)).unwrap());
    let ports = 131_071;
    let (open, _) = grown(|| {
        (0..ports)
            .for_each(|_| assert_ne!(engine.alloc_unbound(DomId(3), DomId::SELF, DomId(1)), Ok(Port(0))));
    });
    println!("open port: {:.3} bytes of {ports} ports", open as f64 / f64::from(ports));
    assert!(open <= 17 * ports as usize, "16 bytes, and the bitmap");
    drop(pages);

    // What is printed is kept by the test's runner, and would count.
    let (left, many) = grown(|| {
        let (many, _) = grown(|| engine.create_domain(DomId(4), DomainConfig::guest(8_192)).unwrap());
        engine.destroy_domain(DomId(4)).unwrap();
        many
    });
    println!("idle domain, 8,192 vCPUs: {many} bytes, {} for each vCPU", many / 8_192);
    assert_eq!(left, 0, "nothing is left of a domain that was destroyed");
}
