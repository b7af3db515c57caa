// SPDX-License-Identifier: MIT OR Apache-2.0
//! A vCPU's `vcpu_info`: the byte by which Xen says "look", with either ABI, and the two-level selector.
//!
//! Clearing the byte comes before looking, and Xen sets it after what there is to see: so what comes later makes a new upcall.

use evtchn_abi::{Errno, Layout, VcpuId};
use evtchn_sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use evtchn_sync::{Page, const_fn};

use crate::{Hypercall, Memory, words};

/// Where it is.
#[derive(Debug)]
pub(crate) struct Info<'a, P> {
    page: &'a P,
    layout: &'static Layout,
    offset: usize,
}

impl<'a, P: Page> Info<'a, P> {
    /// A vCPU's; `None` if it has none anywhere.
    #[inline]
    pub fn of<M: Memory<Page = P>>(memory: &'a M, vcpu: VcpuId) -> Option<Self> {
        let layout = memory.layout();
        if let Some(place) = memory.vcpu_info(vcpu) {
            return Some(Self { page: place.page, layout, offset: place.offset });
        }
        Some(Self { page: memory.shared_info(), layout, offset: layout.vcpu_info(vcpu.0)? })
    }

    /// Is an upcall waiting?
    #[inline]
    pub fn upcall_is_pending(&self) -> bool {
        self.flag().is_some_and(|flag| flag.load(SeqCst) != 0)
    }

    /// Clears the byte; whether it was set.
    #[inline]
    pub fn take_upcall(&self) -> bool {
        if !self.upcall_is_pending() {
            return false;
        }
        // SeqCst, the byte before the selector or READY: pairs with Xen, which sets them in the other order.
        let taken = self.flag().is_some_and(|flag| flag.swap(0, SeqCst) != 0);
        self.page.wrote(self.at(self.layout.upcall_pending));
        taken
    }

    /// Sets the byte, for what this vCPU leaves to itself.
    pub fn set_upcall(&self) {
        if let Some(flag) = self.flag() {
            flag.store(1, SeqCst);
            self.page.wrote(self.at(self.layout.upcall_pending));
        }
    }

    /// The selector: the words that have news.
    #[inline]
    pub fn selector(&self) -> u64 {
        words::get(self.page, self.layout, self.at(self.layout.pending_sel))
    }

    /// Takes the selector.
    #[inline]
    pub fn take_selector(&self) -> u64 {
        words::take(self.page, self.layout, self.at(self.layout.pending_sel))
    }

    /// Announces words to this vCPU, or again those that it has not looked at.
    pub fn announce(&self, words: u64) {
        words::set(self.page, self.layout, self.at(self.layout.pending_sel), words);
        self.set_upcall();
    }

    #[inline]
    fn flag(&self) -> Option<&'a AtomicU8> {
        self.page.u8(self.at(self.layout.upcall_pending))
    }

    #[inline]
    fn at(&self, field: usize) -> usize {
        self.offset.wrapping_add(field)
    }
}

/// Clears what an earlier use has left in the `vcpu_info`s of so many vCPUs: Xen would not announce what seems to be announced.
pub(crate) fn clear_all(memory: &impl Memory, vcpus: usize) {
    for info in (0..).map(VcpuId).take(vcpus).filter_map(|vcpu| Info::of(memory, vcpu)) {
        info.take_selector();
        info.take_upcall();
    }
}

/// Whether Xen knows where a vCPU's `vcpu_info` is.
#[derive(Debug)]
pub(crate) struct Registration {
    known: AtomicBool,
    /// Whether it has ever known. A reset leaves the `vcpu_info` where it is, a migration does not.
    ever: AtomicBool,
}

impl Registration {
    const_fn! {
        /// Xen does not know.
        pub const fn new() -> Self {
            Self { known: AtomicBool::new(false), ever: AtomicBool::new(false) }
        }
    }

    /// Tells Xen, if it does not know and the `vcpu_info` is not in `shared_info`.
    ///
    /// # Errors
    /// What `register_vcpu_info` answers, but for EBUSY and EINVAL from a Xen that has kept it over a reset.
    pub fn tell(
        &self,
        memory: &impl Memory,
        vcpu: VcpuId,
        xen: &(impl Hypercall + ?Sized),
    ) -> Result<(), Errno> {
        let Some(place) = memory.vcpu_info(vcpu) else { return Ok(()) };
        if self.known.load(SeqCst) {
            return Ok(());
        }
        let offset = u32::try_from(place.offset).map_err(|_| Errno::EINVAL)?;
        match xen.register_vcpu_info(vcpu, place.gfn, offset) {
            Err(Errno::EBUSY | Errno::EINVAL) if self.ever.load(SeqCst) => {}
            other => other?,
        }
        self.known.store(true, SeqCst);
        self.ever.store(true, SeqCst);
        Ok(())
    }

    /// Xen may have forgotten it.
    pub fn forget(&self) {
        self.known.store(false, SeqCst);
    }
}
