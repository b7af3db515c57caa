// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readers that are there at once, one by one.
#![cfg(not(any(loom, shuttle)))]

use evtchn_sync::{Grace, Reader, enter};

/// Readers of other tests may be there.
fn wait(grace: Grace) {
    while !grace.is_over() {
        std::thread::yield_now();
    }
}

#[test]
fn two_readers_have_two_slots() {
    let (mut first, mut second) = (Reader::new().unwrap(), Reader::new().unwrap());
    let (first, second) = (first.enter(), second.enter());
    let grace = Grace::start();
    drop(first);
    assert!(!grace.is_over());
    drop(second);
    wait(grace);
}

#[test]
fn one_thread_may_be_two_readers() {
    let (first, second) = (enter(), enter());
    let grace = Grace::start();
    drop(first);
    assert!(!grace.is_over());
    drop(second);
    wait(grace);
}

#[test]
fn a_slot_that_was_given_back_is_used_again() {
    for _ in 0..10_000 {
        drop(Reader::new().unwrap().enter());
    }
    let mut reader = Reader::new().unwrap();
    let guard = reader.enter();
    let grace = Grace::start();
    assert!(!grace.is_over());
    drop(guard);
    wait(grace);
}
