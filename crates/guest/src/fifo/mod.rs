// SPDX-License-Identifier: MIT OR Apache-2.0
//! The FIFO ABI as a guest sees it: event words, and how the array of them grows.
//!
//! Who may write what: Xen sets PENDING and LINKED, writes LINK and HEAD, and sets and clears BUSY; the guest clears
//! PENDING, sets and clears MASKED, and clears LINKED together with LINK. MASKED must not be cleared while BUSY is
//! set, or Xen's compare-and-exchange would put it back.
//!
//! Every access to the pages is sequentially consistent, as in the two-level ABI.

mod control;
mod queue;
mod word;

use evtchn_abi::{Errno, EventWord, Gfn, Layout, Port, VcpuId, fifo};
use evtchn_sync::atomic::{AtomicU32, Ordering::SeqCst};
use evtchn_sync::{Mutex, Page};

use crate::{Hypercall, upcall};
pub use control::FifoVcpu;
use word::Word;

/// How often an unmask tries by itself before it leaves the port to Xen. Xen needs BUSY for a few instructions only.
const UNMASK_TRIES: u32 = 128;

/// A guest's view of its FIFO event channels.
///
/// `P` is a handle of a page, `Q` holds one [`FifoVcpu`] for each vCPU, and `A` one handle for each page that the event
/// array may ever have, 1024 ports a page: arrays, slices, boxed slices. A handle needs no memory behind it until its
/// page is [added](Self::add_page): until then no access to it is made, and `Page` allows it to answer `None`.
///
/// All methods take `&self`; any vCPU may call any of them, but `upcall` with its own number only, and `drain` for a
/// vCPU that runs no upcall any more.
///
/// ```
/// use std::sync::Arc;
/// use evtchn_abi::{Errno, Gfn, Layout, Op, Port, VcpuId};
/// use evtchn_guest::{Fifo, FifoVcpu, Hypercall};
/// use evtchn_sync::HeapPage;
///
/// struct Xen; // a real guest executes the hypercall instruction here
/// impl Hypercall for Xen {
///     fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
///         Ok(())
///     }
/// }
///
/// let page = || Arc::new(HeapPage::new());
/// let guest = Fifo::new(page(), &Layout::X86_64, [FifoVcpu::new(page(), 0)], [page(), page()]);
/// guest.init_vcpu(VcpuId(0), Gfn(0x100), &Xen)?; // where the control block's page is
/// assert_eq!(guest.nr_channels(), 0);
/// guest.cover(Port(1500), |page| Gfn(0x200 + page as u64), &Xen)?; // adds both pages
/// assert_eq!(guest.nr_channels(), 2048);
/// assert!(guest.is_masked(Port(1500))); // as all new ports are
/// guest.unmask(Port(1500), &Xen)?;
/// assert!(!guest.upcall(VcpuId(0), |port| println!("{port} has news")));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug)]
pub struct Fifo<P, Q, A> {
    shared_info: P,
    layout: &'static Layout,
    vcpus: Q,
    array: A,
    /// How many pages of the array Xen knows.
    pages: AtomicU32,
    /// Held while a page is added, so that Xen learns of them in order.
    growing: Mutex<()>,
}

impl<P: Page, Q: AsRef<[FifoVcpu<P>]>, A: AsRef<[P]>> Fifo<P, Q, A> {
    /// A view of pages that Xen does not know yet. `shared_info` is laid out as `layout` says.
    pub fn new(shared_info: P, layout: &'static Layout, vcpus: Q, array: A) -> Self {
        Self { shared_info, layout, vcpus, array, pages: AtomicU32::new(0), growing: Mutex::new(()) }
    }

    /// Zeroes a vCPU's control block, which is in the page `control`, and gives it to Xen. The guest uses the FIFO ABI
    /// when this has succeeded once.
    ///
    /// # Errors
    /// EINVAL, with nothing changed, if there is no such vCPU or its block has been given to Xen already; what
    /// `init_control` answers. After a failure for the first vCPU a guest stays with the two-level ABI.
    pub fn init_vcpu(
        &self,
        vcpu: VcpuId,
        control: Gfn,
        hypercall: &(impl Hypercall + ?Sized),
    ) -> Result<(), Errno> {
        let state = self.vcpu(vcpu).ok_or(Errno::EINVAL)?;
        let offset = state.prepare()?;
        let result = hypercall.init_control(vcpu, control, offset).map(|_| ());
        if result.is_err() {
            state.withdraw();
        }
        result
    }

