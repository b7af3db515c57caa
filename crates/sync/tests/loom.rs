// SPDX-License-Identifier: MIT OR Apache-2.0
//! Models of readers, published values and locks: every order, and every value that a load may see.
//!
//! `cargo xtask models`, or for these alone
//! `RUSTFLAGS="--cfg loom" cargo test --release -p evtchn-sync --features alloc --test loom`
//!
//! What readers protect is a loom cell here: a use and a reuse of which neither comes before the other panic. Each model
//! says which changes of the code it has been seen to find.
#![cfg(loom)]

use std::sync::Arc;

use evtchn_sync::atomic::AtomicBool;
use evtchn_sync::atomic::Ordering::Relaxed;
use evtchn_sync::{Grace, Mutex, Once, OnceBox, Published, Reader, enter, no_readers, wait_for_readers};
use loom::cell::UnsafeCell;
use loom::thread;

/// Runs a model with a bound on preemptions where there are many threads or steps.
fn model(preemptions: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    builder.check(run);
}

/// Something that readers use until it is withdrawn. Plain stores and loads: the order is the slots' business.
#[derive(Default)]
struct Resource {
    withdrawn: AtomicBool,
    contents: UnsafeCell<u32>,
}

// SAFETY: it is loom's business to find out whether it is shared rightly.
#[allow(unsafe_code)]
unsafe impl Sync for Resource {}

impl Resource {
    fn use_it(&self) {
        if !self.withdrawn.load(Relaxed) {
            self.contents.with(|_| ());
        }
    }

    fn withdraw(&self) {
        self.withdrawn.store(true, Relaxed);
    }

    fn reuse(&self) {
        self.contents.with_mut(|_| ());
    }
}

fn spawn(resource: &Arc<Resource>, run: impl FnOnce(&Resource) + 'static) -> thread::JoinHandle<()> {
    let resource = resource.clone();
    thread::spawn(move || run(&resource))
}

/// Fails without the fence in `claim`, without the fence in `no_readers`, and with a relaxed store in `Guard::drop`.
#[test]
fn a_reader_that_a_look_does_not_find_sees_the_withdrawal() {
    model(None, || {
        let resource = Arc::new(Resource::default());
        let reader = spawn(&resource, |resource| {
            let _guard = enter();
            resource.use_it();
        });
        resource.withdraw();
        if no_readers() {
            resource.reuse();
        }
        reader.join().unwrap();
    });
}

/// Fails without the fence in `Reader::enter`.
#[test]
fn nor_is_a_reader_with_a_slot_of_its_own_overlooked() {
    model(None, || {
        let resource = Arc::new(Resource::default());
        let reader = spawn(&resource, |resource| {
            let mut own = Reader::new().unwrap();
            for _ in 0..2 {
                let _guard = own.enter();
                resource.use_it();
            }
        });
        resource.withdraw();
        if no_readers() {
            resource.reuse();
        }
        reader.join().unwrap();
    });
}

/// Fails without the fence in `is_over`, and if a reader of the epoch before counts as new.
#[test]
fn after_a_grace_period_nobody_uses_what_was_withdrawn_before() {
    model(None, || {
        drop(enter()); // else making the slots would bring the threads into an order
        let resource = Arc::new(Resource::default());
        let reader = spawn(&resource, |resource| {
            for _ in 0..2 {
                let _guard = enter();
                resource.use_it();
            }
        });
        resource.withdraw();
        if Grace::start().is_over() {
            resource.reuse();
        }
        reader.join().unwrap();
    });
}

/// Fails if `no_readers` counts the slots before its fence: a slot may come into use while others are looked at.
#[test]
fn a_second_reader_in_a_new_slot_is_not_overlooked() {
    model(Some(4), || {
        let resource = Arc::new(Resource::default());
        let read = |resource: &Resource| {
            let _guard = enter();
            resource.use_it();
        };
        let readers = [spawn(&resource, read), spawn(&resource, read)];
        resource.withdraw();
        if no_readers() {
            resource.reuse();
        }
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// Ends: waiting for readers does not wait for those that come later.
#[test]
fn waiting_for_readers_ends_and_covers_those_of_before() {
    model(None, || {
        let resource = Arc::new(Resource::default());
        let reader = spawn(&resource, |resource| {
            for _ in 0..2 {
                let _guard = enter();
                resource.use_it();
            }
        });
        resource.withdraw();
        wait_for_readers();
        resource.reuse();
        reader.join().unwrap();
    });
}

/// Dropping it is a write that loom sees.
#[derive(Default)]
struct Flag(UnsafeCell<u32>);

// SAFETY: as for `Resource`.
#[allow(unsafe_code)]
unsafe impl Sync for Flag {}

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.with_mut(|_| ());
    }
}

/// Fails if `Retired` does not wait, and if `load` is relaxed: the value would be used before it was made.
#[test]
fn a_published_value_is_not_dropped_while_it_is_used() {
    model(None, || {
        let published = Arc::new(Published::new(None));
        let reader = {
            let published = published.clone();
            thread::spawn(move || {
                let guard = enter();
                let value: Option<&Flag> = published.load(&guard);
                value.inspect(|flag| flag.0.with(|_| ()));
            })
        };
        let flag = Flag::default();
        flag.0.with_mut(|_| ());
        drop(published.replace(Some(Box::new(flag))));
        drop(published.replace(None));
        reader.join().unwrap();
    });
}

/// Fails if the pointer is stored or loaded relaxed.
#[test]
fn what_is_boxed_once_is_seen_whole() {
    model(None, || {
        let once = Arc::new(OnceBox::new());
        let other = {
            let once = once.clone();
            thread::spawn(move || {
                let flag = Flag::default();
                flag.0.with_mut(|_| ());
                assert!(once.set(Box::new(flag)).is_ok());
            })
        };
        let seen: Option<&Flag> = once.get();
        seen.inspect(|flag| flag.0.with(|_| ()));
        other.join().unwrap();
    });
}

/// Fails if READY is stored or loaded relaxed, and if BEING_SET is not told from READY.
#[test]
fn what_is_set_once_is_seen_whole_and_stays() {
    model(None, || {
        let once = Arc::new(Once::new());
        let set = |once: &Once<u32>, value| once.set(value).is_ok();
        let other = {
            let once = once.clone();
            thread::spawn(move || set(&once, 1))
        };
        let before = once.get().copied();
        let mine = set(&once, 2);
        let seen = once.get().copied();
        let theirs = other.join().unwrap();
        assert!(mine != theirs);
        let last = once.get().copied();
        assert_eq!(last, Some(if mine { 2 } else { 1 }));
        assert!(before.is_none() || before == last);
        assert!(seen.is_none() || seen == last);
    });
}

/// Fails if `lock` or the drop of its guard is relaxed.
#[test]
fn holders_of_a_mutex_exclude_each_other() {
    model(None, || {
        let lock = Arc::new(Mutex::new(0));
        let other = {
            let lock = lock.clone();
            thread::spawn(move || (0..2).for_each(|_| *lock.lock() += 1))
        };
        *lock.lock() += 1;
        other.join().unwrap();
        assert_eq!(*lock.lock(), 3);
    });
}
