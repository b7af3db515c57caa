// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's pages, with as few words as the models need: two vCPUs, ports below 16 and a few from 64 and from 1,024.

use std::sync::Arc;

use evtchn_abi::fifo::ControlBlock;
use evtchn_abi::{Gfn, Layout, VcpuId};
use evtchn_guest::{Frame, Frames};
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::{ModelPage, Page as _};

pub const VCPUS: u32 = 2;
/// The first port numbers of the second word, and of the second page of the event array.
pub const SECOND_WORD: u32 = 64;
pub const SECOND_PAGE: u32 = 1024;
/// How many ports there are words for at the beginning.
pub const PORTS: u32 = 16;

pub type Page = Arc<ModelPage>;
pub type Memory = Arc<Frames<Page, Vec<Frame<Page>>>>;

/// Where the control blocks and the pages of the array are.
pub const CONTROL: Gfn = Gfn(0x100);
pub const ARRAY: Gfn = Gfn(0x200);

/// Pages that are zero.
pub fn memory() -> Memory {
    let infos = (0..VCPUS as usize).map(|vcpu| 64 * vcpu);
    let upcalls: Vec<_> = infos.clone().collect();
    let selectors = infos.map(|info| info + 8);
    let words: Vec<_> = selectors.chain([2048, 2056, 2560, 2568]).collect();
    let blocks: Vec<_> = (0..VCPUS as usize)
        .flat_map(|vcpu| (0..ControlBlock::SIZE).step_by(4).map(move |at| 128 * vcpu + at))
        .collect();
    let second = SECOND_WORD as usize;
    let first_page: Vec<_> = (0..PORTS as usize).chain(second..second + 4).map(|port| 4 * port).collect();
    let frame = |gfn, halves: &[usize]| Frame { page: Arc::new(ModelPage::new(&[], halves, &[])), gfn };
    Arc::new(Frames {
        layout: &Layout::X86_64,
        shared_info: Arc::new(ModelPage::new(&upcalls, &[], &words)),
        vcpu_infos: vec![],
        control_blocks: vec![frame(CONTROL, &blocks)],
        event_array: vec![frame(ARRAY, &first_page), frame(Gfn(ARRAY.0 + 1), &[0, 4, 8, 12])],
    })
}

/// Zeroes `shared_info`.
pub fn clear_shared_info(memory: &Memory) {
    let page = &memory.shared_info;
    for vcpu in vcpus() {
        page.u8(64 * vcpu.0 as usize).unwrap().store(0, SeqCst);
        page.u64(64 * vcpu.0 as usize + 8).unwrap().store(0, SeqCst);
    }
    [2048, 2056, 2560, 2568].into_iter().for_each(|at| page.u64(at).unwrap().store(0, SeqCst));
}

/// The page that Xen is told of.
pub fn page(memory: &Memory, gfn: Gfn) -> Option<Page> {
    let frames = memory.control_blocks.iter().chain(&memory.event_array);
    frames.into_iter().find(|frame| frame.gfn == gfn).map(|frame| frame.page.clone())
}

/// The guest's vCPUs.
pub fn vcpus() -> impl Iterator<Item = VcpuId> + Clone {
    (0..VCPUS).map(VcpuId)
}