    /// Masks every port of the array's next page and adds it, `gfn`, to what Xen knows.
    ///
    /// # Errors
    /// ENOSPC if there is no handle for another page, ENOMEM if the handle has no memory, what `expand_array` answers.
    pub fn add_page(&self, gfn: Gfn, hypercall: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        let _one_at_a_time = self.growing.lock();
        self.add_next(gfn, hypercall)
    }

    /// Adds pages until there is a word for `port`. `gfn` says where the page with this index is.
    ///
    /// # Errors
    /// As [`add_page`](Self::add_page); the pages that were added before the failure stay.
    pub fn cover(
        &self,
        port: Port,
        gfn: impl Fn(usize) -> Gfn,
        hypercall: &(impl Hypercall + ?Sized),
    ) -> Result<(), Errno> {
        let (last, _) = fifo::word_place(port).ok_or(Errno::ENOSPC)?;
        let _one_at_a_time = self.growing.lock();
        while self.nr_pages() <= last {
            self.add_next(gfn(self.nr_pages()), hypercall)?;
        }
        Ok(())
    }

    fn add_next(&self, gfn: Gfn, hypercall: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        let page = self.array.as_ref().get(self.nr_pages()).ok_or(Errno::ENOSPC)?;
        word::mask_all(page).ok_or(Errno::ENOMEM)?;
        hypercall.expand_array(gfn)?;
        self.pages.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Forgets what Xen knew, after a reset, or in a new place after a migration: no control block, no page.
    /// No other method may run meanwhile.
    pub fn forget_all(&self) {
        self.pages.store(0, SeqCst);
        self.vcpus.as_ref().iter().for_each(FifoVcpu::withdraw);
    }

    /// How many ports have an event word now, port 0 included.
    pub fn nr_channels(&self) -> u32 {
        self.pages.load(SeqCst).saturating_mul(fifo::WORDS_PER_PAGE)
    }

    /// Masks a port: events set its pending bit and no more. Returns whether it was masked.
    pub fn mask(&self, port: Port) -> bool {
        self.word(port).is_none_or(|word| word.set(fifo::MASKED).is_masked())
    }

    /// Is the port masked? A port without an event word counts as masked.
    pub fn is_masked(&self, port: Port) -> bool {
        self.word(port).is_none_or(|word| word.get().is_masked())
    }

    /// Is an event pending, masked or not?
    pub fn is_pending(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.get().is_pending())
    }

    /// Takes a pending event away. Returns whether there was one. A port that is in a queue stays there.
    pub fn clear_pending(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.clear(fifo::PENDING).is_pending())
    }

    /// Makes an event pending without telling anybody. Mask the port first and unmask it afterwards to have it
    /// delivered. Returns whether one was pending.
    pub fn set_pending(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.set(fifo::PENDING).is_pending())
    }

    /// Unmasks a port. If an event is pending Xen does it, and puts the port into its queue.
    ///
    /// # Errors
    /// What the unmask hypercall answers, where it is needed: EINVAL for a port that does not exist.
    pub fn unmask(&self, port: Port, hypercall: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        if self.word(port).is_some_and(Word::unmask_without_event) {
            return Ok(());
        }
        hypercall.unmask(port)
    }

    /// Moves a port to another vCPU. No event is lost: one that is in a queue already is handled where that queue is,
    /// which may be the old vCPU, and later ones by the new.
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
        if !was_masked {
            hypercall.unmask(port)?;
        }
        moved
    }

    /// Is an upcall waiting for this vCPU?
    pub fn upcall_is_pending(&self, vcpu: VcpuId) -> bool {
        upcall::is_pending(&self.shared_info, self.layout, vcpu)
    }

    /// A port's event word as it is now; `None` if it has none.
    pub fn event_word(&self, port: Port) -> Option<EventWord> {
        self.word(port).map(Word::get)
    }

    fn nr_pages(&self) -> usize {
        self.pages.load(SeqCst) as usize
    }

    fn vcpu(&self, vcpu: VcpuId) -> Option<&FifoVcpu<P>> {
        self.vcpus.as_ref().get(vcpu.0 as usize)
    }

    fn word(&self, port: Port) -> Option<Word<'_, P>> {
        let (index, offset) = fifo::word_place(port)?;
        let page = self.array.as_ref().get(..self.nr_pages())?.get(index)?;
        Word::at(page, offset)
    }
}
