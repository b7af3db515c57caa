// SPDX-License-Identifier: MIT OR Apache-2.0
//! The guest memory of rust-vmm's [`vm_memory`] for the engine: pages that the engine shares with a guest, and the
//! memory in which hypercall arguments lie.
//!
//! ```
//! use std::sync::Arc;
//! use evtchn_abi::{DomId, Gfn, Op, Port, VcpuId, args::BindIpi, CStruct};
//! use evtchn_engine::{DomainConfig, Engine, Hooks, Outcome, Upcall};
//! use evtchn_vm_memory::{Arguments, GuestPage, pin};
//! use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
//!
//! struct Vmm {
//!     memory: Arc<GuestMemoryMmap>, // here of one guest only
//! }
//! impl Hooks for Vmm {
//!     type Page = GuestPage;
//!     fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {} // interrupt the vCPU
//!     fn wake_poller(&self, _: DomId, _: VcpuId) {}
//!     fn pin(&self, _: DomId, gfn: Gfn) -> Option<GuestPage> {
//!         pin(&self.memory, gfn)
//!     }
//! }
//!
//! let memory = Arc::new(GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)])?);
//! let engine = Engine::new(Vmm { memory: memory.clone() });
//! let guest = DomId(1);
//! engine.create_domain(guest, DomainConfig::default())?;
//! engine.set_shared_info(guest, pin(&memory, Gfn(0x80)))?;
//!
//! // The guest puts an argument at 0x1000 and makes the hypercall.
//! memory.write_slice(&BindIpi { vcpu: VcpuId(0), port: Port(0) }.to_bytes(), GuestAddress(0x1000))?;
//! let mut arguments = Arguments::physical(&memory);
//! let outcome = engine.event_channel_op(guest, Op::BIND_IPI.0, 0x1000, &mut arguments);
//! assert_eq!(outcome, Outcome::Done(0));
//! assert_eq!(memory.read_obj::<u32>(GuestAddress(0x1004))?, 1); // port 1
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # When a guest's memory changes
//!
//! A [`GuestPage`] is a page of one *mapping*, and holds that mapping: what the memory map says later does not touch
//! it. If the VMM takes a region away or puts another in its place (`GuestMemoryAtomic`), the engine goes on writing to
//! the old mapping, which no guest sees any more, and which is unmapped when the last page of it is dropped. So a guest
//! that has the memory under its own pages exchanged loses its own events, and nobody else's; and the old memory stays
//! allocated until
//!
//! * shared_info is set anew ([`Engine::set_shared_info`](evtchn_engine::Engine::set_shared_info)), which is what a VMM
//!   does when the guest moves that page,
//! * the guest resets its event channels, or is destroyed: the pages of the FIFO ABI.
//!
//! One frame may be pinned several times; all those pages are the same memory. A guest that lets its control blocks,
//! array and shared_info overlap gets the mixture that it asked for.
//!
//! # What the embedder must see to
//!
//! * A mapping of a file must not lose its pages: seal a memfd against shrinking, or the next access is SIGBUS for the
//!   whole VMM. That is so for all of vm-memory.
//! * The protection of a mapping must be what its `MmapRegion` says. Memory that is not readable and writable is never
//!   pinned; nor are arguments written to memory that is not writable.
//! * Mappings that vm-memory's feature `xen` makes anew for each access are no place for a page that stays: they are
//!   refused.

mod arguments;
mod mapped;
mod page;
mod protection;

pub use arguments::{Arguments, Physical, Translate};
pub use page::{GuestPage, pin};
