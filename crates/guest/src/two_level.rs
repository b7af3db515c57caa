// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two-level ABI as a guest sees it: masks, pending bits, and whose port is whose.
//!
//! Every access to the page is sequentially consistent. The pairs that need it: unmask clears the
//! mask and then reads pending, while Xen sets pending and then reads the mask; the scan clears
//! upcall_pending and then takes the selector, while Xen sets the selector and then upcall_pending.

use evtchn_abi::{Errno, Layout, Port, VcpuId};
use evtchn_sync::Page;
use evtchn_sync::atomic::Ordering::SeqCst;

use crate::{Hypercall, Vcpu, upcall};

/// What a guest does when it unmasks one of its vCPU's own ports and an event is waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelfNotify {
    /// Sets its own selector and upcall_pending. For paravirtual guests, whose upcall comes as soon as
    /// they allow it, and for whoever runs the upcall by hand.
    Local,
    /// Lets Xen do it. For guests whose upcall is an interrupt, which only Xen can raise.
    Hypercall,
}

/// A guest's view of its shared_info.
///
/// `S` holds one [`Vcpu`] for each vCPU: an array, a slice, a boxed slice. All methods take `&self`;
/// any vCPU may call any of them, but `upcall` with its own number only.
#[derive(Debug)]
pub struct TwoLevel<P, S> {
    page: P,
    layout: &'static Layout,
    self_notify: SelfNotify,
    vcpus: S,
}

/// A bit in one of the arrays of the page.
#[derive(Clone, Copy)]
struct BitAt {
    offset: usize,
    bit: u32,
}

impl<P: Page, S: AsRef<[Vcpu]>> TwoLevel<P, S> {
    /// A view of `page`, which is laid out as `layout` says. Ports are handled by no vCPU yet.
    pub fn new(page: P, layout: &'static Layout, self_notify: SelfNotify, vcpus: S) -> Self {
        Self { page, layout, self_notify, vcpus }
    }

    /// The shared page.
    pub fn page(&self) -> &P {
        &self.page
    }

    /// How many ports there can be.
    pub fn nr_channels(&self) -> u32 {
        self.layout.nr_channels()
    }

    /// Masks a port: events set its pending bit and no more. Returns whether it was masked.
    pub fn mask(&self, port: Port) -> bool {
        self.set(self.mask_at(port)).unwrap_or(true)
    }

    /// Masks every port, as a guest does when it starts.
    pub fn mask_all(&self) {
        for word in 0..self.layout.word_bits {
            if let Some(offset) = self.layout.mask_word(word) {
                self.word_or(offset, u64::MAX);
            }
        }
    }

    /// Is the port masked? A port that cannot exist counts as masked.
    pub fn is_masked(&self, port: Port) -> bool {
        self.test(self.mask_at(port)).unwrap_or(true)
    }

    /// Is an event pending, masked or not?
    pub fn is_pending(&self, port: Port) -> bool {
        self.test(self.pending_at(port)).unwrap_or(false)
    }

    /// Takes a pending event away. Returns whether there was one.
    pub fn clear_pending(&self, port: Port) -> bool {
        self.clear(self.pending_at(port)).unwrap_or(false)
    }

    /// Makes an event pending without telling anybody; unmask the port afterwards to deliver it.
    /// Returns whether one was pending.
    pub fn set_pending(&self, port: Port) -> bool {
        self.set(self.pending_at(port)).unwrap_or(false)
    }

