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

use core::ops::ControlFlow;

use evtchn_abi::{Errno, EventWord, Port, VcpuId, fifo};
use evtchn_sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use evtchn_sync::const_fn;

use crate::info::{self, Info};
use crate::{Abi, Hypercall, Memory, Scan};
use control::Block;
pub use control::FifoVcpu;
use word::Word;

/// The ABI with up to 131,072 ports, sixteen priorities, and the order of events kept within each.
///
/// `M` is where the pages are: for each vCPU a control block, and the event array, 1,024 ports a page, which grows as ports
/// [need it](Abi::cover). `V` holds one [`FifoVcpu`] for each vCPU: an array, a slice, a boxed slice.
///
/// ```
/// use evtchn_abi::{Errno, Gfn, Layout, Op, Port, VcpuId};
/// use evtchn_guest::{Abi, Fifo, FifoVcpu, Frame, Frames, Hypercall};
/// use evtchn_sync::HeapPage;
///
/// struct Xen; // a real guest executes the hypercall instruction here
/// impl Hypercall for Xen {
///     fn event_channel_op(&self, _: Op, _: &mut [u8]) -> Result<(), Errno> {
///         Ok(())
///     }
/// }
///
/// let frame = |gfn| Frame { page: Box::new(HeapPage::new()), gfn: Gfn(gfn) };
/// let memory = Frames {
///     layout: &Layout::X86_64,
///     shared_info: Box::new(HeapPage::new()),
///     vcpu_infos: vec![],
///     control_blocks: vec![frame(0x100)],
///     event_array: vec![frame(0x200), frame(0x201)],
/// };
/// let guest = Fifo::new(memory, [FifoVcpu::new()]);
/// guest.start();
/// guest.online(VcpuId(0), &Xen)?;
/// assert_eq!(guest.nr_channels(), 0);
/// guest.cover(Port(1500), &Xen)?; // adds both pages
/// assert_eq!(guest.nr_channels(), 2048);
/// assert!(guest.is_masked(Port(1500))); // as all new ports are
/// guest.unmask(Port(1500), &Xen)?;
/// assert!(!guest.upcall(VcpuId(0), |port| println!("{port} has news")));
/// # Ok::<(), Errno>(())
/// ```
#[derive(Debug)]
pub struct Fifo<M, V> {
    memory: M,
    vcpus: V,
    /// How many pages of the array Xen knows.
    pages: AtomicU32,
    /// Held while pages are added, so that Xen learns of them in order.
    growing: AtomicBool,
}

impl<M: Memory, V: AsRef<[FifoVcpu]>> Fifo<M, V> {
    const_fn! {
        /// The ports in `memory`, which Xen does not know yet.
        pub const fn new(memory: M, vcpus: V) -> Self {
            Self { memory, vcpus, pages: AtomicU32::new(0), growing: AtomicBool::new(false) }
        }
    }

    /// Where the pages are.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// A port's event word as it is now; `None` if it has none.
    pub fn event_word(&self, port: Port) -> Option<EventWord> {
        self.word(port).map(|word| word.get())
    }

    /// Gives Xen a vCPU's control block, unless it has it: one that was offline keeps its block.
    ///
    /// # Errors
    /// EINVAL if there is no memory for such a vCPU; what `init_control` answers.
    pub(crate) fn give_block(&self, vcpu: VcpuId, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        let (state, block) = self.vcpu(vcpu).zip(Block::of(&self.memory, vcpu)).ok_or(Errno::EINVAL)?;
        Info::of(&self.memory, vcpu).ok_or(Errno::EINVAL)?;
        if state.set_known(true) {
            return Ok(());
        }
        block.zero();
        let given = block.for_xen().and_then(|(gfn, offset)| xen.init_control(vcpu, gfn, offset));
        given.map(drop).inspect_err(|_| {
            state.set_known(false);
        })
    }

    /// Masks every port of the array's next page and adds it to what Xen knows.
    fn add_page(&self, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        let index = self.nr_pages();
        if index >= fifo::MAX_ARRAY_PAGES as usize {
            return Err(Errno::ENOSPC);
        }
        let frame = self.memory.array_page(index).ok_or(Errno::ENOSPC)?;
        word::mask_all(frame.page).ok_or(Errno::ENOMEM)?;
        xen.expand_array(frame.gfn)?;
        self.pages.fetch_add(1, SeqCst);
        Ok(())
    }

