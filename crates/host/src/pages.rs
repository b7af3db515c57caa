// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pages that a kernel shares with the engine. Those of the FIFO ABI are there from when they are first asked for.

use std::sync::{Arc, OnceLock};

use evtchn_abi::{Gfn, Layout, VcpuId, fifo};
use evtchn_guest::{Frame, Memory, Place};
use evtchn_sync::{HeapPage, PAGE_SIZE, try_box};

/// A page of a kernel's memory. The box is allocated fallibly, which an `Arc` alone cannot be.
pub type SharedPage = Arc<Box<HeapPage>>;

/// Control blocks lie this far apart: two lines of the cache.
const BLOCK_DISTANCE: usize = 128;
const BLOCKS_PER_PAGE: usize = PAGE_SIZE / BLOCK_DISTANCE;

/// vCPUs that have their `vcpu_info` in `shared_info`; those of the others are in pages of their own.
const LEGACY_VCPUS: usize = 32;
const INFO_SIZE: usize = 64;
const INFOS_PER_PAGE: usize = PAGE_SIZE / INFO_SIZE;

/// The frames of the `vcpu_info`s begin here.
const VCPU_INFOS: Gfn = Gfn(0x800);
/// Those of the control blocks.
const CONTROL_BLOCKS: Gfn = Gfn(0x1000);
/// Those of the event array.
const EVENT_ARRAY: Gfn = Gfn(0x2000);

/// A kernel's pages.
#[derive(Clone, Debug)]
pub struct Pages(Arc<Frames>);

#[derive(Debug)]
struct Frames {
    shared_info: SharedPage,
    vcpu_infos: Box<[OnceLock<SharedPage>]>,
    control_blocks: Box<[OnceLock<SharedPage>]>,
    event_array: Box<[OnceLock<SharedPage>]>,
}

impl Pages {
    /// The pages of a kernel with this many vCPUs; `None` if there is no memory.
    pub fn new(vcpus: u32) -> Option<Self> {
        let places = |count| (0..count).map(|_| OnceLock::new()).collect();
        Some(Self(Arc::new(Frames {
            shared_info: new_page()?,
            vcpu_infos: places((vcpus as usize).saturating_sub(LEGACY_VCPUS).div_ceil(INFOS_PER_PAGE)),
            control_blocks: places((vcpus as usize).div_ceil(BLOCKS_PER_PAGE)),
            event_array: places(fifo::MAX_ARRAY_PAGES as usize),
        })))
    }

    /// The page `shared_info`.
    pub fn shared_info(&self) -> SharedPage {
        Arc::clone(&self.0.shared_info)
    }

    /// The page at this frame, if the kernel has one there.
    pub fn at(&self, gfn: Gfn) -> Option<SharedPage> {
        let Frames { vcpu_infos, control_blocks, event_array, .. } = &*self.0;
        let among = |pages: &[OnceLock<SharedPage>], first: Gfn| {
            let index = usize::try_from(gfn.0.checked_sub(first.0)?).ok()?;
            pages.get(index)?.get().cloned()
        };
        let control_block = among(control_blocks, CONTROL_BLOCKS);
        control_block.or_else(|| among(event_array, EVENT_ARRAY)).or_else(|| among(vcpu_infos, VCPU_INFOS))
    }
}

impl Memory for Pages {
    type Page = SharedPage;

    fn layout(&self) -> &'static Layout {
        &Layout::X86_64
    }

    fn shared_info(&self) -> &SharedPage {
        &self.0.shared_info
    }

    fn vcpu_info(&self, vcpu: VcpuId) -> Option<Place<'_, SharedPage>> {
        let vcpu = (vcpu.0 as usize).checked_sub(LEGACY_VCPUS)?;
        let Frame { page, gfn } = frame(&self.0.vcpu_infos, VCPU_INFOS, vcpu / INFOS_PER_PAGE)?;
        Some(Place { page, gfn, offset: vcpu % INFOS_PER_PAGE * INFO_SIZE })
    }

    fn control_block(&self, vcpu: VcpuId) -> Option<Place<'_, SharedPage>> {
        let vcpu = vcpu.0 as usize;
        let Frame { page, gfn } = frame(&self.0.control_blocks, CONTROL_BLOCKS, vcpu / BLOCKS_PER_PAGE)?;
        Some(Place { page, gfn, offset: vcpu % BLOCKS_PER_PAGE * BLOCK_DISTANCE })
    }

    fn array_page(&self, index: usize) -> Option<Frame<&SharedPage>> {
        frame(&self.0.event_array, EVENT_ARRAY, index)
    }
}

/// A page, made now if it is not there yet. `None` beyond the last, or if there is no memory.
fn frame(pages: &[OnceLock<SharedPage>], first: Gfn, index: usize) -> Option<Frame<&SharedPage>> {
    let place = pages.get(index)?;
    let page = place.get().or_else(|| {
        let made = new_page()?;
        // Another thread may have been faster: then its page is the one.
        Some(place.get_or_init(|| made))
    })?;
    Some(Frame { page, gfn: Gfn(first.0 + index as u64) })
}

fn new_page() -> Option<SharedPage> {
    try_box(HeapPage::new()).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_there_once_it_was_asked_for() {
        let pages = Pages::new(33).unwrap();
        assert!(pages.at(EVENT_ARRAY).is_none());
        let Frame { page, gfn } = pages.array_page(0).unwrap();
        assert!(Arc::ptr_eq(page, &pages.at(gfn).unwrap()));
        assert!(Arc::ptr_eq(page, pages.array_page(0).unwrap().page));
        assert!(pages.array_page(127).is_some() && pages.array_page(128).is_none());
        assert!(pages.at(Gfn(EVENT_ARRAY.0 + 128)).is_none() && pages.at(Gfn(0)).is_none());
    }

    #[test]
    fn every_vcpu_has_a_place_of_its_own() {
        let pages = Pages::new(33).unwrap();
        let block = |vcpu| pages.control_block(VcpuId(vcpu)).map(|place| (place.gfn, place.offset));
        assert_eq!(block(0), Some((Gfn(0x1000), 0)));
        assert_eq!(block(31), Some((Gfn(0x1000), 3968)));
        assert_eq!(block(32), Some((Gfn(0x1001), 0)));
        assert_eq!(block(64), None);
        let info = |vcpu| pages.vcpu_info(VcpuId(vcpu)).map(|place| (place.gfn, place.offset));
        assert_eq!((info(31), info(33), info(96)), (None, Some((Gfn(0x800), 64)), None));
    }
}