    /// Unmasks a port, from `on_vcpu`, which is the vCPU that runs this.
    ///
    /// If an event is waiting it is announced: by Xen, or by this vCPU to itself. In the second case
    /// the answer is `true`: an upcall is waiting on this vCPU. A paravirtual guest enters it when it
    /// allows upcalls; who runs upcalls by hand must run one now.
    ///
    /// # Errors
    /// What the unmask hypercall answers, where it is needed: EINVAL for a port that does not exist.
    pub fn unmask(
        &self,
        port: Port,
        on_vcpu: VcpuId,
        hypercall: &(impl Hypercall + ?Sized),
    ) -> Result<bool, Errno> {
        if !self.is_bound_to(port, on_vcpu) {
            return hypercall.unmask(port).map(|()| false);
        }
        // SeqCst, mask before pending: pairs with Xen's raise, pending before mask.
        self.clear(self.mask_at(port));
        if !self.is_pending(port) {
            return Ok(false);
        }
        match self.self_notify {
            SelfNotify::Local => Ok(self.notify_self(port, on_vcpu)),
            SelfNotify::Hypercall => {
                // Xen announces only what it unmasks itself.
                self.mask(port);
                hypercall.unmask(port).map(|()| false)
            }
        }
    }

    /// Lets `vcpu`, and no other, handle the port. To be called after a successful `bind_vcpu`, or
    /// when the port is bound; see [`move_to_vcpu`](Self::move_to_vcpu) for a port in use.
    pub fn bind_to_vcpu(&self, port: Port, vcpu: VcpuId) {
        let Some((word, bit)) = self.layout.word_and_bit(port) else { return };
        // First the new one: an event is taken by whoever clears its pending bit, so two may look.
        for (id, state) in (0..).map(VcpuId).zip(self.vcpus.as_ref()) {
            if id == vcpu {
                state.set_mine(word, bit, true);
            }
        }
        for (id, state) in (0..).map(VcpuId).zip(self.vcpus.as_ref()) {
            if id != vcpu {
                state.set_mine(word, bit, false);
            }
        }
    }

    /// Moves a port that is in use to another vCPU, and makes sure that a pending event follows it.
    ///
    /// A hypervisor may leave a window, as Xen does: a send from another domain that has looked up the vCPU, but not set the pending bit yet, may
    /// announce its event on the old vCPU after this has returned, which then ignores it. `evtchn-engine` leaves none. On Xen, where ports are
    /// moved while they are sent to, mask the port later and unmask it by hypercall: that announces what was left.
    ///
    /// # Errors
    /// What `bind_vcpu` answers (ENOENT, EINVAL); nothing is changed then.
    pub fn move_to_vcpu(
        &self,
        port: Port,
        vcpu: VcpuId,
        hypercall: &(impl Hypercall + ?Sized),
    ) -> Result<(), Errno> {
        let was_masked = self.mask(port);
        let moved = hypercall.bind_vcpu(port, vcpu);
        if moved.is_ok() {
            self.bind_to_vcpu(port, vcpu);
        }
        if !was_masked {
            hypercall.unmask(port)?;
        }
        moved
    }

    /// Lets no vCPU handle the port.
    pub fn unbind(&self, port: Port) {
        let Some((word, bit)) = self.layout.word_and_bit(port) else { return };
        for vcpu in self.vcpus.as_ref() {
            vcpu.set_mine(word, bit, false);
        }
    }

    /// Lets this vCPU handle no port, as when it goes offline.
    pub fn unbind_all(&self, vcpu: VcpuId) {
        if let Some(vcpu) = self.vcpu(vcpu) {
            vcpu.forget_all();
        }
    }

    /// Does this vCPU handle the port?
    pub fn is_bound_to(&self, port: Port, vcpu: VcpuId) -> bool {
        let mine = self.vcpu(vcpu).zip(self.layout.word_and_bit(port));
        mine.is_some_and(|(vcpu, (word, bit))| vcpu.mine(word) >> bit & 1 == 1)
    }

    /// Is an upcall waiting for this vCPU?
    pub fn upcall_is_pending(&self, vcpu: VcpuId) -> bool {
        upcall::is_pending(&self.page, self.layout, vcpu)
    }

