// SPDX-License-Identifier: MIT OR Apache-2.0
//! A domain's kernel, as far as recordings show it: whose bits are where, and what it does with events that nobody
//! handles.
//!
//! The ports of a recording were bound by hypercall, behind the back of the kernel that ran: it has no handler for them.
//! With the two-level ABI nothing becomes of such an event. With FIFO the kernel takes the port off its queue at once and
//! leaves it pending, which the recordings show: no port of theirs is ever linked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use anyhow::{Context, Result};
use evtchn_abi::{DomId, Gfn, Layout, Port, VcpuId};
use evtchn_engine::Engine;
use evtchn_guest::{Fifo, FifoVcpu, InProcess};
use evtchn_sync::{HeapPage, Page};

use crate::board::Board;

/// The first byte of `evtchn_pending` in shared_info.
const PENDING: usize = 2048;
/// The first byte of `evtchn_mask` in shared_info.
const MASK: usize = 2560;
/// Ports of the two-level ABI with 64-bit words.
const TWO_LEVEL_PORTS: u32 = 4096;
/// Where a kernel with FIFO has its pages.
const FIRST_CONTROL_GFN: u64 = 0x1000;
const ARRAY_GFN: u64 = 0x2000;

type FifoPages = Fifo<Arc<HeapPage>, Box<[FifoVcpu<Arc<HeapPage>>]>, [Arc<HeapPage>; 1]>;

/// A kernel, by its ABI.
pub(crate) enum Kernel {
    TwoLevel(Arc<HeapPage>),
    Fifo { pages: FifoPages, vcpus: u32 },
}

impl Kernel {
    /// Masks every port of the two-level ABI, as a kernel does when it starts.
    pub fn mask_all(page: &Arc<HeapPage>) {
        (0..TWO_LEVEL_PORTS).for_each(|port| put(page, MASK, port, true));
    }

    /// A kernel that changes `domain` to the FIFO ABI: a control block for each vCPU, and one page of masked words.
    pub fn fifo(engine: &Engine<Board>, domain: DomId, vcpus: u32, shared: Arc<HeapPage>) -> Result<Self> {
        let page = |gfn| {
            let page = Arc::new(HeapPage::new());
            engine.hooks().share(domain, gfn, &page);
            page
        };
        let blocks = (0..vcpus).map(|vcpu| FifoVcpu::new(page(FIRST_CONTROL_GFN + u64::from(vcpu)), 0));
        let pages = Fifo::new(shared, &Layout::X86_64, blocks.collect(), [page(ARRAY_GFN)]);
        let xen = InProcess::new(engine, domain, VcpuId(0));
        for vcpu in 0..vcpus {
            let given = pages.init_vcpu(VcpuId(vcpu), Gfn(FIRST_CONTROL_GFN + u64::from(vcpu)), &xen);
            given.with_context(|| format!("the control block of vCPU {vcpu}"))?;
        }
        pages.add_page(Gfn(ARRAY_GFN), &xen).context("the array's page")?;
        Ok(Self::Fifo { pages, vcpus })
    }

    pub fn is_pending(&self, port: u32) -> bool {
        match self {
            Self::TwoLevel(page) => is_set(page, PENDING, port),
            Self::Fifo { pages, .. } => pages.is_pending(Port(port)),
        }
    }

    pub fn is_masked(&self, port: u32) -> bool {
        match self {
            Self::TwoLevel(page) => is_set(page, MASK, port),
            Self::Fifo { pages, .. } => pages.is_masked(Port(port)),
        }
    }

    /// Takes a port's event, as its handler would.
    pub fn take_event(&self, port: u32) {
        match self {
            Self::TwoLevel(page) => put(page, PENDING, port, false),
            Self::Fifo { pages, .. } => drop(pages.clear_pending(Port(port))),
        }
    }

    /// Sets or clears the mask bit of a port that has no event.
    pub fn set_masked(&self, port: u32, masked: bool, engine: &Engine<Board>, domain: DomId) -> Result<()> {
        match self {
            Self::TwoLevel(page) => put(page, MASK, port, masked),
            Self::Fifo { pages, .. } if masked => drop(pages.mask(Port(port))),
            Self::Fifo { pages, .. } => {
                pages.unmask(Port(port), &InProcess::new(engine, domain, VcpuId(0)))?
            }
        }
        Ok(())
    }

    /// Does what the kernel does in its upcalls.
    pub fn run(&self) {
        if let Self::Fifo { pages, vcpus } = self {
            (0..*vcpus).for_each(|vcpu| pages.drain(VcpuId(vcpu), |_| {}));
        }
    }
}

/// The word of a bit array of shared_info that a port's bit is in.
fn word_of(page: &HeapPage, array: usize, port: u32) -> Option<&AtomicU64> {
    page.u64(array + port as usize / 64 * 8)
}

fn bit_of(port: u32) -> u64 {
    1 << (port % 64)
}

fn is_set(page: &HeapPage, array: usize, port: u32) -> bool {
    word_of(page, array, port).is_some_and(|word| word.load(SeqCst) & bit_of(port) != 0)
}

fn put(page: &HeapPage, array: usize, port: u32, set: bool) {
    let Some(word) = word_of(page, array, port) else { return };
    if set {
        word.fetch_or(bit_of(port), SeqCst);
    } else {
        word.fetch_and(!bit_of(port), SeqCst);
    }
}
