// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upcall: which ports have news for this vCPU.
//!
//! A scan takes the selector and looks at each word in it once, cyclically from where the last event
//! was handled, so that a port that is always busy cannot starve those above it. The word where the
//! scan begins is looked at twice: first from the start bit up, at the end as a whole.

use core::ops::ControlFlow;

use evtchn_abi::{Port, VcpuId};
use evtchn_sync::Page;

use crate::{TwoLevel, Vcpu};

/// How a run of upcalls ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scan {
    /// No upcall was waiting.
    Idle,
    /// All events were handled.
    Done,
    /// The handler asked to stop. What is left is announced again: run the upcall once more, later.
    Stopped,
}

impl<P: Page, S: AsRef<[Vcpu]>> TwoLevel<P, S> {
    /// Handles upcalls of this vCPU until none is waiting. Returns whether one was.
    ///
    /// For each port that is pending, unmasked and bound to this vCPU, the pending bit is cleared and
    /// then `handle` is called. It may mask the port, call any method here, and send events.
    ///
    /// Peers that never stop sending keep this running; see [`upcall_while`](Self::upcall_while).
    pub fn upcall(&self, vcpu: VcpuId, mut handle: impl FnMut(Port)) -> bool {
        let scan = self.upcall_while(vcpu, |port| {
            handle(port);
            ControlFlow::Continue(())
        });
        scan != Scan::Idle
    }

    /// As [`upcall`](Self::upcall), until `handle` says to stop: after so many events, or so long.
    ///
    /// The event whose handler says so counts as handled.
    pub fn upcall_while(&self, vcpu: VcpuId, mut handle: impl FnMut(Port) -> ControlFlow<()>) -> Scan {
        let mut result = Scan::Idle;
        while self.take_upcall(vcpu) {
            // After upcall_pending was cleared: what comes later makes a new upcall.
            if self.scan(vcpu, &mut handle).is_break() {
                return Scan::Stopped;
            }
            result = Scan::Done;
        }
        result
    }

    /// Looks at every word that has news.
    fn scan(&self, vcpu: VcpuId, handle: &mut impl FnMut(Port) -> ControlFlow<()>) -> ControlFlow<()> {
        let Some(state) = self.vcpu(vcpu) else { return ControlFlow::Continue(()) };
        let mut words = self.take_selector(vcpu);
        let (first, bit) = self.layout().word_and_bit(Port(state.start())).unwrap_or((0, 0));
        let visits = [(first, bit)].into_iter().chain(self.cycle_after(first).map(|word| (word, 0)));
        for (word, from) in visits {
            if words >> word & 1 == 0 {
                continue;
            }
            if self.visit(state, word, from, handle).is_break() {
                self.put_back(vcpu, words);
                return ControlFlow::Break(());
            }
            // Looked at only in part on the first visit: stays for the last one.
            if (word, from) != (first, bit) || bit == 0 {
                words &= !(1 << word);
            }
        }
        ControlFlow::Continue(())
    }

    /// All words, from the one after `first` round to `first` itself.
    fn cycle_after(&self, first: u32) -> impl Iterator<Item = u32> + use<P, S> {
        let words = self.layout().word_bits;
        (first + 1..words).chain(0..first + 1)
    }

    /// Handles the events of one word, from a bit upwards. The word is read once.
    fn visit(
        &self,
        state: &Vcpu,
        word: u32,
        from: u32,
        handle: &mut impl FnMut(Port) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut active = self.active(word, state.mine(word)) & (u64::MAX << from);
        while active != 0 {
            let port = Port(word * self.layout().word_bits + active.trailing_zeros());
            active &= active - 1;
            // Another vCPU may have been faster, if the port is just being moved.
            if self.clear_pending(port) {
                state.set_start((port.0 + 1) % self.nr_channels());
                handle(port)?;
            }
        }
        ControlFlow::Continue(())
    }
}