    pub(crate) fn layout(&self) -> &'static Layout {
        self.layout
    }

    pub(crate) fn vcpu(&self, vcpu: VcpuId) -> Option<&Vcpu> {
        self.vcpus.as_ref().get(vcpu.0 as usize)
    }

    /// Clears upcall_pending; whether it was set.
    pub(crate) fn take_upcall(&self, vcpu: VcpuId) -> bool {
        upcall::take(&self.page, self.layout, vcpu)
    }

    /// Takes the selector: the words that have news.
    pub(crate) fn take_selector(&self, vcpu: VcpuId) -> u64 {
        let Some(offset) = self.selector(vcpu) else { return 0 };
        let taken = self.word_and(offset, 0).unwrap_or(0);
        self.page.wrote(offset);
        taken
    }

    /// Puts words back that were not looked at, so that the next scan does.
    pub(crate) fn put_back(&self, vcpu: VcpuId, words: u64) {
        let Some(offset) = self.selector(vcpu) else { return };
        self.word_or(offset, words);
        self.set_upcall(vcpu);
    }

    /// The ports of a word that are pending, unmasked and of `mine`. Each is read once.
    pub(crate) fn active(&self, word: u32, mine: u64) -> u64 {
        let pending = self.layout.pending_word(word).and_then(|at| self.word(at));
        let mask = self.layout.mask_word(word).and_then(|at| self.word(at));
        pending.unwrap_or(0) & mine & !mask.unwrap_or(u64::MAX)
    }

    /// Announces a pending event to the vCPU that runs this; whether an upcall is waiting.
    fn notify_self(&self, port: Port, vcpu: VcpuId) -> bool {
        let at = self.selector(vcpu).zip(self.layout.word_and_bit(port));
        let Some((offset, (word, _))) = at else { return false };
        self.set(Some(BitAt { offset, bit: word }));
        self.set_upcall(vcpu);
        true
    }

    fn set_upcall(&self, vcpu: VcpuId) {
        upcall::set(&self.page, self.layout, vcpu);
    }

    fn selector(&self, vcpu: VcpuId) -> Option<usize> {
        self.layout.vcpu_info(vcpu.0)?.checked_add(self.layout.pending_sel)
    }

    fn pending_at(&self, port: Port) -> Option<BitAt> {
        let (word, bit) = self.layout.word_and_bit(port)?;
        Some(BitAt { offset: self.layout.pending_word(word)?, bit })
    }

    fn mask_at(&self, port: Port) -> Option<BitAt> {
        let (word, bit) = self.layout.word_and_bit(port)?;
        Some(BitAt { offset: self.layout.mask_word(word)?, bit })
    }

    fn set(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        let was = self.word_or(offset, 1 << bit)?;
        self.page.wrote(offset);
        Some(was >> bit & 1 == 1)
    }

    fn clear(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        let was = self.word_and(offset, !(1 << bit))?;
        self.page.wrote(offset);
        Some(was >> bit & 1 == 1)
    }

    fn test(&self, at: Option<BitAt>) -> Option<bool> {
        let BitAt { offset, bit } = at?;
        Some(self.word(offset)? >> bit & 1 == 1)
    }

    /// Ors bits into a word of the guest's width; the old word, if the page has it.
    #[allow(clippy::cast_possible_truncation)] // a narrow word takes the lower half
    fn word_or(&self, offset: usize, bits: u64) -> Option<u64> {
        Some(match self.layout.word_size {
            8 => self.page.u64(offset)?.fetch_or(bits, SeqCst),
            _ => self.page.u32(offset)?.fetch_or(bits as u32, SeqCst).into(),
        })
    }

    #[allow(clippy::cast_possible_truncation)] // a narrow word takes the lower half
    fn word_and(&self, offset: usize, bits: u64) -> Option<u64> {
        Some(match self.layout.word_size {
            8 => self.page.u64(offset)?.fetch_and(bits, SeqCst),
            _ => self.page.u32(offset)?.fetch_and(bits as u32, SeqCst).into(),
        })
    }

    fn word(&self, offset: usize) -> Option<u64> {
        Some(match self.layout.word_size {
            8 => self.page.u64(offset)?.load(SeqCst),
            _ => self.page.u32(offset)?.load(SeqCst).into(),
        })
    }
}
