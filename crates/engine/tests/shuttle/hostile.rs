// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest that does not keep to the rules.

use std::sync::Arc;
use std::sync::atomic::AtomicU32 as Count;

use evtchn_abi::fifo::Priority;
use evtchn_abi::{Port, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;
use shuttle::thread;

use crate::world::{D2, D3, World, check};

const V0: VcpuId = VcpuId(0);
/// A bit of an event word that nobody uses.
const UNUSED: u32 = 1 << 20;

/// In some schedules all attempts to link behind the tail fail. Then the sender goes on as if the event were linked. Fails if it
/// tries until the guest leaves the word alone, if BUSY stays, and if HEAD is changed.
#[test]
fn a_tail_that_changes_all_the_time_is_given_up() {
    static GIVEN_UP: Count = Count::new(0);
    check(|| {
        let world = World::new();
        world.switch_to_fifo();
        let [(first, tail), (second, port)] = [world.pair(D2), world.pair(D3)];
        world.engine.send(D2, first).unwrap();
        let world = Arc::new(world);
        let guest = {
            let world = world.clone();
            thread::spawn(move || {
                (0..40).for_each(|_| drop(world.guest.cell(tail).fetch_xor(UNUSED, SeqCst)))
            })
        };
        world.engine.send(D3, second).unwrap();
        guest.join().unwrap();
        let word = world.guest.word(tail);
        assert!(word.is_linked() && !word.is_busy());
        assert!(world.guest.word(port).is_linked());
        assert_eq!(world.guest.head(V0, Priority::DEFAULT), tail);
        let given_up = word.link() == Port(0);
        assert!(given_up || word.link() == port);
        GIVEN_UP.fetch_add(given_up.into(), SeqCst);
    });
    assert!(GIVEN_UP.load(SeqCst) > 0);
}
