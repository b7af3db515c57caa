// SPDX-License-Identifier: MIT OR Apache-2.0
//! A VMM with two guests, whose memory has dirty bitmaps and may be exchanged.
#![allow(dead_code, missing_docs)] // each test file uses its own part

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use evtchn_abi::{CStruct, DomId, Errno, Gfn, Layout, Op, Port, VcpuId};
use evtchn_engine::{DomainConfig, Engine, Hooks, Outcome, Upcall};
use evtchn_guest::{Abi, Fifo, FifoVcpu, Frame, Frames, Hypercall};
use evtchn_sync::PAGE_SIZE;
use evtchn_vm_memory::{Arguments, GuestPage, pin};
use vm_memory::bitmap::{AtomicBitmap, Bitmap};
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap,
    GuestMemoryRegion,
};

pub type Memory = GuestMemoryMmap<AtomicBitmap>;
pub type DirtyPage = GuestPage<AtomicBitmap>;

pub const PAGE: u64 = PAGE_SIZE as u64;

/// The guest that sends, and the one that receives.
pub const SENDER: DomId = DomId(1);
pub const GUEST: DomId = DomId(2);
pub const V0: VcpuId = VcpuId(0);

/// Where each guest has its shared_info and its hypercall arguments.
pub const SHARED_INFO: Gfn = Gfn(1);
pub const ARGUMENT: u64 = 2 * PAGE;
/// Where the receiver has its control blocks.
pub const CONTROL: Gfn = Gfn(4);

/// Where it has a page of its array.
pub fn array(page: usize) -> Gfn {
    Gfn(5 + page as u64)
}

pub type Pages = Frames<DirtyPage, Vec<Frame<DirtyPage>>>;
pub type FifoGuest = Fifo<Pages, [FifoVcpu; 1]>;

/// Memory of these many pages from these frames on.
pub fn memory(regions: &[(u64, usize)]) -> Memory {
    let range = |&(gfn, pages): &(u64, usize)| (GuestAddress(gfn * PAGE), pages * PAGE_SIZE);
    Memory::from_ranges(&regions.iter().map(range).collect::<Vec<_>>()).unwrap()
}

/// The frames that are marked, whose marks are taken away.
pub fn take_dirty(memory: &Memory) -> Vec<u64> {
    let mut frames = Vec::new();
    for region in memory.iter() {
        let first = region.start_addr().0 / PAGE;
        let bitmap = (**region).bitmap();
        frames.extend(
            (0..region.len() / PAGE)
                .filter(|page| bitmap.dirty_at((page * PAGE) as usize))
                .map(|page| first + page),
        );
        bitmap.reset();
    }
    frames
}

/// The embedder: guest `n`'s memory is element `n - 1`.
pub struct Vmm {
    pub memories: [GuestMemoryAtomic<Memory>; 2],
    pub upcalls: AtomicU32,
}

impl Vmm {
    pub fn memory(&self, dom: DomId) -> Arc<Memory> {
        self.memories[usize::from(dom.0) - 1].memory().into_inner()
    }

    /// Exchanges all memory of a guest.
    pub fn replace(&self, dom: DomId, memory: Memory) {
        self.memories[usize::from(dom.0) - 1].lock().unwrap().replace(memory);
    }
}

impl Hooks for Vmm {
    type Page = DirtyPage;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {
        self.upcalls.fetch_add(1, SeqCst);
    }

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, dom: DomId, gfn: Gfn) -> Option<DirtyPage> {
        pin(&self.memory(dom), gfn)
    }
}

/// Both guests, with shared_info, and memory in frames 0 to 15.
pub fn engine() -> Engine<Vmm> {
    let memories = [(); 2].map(|()| GuestMemoryAtomic::new(memory(&[(0, 16)])));
    let engine = Engine::new(Vmm { memories, upcalls: AtomicU32::new(0) });
    for dom in [SENDER, GUEST] {
        engine.create_domain(dom, DomainConfig { max_port: None, ..DomainConfig::guest(2) }).unwrap();
        engine.set_shared_info(dom, engine.hooks().pin(dom, SHARED_INFO)).unwrap();
    }
    engine
}

/// A channel that has sent nothing: the sender's port and the guest's.
pub fn connect(engine: &Engine<Vmm>) -> (Port, Port) {
    let far = engine.alloc_unbound(GUEST, DomId::SELF, SENDER).unwrap();
    (engine.bind_interdomain(SENDER, GUEST, far).unwrap(), far)
}

/// The pages of a guest with the two-level ABI.
pub fn two_level_pages(shared_info: DirtyPage) -> Pages {
    Frames::two_level(shared_info, &Layout::X86_64)
}

/// The pages of the receiver in the memory that it has now, with so many of its array.
pub fn pages(engine: &Engine<Vmm>, array_pages: usize) -> Pages {
    let frame = |gfn| Frame { page: engine.hooks().pin(GUEST, gfn).unwrap(), gfn };
    Frames {
        control_blocks: vec![frame(CONTROL)],
        event_array: (0..array_pages).map(|page| frame(array(page))).collect(),
        ..two_level_pages(frame(SHARED_INFO).page)
    }
}

/// The receiver with the FIFO ABI, on one vCPU, and an array of so many pages.
pub fn fifo(engine: &Engine<Vmm>, array_pages: usize) -> FifoGuest {
    let guest = Fifo::new(pages(engine, array_pages), [FifoVcpu::new()]);
    let xen = Guest(engine, GUEST);
    guest.online(V0, &xen).unwrap();
    guest.cover(Port(array_pages as u32 * 1024 - 1), &xen).unwrap();
    guest
}

/// A guest's hypercalls, with their arguments in its memory.
pub struct Guest<'a>(pub &'a Engine<Vmm>, pub DomId);

impl Hypercall for Guest<'_> {
    fn event_channel_op(&self, op: Op, arg: &mut [u8]) -> Result<(), Errno> {
        let memory = self.0.hooks().memory(self.1);
        memory.write_slice(arg, GuestAddress(ARGUMENT)).unwrap();
        let outcome = self.0.event_channel_op(self.1, op.0, ARGUMENT, &mut Arguments::physical(&memory));
        memory.read_slice(arg, GuestAddress(ARGUMENT)).unwrap();
        match outcome {
            Outcome::Done(result) => Errno::from_result(result).map_or(Ok(()), Err),
            other => panic!("{other:?}"),
        }
    }
}

/// Puts a structure into guest memory.
pub fn put<A: CStruct>(memory: &Memory, address: u64, arg: &A) {
    memory.write_slice(arg.to_bytes().as_ref(), GuestAddress(address)).unwrap();
}

/// Gets a structure from guest memory.
pub fn get<A: CStruct>(memory: &Memory, address: u64) -> A {
    let mut bytes = A::ZEROED;
    memory.read_slice(bytes.as_mut(), GuestAddress(address)).unwrap();
    A::from_bytes(bytes)
}