    fn nr_pages(&self) -> usize {
        self.pages.load(SeqCst) as usize
    }

    fn vcpu(&self, vcpu: VcpuId) -> Option<&FifoVcpu> {
        self.vcpus.as_ref().get(vcpu.0 as usize)
    }

    fn word(&self, port: Port) -> Option<Word<'_, M::Page>> {
        let (index, offset) = fifo::word_place(port)?;
        Word::at(self.page(index)?, offset)
    }

    /// A page of the array that Xen knows.
    fn page(&self, index: usize) -> Option<&M::Page> {
        if index >= self.nr_pages() {
            return None;
        }
        Some(self.memory.array_page(index)?.page)
    }
}

impl<M: Memory, V: AsRef<[FifoVcpu]>> Abi for Fifo<M, V> {
    fn nr_channels(&self) -> u32 {
        self.pages.load(SeqCst).saturating_mul(fifo::WORDS_PER_PAGE)
    }

    fn start(&self) {
        // Pages are masked as they are added.
        info::clear_all(&self.memory, self.vcpus.as_ref().len());
    }

    /// Gives Xen the vCPU's control block. The first of a guest changes it to this ABI: if it fails, the guest stays with
    /// two-level.
    ///
    /// # Errors
    /// EINVAL if there is no memory for such a vCPU; what `init_control` and `register_vcpu_info` answer.
    fn online(&self, vcpu: VcpuId, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        // The block first: a guest that Xen has no FIFO ABI for has changed nothing.
        self.give_block(vcpu, xen)?;
        let state = self.vcpu(vcpu).ok_or(Errno::EINVAL)?;
        state.registration.tell(&self.memory, vcpu, xen)
    }

    fn offline(&self, vcpu: VcpuId, left: impl FnMut(Port)) {
        self.drain(vcpu, self.nr_channels(), left);
    }

    fn forget(&self) {
        self.pages.store(0, SeqCst);
        self.vcpus.as_ref().iter().for_each(FifoVcpu::forget);
    }

    fn cover(&self, port: Port, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        let (last, _) = fifo::word_place(port).ok_or(Errno::ENOSPC)?;
        if self.nr_pages() > last {
            return Ok(());
        }
        if self.growing.swap(true, SeqCst) {
            return Err(Errno::EAGAIN);
        }
        let mut grown = Ok(());
        while grown.is_ok() && self.nr_pages() <= last {
            grown = self.add_page(xen);
        }
        self.growing.store(false, SeqCst);
        grown
    }

    /// Nothing to do: Xen puts each event into a queue of the vCPU that `bind_vcpu` named.
    fn bind(&self, _: Port, _: VcpuId) {}

    fn unbind(&self, _: Port) {}

    fn mask(&self, port: Port) -> bool {
        self.word(port).is_none_or(|word| word.set(fifo::MASKED).is_masked())
    }

    fn unmask(&self, port: Port, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        if self.word(port).is_some_and(|word| word.unmask_without_event()) {
            return Ok(());
        }
        xen.unmask(port)
    }

    fn is_masked(&self, port: Port) -> bool {
        self.word(port).is_none_or(|word| word.get().is_masked())
    }

    fn is_pending(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.get().is_pending())
    }

    fn set_pending(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.set(fifo::PENDING).is_pending())
    }

    /// A port that is in a queue stays there.
    fn clear_pending(&self, port: Port) -> bool {
        self.word(port).is_some_and(|word| word.clear(fifo::PENDING).is_pending())
    }

    fn upcall_is_pending(&self, vcpu: VcpuId) -> bool {
        Info::of(&self.memory, vcpu).is_some_and(|info| info.upcall_is_pending())
    }

    #[inline]
    fn upcall_while(&self, vcpu: VcpuId, handle: impl FnMut(Port) -> ControlFlow<()>) -> Scan {
        self.take_upcalls(vcpu, handle)
    }
}
