// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where vCPUs wait in a `SCHEDOP_poll`: outside of the guest, as what they wait for need not interrupt them.
//!
//! So an interrupt that is no upcall, such as the local APIC's timer, does not end a poll here, as it does on Xen; it waits until the poll is
//! over.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The pollers of one guest.
#[derive(Debug, Default)]
pub struct Pollers {
    lock: Mutex<()>,
    changed: Condvar,
}

impl Pollers {
    /// Lets all look again.
    pub fn wake(&self) {
        // Who has looked before waits by now.
        drop(self.lock.lock());
        self.changed.notify_all();
    }

    /// Waits while `waits` says so: for at most so long, or until somebody [wakes](Self::wake) the pollers; `None` ends it.
    pub fn wait(&self, mut waits: impl FnMut() -> Option<Duration>) {
        let mut guard = self.lock.lock();
        while let Some(at_most) = waits() {
            self.changed.wait_for(&mut guard, at_most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    use std::thread;
    use std::time::Instant;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_poller_is_woken_when_what_it_waits_for_has_come() {
        for _ in 0..200 {
            let (pollers, has_come) = (Pollers::default(), AtomicBool::new(false));
            thread::scope(|scope| {
                scope.spawn(|| pollers.wait(|| (!has_come.load(SeqCst)).then_some(Duration::MAX)));
                has_come.store(true, SeqCst);
                pollers.wake();
            });
        }
    }

    #[test]
    fn what_comes_between_the_look_and_the_sleep_wakes_the_poller() {
        let pollers = Pollers::default();
        let [looks, has_come] = [const { AtomicBool::new(false) }; 2];
        let begun = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !looks.load(SeqCst) {
                    thread::yield_now();
                }
                has_come.store(true, SeqCst);
                pollers.wake();
            });
            pollers.wait(|| {
                let has_come = has_come.load(SeqCst);
                looks.store(true, SeqCst);
                thread::sleep(Duration::from_millis(20));
                (!has_come).then_some(PATIENCE)
            });
        });
        assert!(begun.elapsed() < PATIENCE);
    }

    #[test]
    fn a_poller_looks_again_when_the_time_is_over() {
        let looks = AtomicU32::new(0);
        Pollers::default().wait(|| (looks.fetch_add(1, SeqCst) < 3).then_some(Duration::from_millis(1)));
        assert!(looks.load(SeqCst) > 3);
    }
}
