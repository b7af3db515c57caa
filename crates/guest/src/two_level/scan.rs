// SPDX-License-Identifier: MIT OR Apache-2.0
//! The upcall: which ports have news for this vCPU.
//!
//! A scan takes the selector and looks at each word in it once, cyclically from where the last event was handled, so that a
//! port that is always busy cannot starve those above it. The word where the scan begins is looked at twice: first from the
//! start bit up, at the end as a whole.
//!
//! All events of a word are taken by one clearing of their pending bits, and kept in the vCPU's own memory until they are handled,
//! by a later upcall if the handler says stop: a pending bit that is set again could belong to another binding by then.
//! Who unbinds a port takes its event out of there.

use core::ops::ControlFlow;

use evtchn_abi::{Port, VcpuId};

use super::{TwoLevel, TwoLevelVcpu};
use crate::info::Info;
use crate::{Memory, Scan, words};

impl<M: Memory, V: AsRef<[TwoLevelVcpu]>> TwoLevel<M, V> {
    #[inline]
    pub(super) fn take_upcalls(&self, vcpu: VcpuId, mut handle: impl FnMut(Port) -> ControlFlow<()>) -> Scan {
        let Some((info, state)) = Info::of(&self.memory, vcpu).zip(self.vcpu(vcpu)) else {
            return Scan::Idle;
        };
        let mut result = Scan::Idle;
        while info.take_upcall() {
            // After upcall_pending was cleared: what comes later makes a new upcall.
            if self.scan(vcpu, &info, state, &mut handle).is_break() {
                return Scan::Stopped;
            }
            result = Scan::Done;
        }
        result
    }

    /// Looks at every word that has news.
    fn scan(
        &self,
        vcpu: VcpuId,
        info: &Info<'_, M::Page>,
        state: &TwoLevelVcpu,
        handle: &mut impl FnMut(Port) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut words = info.take_selector();
        let (first, _) = self.start(state);
        if self.handle_kept(state, first, state.kept(first), handle).is_break() {
            info.announce(words | 1 << first);
            return ControlFlow::Break(());
        }
        let (first, bit) = self.start(state);
        let (here, from_bit) = (1u64 << first, u64::MAX << bit);
        let (below, above) = (here - 1, !(here - 1) & !here);
        for (among, range) in [(here, from_bit), (above, u64::MAX), (below, u64::MAX), (here, !from_bit)] {
            let mut visit = words & among;
            while visit != 0 {
                let word = visit.trailing_zeros();
                visit &= visit - 1;
                if range & 1 == 1 {
                    // Not to be looked at again. Above the start bit only is the first half of a look.
                    words &= !(1 << word);
                }
                let taken = self.take_word(vcpu, state, word, range);
                if self.handle_all(state, word, taken, handle).is_break() {
                    info.announce(words | 1 << word);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes the events of a word, within a range of bits, that are this vCPU's. The words are read once.
    #[inline]
    fn take_word(&self, vcpu: VcpuId, state: &TwoLevelVcpu, word: u32, range: u64) -> u64 {
        let (page, layout) = (self.memory.shared_info(), self.memory.layout());
        let Some((pending, mask)) = layout.pending_word(word).zip(layout.mask_word(word)) else { return 0 };
        // Mostly few words have any. The mask second: who unmasks looks at what is pending afterwards.
        let there = words::get(page, layout, pending) & range;
        if there == 0 {
            return 0;
        }
        let mine = state.mine(word);
        let active = there & !words::get(page, layout, mask);
        let mut taken = active & mine;
        let once_mine = active & !mine & state.once_mine(word);
        if once_mine != 0 {
            taken |= self.that_nobody_else_sees(vcpu, word, once_mine);
        }
        if taken == 0 {
            return 0;
        }
        // Another vCPU may have been faster with what it had before, or has now.
        words::clear(page, layout, pending, taken) & taken
    }

    /// Of events of ports that other vCPUs have now, those that are not announced there.
    #[cold]
    fn that_nobody_else_sees(&self, vcpu: VcpuId, word: u32, bits: u64) -> u64 {
        let others = self.all_vcpus().filter(|&(id, _)| id != vcpu);
        // Whoever finds the word in its selector looks at the pending bits afterwards.
        let announced = others.filter(|&(id, _)| {
            Info::of(&self.memory, id).is_some_and(|info| info.selector() >> word & 1 == 1)
        });
        announced.fold(bits, |bits, (_, other)| bits & !other.mine(word))
    }

    /// Handles events of a word that have been taken, upwards.
    #[inline]
    fn handle_all(
        &self,
        state: &TwoLevelVcpu,
        word: u32,
        taken: u64,
        handle: &mut impl FnMut(Port) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if taken == 0 {
            return ControlFlow::Continue(());
        }
        state.keep(word, taken);
        self.handle_kept(state, word, taken, handle)
    }

    /// Handles events of a word that are kept, but for those whose ports are unbound meanwhile.
    #[inline]
    fn handle_kept(
        &self,
        state: &TwoLevelVcpu,
        word: u32,
        mut kept: u64,
        handle: &mut impl FnMut(Port) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        while kept != 0 {
            let bit = kept.trailing_zeros();
            let port = self.port(word, bit);
            kept &= kept - 1;
            let stop = state.kept(word) >> bit & 1 == 1 && handle(port).is_break();
            if stop || kept == 0 {
                state.set_start((port.0 + 1) % self.memory.layout().nr_channels());
                state.leave(word, kept);
            }
            if stop {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// Takes what a vCPU that has gone offline did not come to: what a stopped upcall kept, and what was announced to it
    /// and to nobody else.
    pub(super) fn take_rest(&self, vcpu: VcpuId, state: &TwoLevelVcpu, mut left: impl FnMut(Port)) {
        let mut handle = |port| {
            left(port);
            ControlFlow::Continue(())
        };
        let (first, _) = self.start(state);
        let _ = self.handle_kept(state, first, state.kept(first), &mut handle);
        let mut words = Info::of(&self.memory, vcpu).map_or(0, |info| info.take_selector());
        while words != 0 {
            let word = words.trailing_zeros();
            words &= words - 1;
            let taken = self.take_word(vcpu, state, word, u64::MAX);
            let _ = self.handle_all(state, word, taken, &mut handle);
        }
    }

    /// The word and the bit where the next scan begins.
    #[inline]
    fn start(&self, state: &TwoLevelVcpu) -> (u32, u32) {
        self.memory.layout().word_and_bit(Port(state.start())).unwrap_or((0, 0))
    }

    #[inline]
    pub(super) fn port(&self, word: u32, bit: u32) -> Port {
        Port(word * self.memory.layout().word_bits + bit)
    }
}
