// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two-level ABI as a guest sees it: masks, pending bits, and whose port is whose.
//!
//! Every access to the page is sequentially consistent. The pairs that need it: unmask clears the mask and then reads pending,
//! while Xen sets pending and then reads the mask; the scan clears upcall_pending and then takes the selector, while Xen sets
//! the selector and then upcall_pending.

mod scan;
mod vcpu;

use core::ops::ControlFlow;

use evtchn_abi::{Errno, Port, VcpuId};

use crate::info::{self, Info};
use crate::{Abi, Hypercall, Memory, Scan, words};
pub use vcpu::TwoLevelVcpu;

/// The ABI that every Xen has: 4,096 ports, or 1,024 with words of 32 bits, as bits in `shared_info`.
///
/// `M` is where the page is. `V` holds one [`TwoLevelVcpu`] for each vCPU: an array, a slice, a boxed slice.
///
/// ```
/// use std::sync::atomic::Ordering::SeqCst;
/// use evtchn_abi::{Errno, Layout, Op, Port, VcpuId};
/// use evtchn_guest::{Abi, Frames, Hypercall, TwoLevel, TwoLevelVcpu};
/// use evtchn_sync::{HeapPage, Page};
///
/// struct NoXen; // a real guest executes the hypercall instruction here
/// impl Hypercall for NoXen {
///     fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
///         Err(Errno::ENOSYS)
///     }
/// }
///
/// let page = HeapPage::new();
/// let guest = TwoLevel::new(Frames::<_, [_; 0]>::two_level(&page, &Layout::X86_64), [TwoLevelVcpu::new()]);
/// guest.start(); // masks every port
/// guest.bind(Port(70), VcpuId(0));
/// assert_eq!(guest.unmask(Port(70), &NoXen), Ok(())); // no need of Xen, as nothing is pending
///
/// // What Xen does when an event arrives at port 70, which is bit 6 of word 1:
/// page.u64(2048 + 8).unwrap().fetch_or(1 << 6, SeqCst); // pending
/// page.u64(8).unwrap().fetch_or(1 << 1, SeqCst); // selector of vCPU 0
/// page.u8(0).unwrap().fetch_or(1, SeqCst); // upcall_pending of vCPU 0
///
/// let mut seen = Vec::new();
/// assert!(guest.upcall(VcpuId(0), |port| seen.push(port)));
/// assert_eq!(seen, [Port(70)]);
/// ```
#[derive(Debug)]
pub struct TwoLevel<M, V> {
    memory: M,
    vcpus: V,
}

/// A bit in one of the arrays of the page.
#[derive(Clone, Copy)]
struct BitAt {
    offset: usize,
    bit: u64,
}

impl<M: Memory, V: AsRef<[TwoLevelVcpu]>> TwoLevel<M, V> {
    /// The ports in `memory`, which no vCPU handles yet.
    pub const fn new(memory: M, vcpus: V) -> Self {
        Self { memory, vcpus }
    }

    /// Where the page is.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Does this vCPU handle the port?
    pub fn is_bound_to(&self, port: Port, vcpu: VcpuId) -> bool {
        let place = self.vcpu(vcpu).zip(self.memory.layout().word_and_bit(port));
        place.is_some_and(|(vcpu, (word, bit))| vcpu.mine(word) >> bit & 1 == 1)
    }

    /// As [`unmask`](Abi::unmask), on the vCPU that handles the port, which announces a pending event to itself: no
    /// hypercall is needed.
    ///
    /// `true` says that an upcall is waiting, and has to be [taken](Abi::upcall) now or when upcalls are let in.
    pub fn unmask_here(&self, port: Port, vcpu: VcpuId) -> bool {
        self.clear(self.mask_at(port));
        let Some((word, _)) = self.memory.layout().word_and_bit(port) else { return false };
        let Some(info) = Info::of(&self.memory, vcpu).filter(|_| self.is_pending(port)) else { return false };
        info.announce(1 << word);
        true
    }

    fn vcpu(&self, vcpu: VcpuId) -> Option<&TwoLevelVcpu> {
        self.vcpus.as_ref().get(vcpu.0 as usize)
    }

    /// The vCPUs with their numbers.
    fn all_vcpus(&self) -> impl Iterator<Item = (VcpuId, &TwoLevelVcpu)> {
        (0..).map(VcpuId).zip(self.vcpus.as_ref())
    }

    fn pending_at(&self, port: Port) -> Option<BitAt> {
        let (word, bit) = self.memory.layout().word_and_bit(port)?;
        Some(BitAt { offset: self.memory.layout().pending_word(word)?, bit: 1 << bit })
    }

