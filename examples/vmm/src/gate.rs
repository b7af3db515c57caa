// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a guest's vCPUs pass before each entry, and may be held or sent home.

use parking_lot::{Condvar, Mutex};

/// What vCPUs are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Run,
    Wait,
    Leave,
}

/// The gate of one guest.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    wanted: Wanted,
    /// vCPUs that neither wait nor have left.
    inside: usize,
}

impl Gate {
    /// For this many vCPUs.
    pub fn new(vcpus: usize) -> Self {
        Self { state: Mutex::new(State { wanted: Wanted::Run, inside: vcpus }), changed: Condvar::new() }
    }

    /// May a vCPU go on without looking further?
    pub fn is_open(&self) -> bool {
        self.state.lock().wanted == Wanted::Run
    }

    /// Waits while vCPUs are held; false if it is to leave for good.
    pub fn pass(&self) -> bool {
        let mut state = self.state.lock();
        if state.wanted == Wanted::Run {
            return true;
        }
        state.inside -= 1;
        self.changed.notify_all();
        self.changed.wait_while(&mut state, |state| state.wanted == Wanted::Wait);
        if state.wanted == Wanted::Run {
            state.inside += 1;
        }
        state.wanted == Wanted::Run
    }

    /// A vCPU's thread ends by itself: nobody is to wait for it.
    pub fn leave(&self) {
        let mut state = self.state.lock();
        state.wanted = Wanted::Leave;
        state.inside -= 1;
        self.changed.notify_all();
    }

    /// Holds vCPUs; they have to be called back.
    pub fn hold(&self) {
        self.set(Wanted::Wait);
    }

    /// Lets them go on.
    pub fn open(&self) {
        self.set(Wanted::Run);
    }

    /// Sends them home; they have to be called back.
    pub fn close(&self) {
        self.set(Wanted::Leave);
    }

    /// A guest that has ended does not come back.
    fn set(&self, wanted: Wanted) {
        let mut state = self.state.lock();
        if state.wanted != Wanted::Leave {
            state.wanted = wanted;
        }
        self.changed.notify_all();
    }

    /// Waits until no vCPU is inside.
    pub fn wait_until_empty(&self) {
        self.changed.wait_while(&mut self.state.lock(), |state| state.inside > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;
    use std::thread;

    /// vCPUs that count their passes until they are sent home.
    fn vcpus(gate: &Gate, passes: &AtomicU32, body: impl FnOnce()) {
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while gate.pass() {
                        passes.fetch_add(1, SeqCst);
                        thread::yield_now();
                    }
                });
            }
            body();
        });
    }

    #[test]
    fn who_is_held_stands_still_until_the_gate_opens() {
        let (gate, passes) = (Gate::new(2), AtomicU32::new(0));
        vcpus(&gate, &passes, || {
            gate.hold();
            gate.wait_until_empty();
            let before = passes.load(SeqCst);
            thread::yield_now();
            assert_eq!(passes.load(SeqCst), before);
            gate.open();
            while passes.load(SeqCst) == before {
                thread::yield_now();
            }
            gate.close();
            gate.wait_until_empty();
        });
    }

    #[test]
    fn a_guest_that_has_ended_is_not_let_in_again() {
        let gate = Gate::new(2);
        gate.leave();
        gate.open();
        assert!(!gate.is_open());
        assert!(!gate.pass());
        gate.wait_until_empty();
    }
}