    fn mask_at(&self, port: Port) -> Option<BitAt> {
        let (word, bit) = self.memory.layout().word_and_bit(port)?;
        Some(BitAt { offset: self.memory.layout().mask_word(word)?, bit: 1 << bit })
    }

    fn set(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        Some(words::set(self.memory.shared_info(), self.memory.layout(), offset, bit) & bit != 0)
    }

    fn clear(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        Some(words::clear(self.memory.shared_info(), self.memory.layout(), offset, bit) & bit != 0)
    }

    fn test(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        Some(words::get(self.memory.shared_info(), self.memory.layout(), offset) & bit != 0)
    }
}

impl<M: Memory, V: AsRef<[TwoLevelVcpu]>> Abi for TwoLevel<M, V> {
    fn nr_channels(&self) -> u32 {
        self.memory.layout().nr_channels()
    }

    fn start(&self) {
        let layout = self.memory.layout();
        for offset in (0..layout.word_bits).filter_map(|word| layout.mask_word(word)) {
            words::set(self.memory.shared_info(), layout, offset, u64::MAX);
        }
        info::clear_all(&self.memory, self.vcpus.as_ref().len());
    }

    fn online(&self, vcpu: VcpuId, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        let state = self.vcpu(vcpu).ok_or(Errno::EINVAL)?;
        Info::of(&self.memory, vcpu).ok_or(Errno::EINVAL)?;
        state.registration.tell(&self.memory, vcpu, xen)
    }

    /// Its ports stay its own until they are moved: one may be bound to it, or moved, just now, and Xen may announce an event
    /// to it late, which it takes when it is online again.
    fn offline(&self, vcpu: VcpuId, left: impl FnMut(Port)) {
        if let Some(state) = self.vcpu(vcpu) {
            self.take_rest(vcpu, state, left);
        }
    }

    fn forget(&self) {
        for vcpu in self.vcpus.as_ref() {
            vcpu.registration.forget();
            vcpu.forget_ports();
        }
    }

    fn cover(&self, port: Port, _: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        if port.0 < self.nr_channels() { Ok(()) } else { Err(Errno::ENOSPC) }
    }

    /// Lets a vCPU handle a port's events, after a successful `bind_vcpu` or when the port is bound.
    ///
    /// The vCPU that had the port before still takes an event that was announced to it alone: Xen may do that after a
    /// `bind_vcpu` has returned, on behalf of a sender that had looked up the vCPU earlier. Nobody else would ever look.
    fn bind(&self, port: Port, vcpu: VcpuId) {
        let Some((word, bit)) = self.memory.layout().word_and_bit(port) else { return };
        // First the new one: an event is taken by whoever clears its pending bit, so two may look.
        if let Some(new) = self.vcpu(vcpu) {
            new.handle(word, 1 << bit);
        }
        for (_, old) in self.all_vcpus().filter(|&(id, _)| id != vcpu) {
            old.hand_over(word, 1 << bit);
        }
    }

    fn unbind(&self, port: Port) {
        let Some((word, bit)) = self.memory.layout().word_and_bit(port) else { return };
        self.vcpus.as_ref().iter().for_each(|vcpu| vcpu.ignore(word, 1 << bit));
    }

    fn mask(&self, port: Port) -> bool {
        self.set(self.mask_at(port)).unwrap_or(true)
    }

    fn unmask(&self, port: Port, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        if !self.is_masked(port) {
            return Ok(());
        }
        if self.is_pending(port) {
            return xen.unmask(port);
        }
        // SeqCst, mask before pending: pairs with Xen's raise, pending before mask.
        self.clear(self.mask_at(port));
        if !self.is_pending(port) {
            return Ok(());
        }
        // An event came between: Xen has announced it or not. It announces what it unmasks itself.
        self.mask(port);
        xen.unmask(port)
    }

    fn is_masked(&self, port: Port) -> bool {
        self.test(self.mask_at(port)).unwrap_or(true)
    }

    fn is_pending(&self, port: Port) -> bool {
        self.test(self.pending_at(port)).unwrap_or(false)
    }

    fn set_pending(&self, port: Port) -> bool {
        self.set(self.pending_at(port)).unwrap_or(false)
    }

    fn clear_pending(&self, port: Port) -> bool {
        self.clear(self.pending_at(port)).unwrap_or(false)
    }

    fn upcall_is_pending(&self, vcpu: VcpuId) -> bool {
        Info::of(&self.memory, vcpu).is_some_and(|info| info.upcall_is_pending())
    }

    #[inline]
    fn upcall_while(&self, vcpu: VcpuId, handle: impl FnMut(Port) -> ControlFlow<()>) -> Scan {
        self.take_upcalls(vcpu, handle)
    }
}
