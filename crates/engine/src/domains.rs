// SPDX-License-Identifier: MIT OR Apache-2.0
//! The domain table: which domains exist, found by their ids without a lock.

use alloc::sync::Arc;
use core::ops::Deref;

use evtchn_abi::{DomId, NR_VIRQS, Virq};
use evtchn_sync::atomic::AtomicU16;
use evtchn_sync::atomic::Ordering::Relaxed;
use evtchn_sync::{Guard, OnceBox, Published};

use crate::domain::Domain;
use crate::error::OpError;
use crate::table::filled;

/// Ids in a group, whose table is made with the first domain in it.
#[cfg(not(any(loom, shuttle)))]
const GROUP: usize = 256;
/// For every id there could be, so that no id is out of bounds.
#[cfg(not(any(loom, shuttle)))]
const GROUPS: usize = (1 << 16) / GROUP;
/// A model checker makes every atomic anew for each order that it tries.
#[cfg(any(loom, shuttle))]
const GROUP: usize = 4;
#[cfg(any(loom, shuttle))]
const GROUPS: usize = 1;

type Entry<P> = Published<Arc<Domain<P>>>;

/// The domains by their ids.
#[derive(Debug)]
pub(crate) struct Domains<P> {
    groups: [OnceBox<[Entry<P>; GROUP]>; GROUPS],
}

impl<P> Domains<P> {
    pub fn new() -> Self {
        Self { groups: core::array::from_fn(|_| OnceBox::new()) }
    }

    /// The domain with this very id, for as long as the guard lives.
    ///
    /// # Errors
    /// ESRCH if there is none.
    #[inline]
    pub fn get<'g>(&'g self, id: DomId, guard: &'g Guard<'_>) -> Result<&'g Domain<P>, OpError> {
        self.entry(id).and_then(|entry| entry.load(guard)).ok_or(OpError::NoDomain)
    }

    /// The domain with this very id, to keep.
    ///
    /// # Errors
    /// ESRCH if there is none.
    pub fn share(&self, id: DomId, guard: &Guard<'_>) -> Result<Arc<Domain<P>>, OpError> {
        self.entry(id).and_then(|entry| entry.share(guard)).ok_or(OpError::NoDomain)
    }

    /// The domains at this moment, in the order of their ids.
    pub fn iter<'g>(&'g self, guard: &'g Guard<'_>) -> impl Iterator<Item = Arc<Domain<P>>> + 'g {
        let groups = self.groups.iter().filter_map(|group| group.get());
        groups.flat_map(|group| group.iter()).filter_map(|entry| entry.share(guard))
    }

    /// The entry of an id, made if need be. Under the registry's lock.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn need(&self, id: DomId) -> Result<&Entry<P>, OpError> {
        let group = self.groups.get(id.0 as usize / GROUP).ok_or(OpError::Invalid)?;
        if group.get().is_none() {
            let fresh = filled(GROUP, || Published::new(None)).and_then(|fresh| fresh.try_into().ok());
            let _ = group.set(fresh.ok_or(OpError::OutOfMemory)?);
        }
        self.entry(id).ok_or(OpError::Invalid)
    }

    #[inline]
    pub fn entry(&self, id: DomId) -> Option<&Entry<P>> {
        let group = self.groups.get(id.0 as usize / GROUP)?.get()?;
        Some(&group[id.0 as usize % GROUP])
    }
}

/// A domain that a caller has named: often it is the caller itself.
pub(crate) enum Named<'a, P> {
    /// The caller.
    Own(&'a Domain<P>),
    /// Another domain.
    Other(Arc<Domain<P>>),
}

impl<P> Deref for Named<'_, P> {
    type Target = Domain<P>;

    fn deref(&self) -> &Domain<P> {
        match self {
            Self::Own(domain) => domain,
            Self::Other(domain) => domain,
        }
    }
}

/// Who handles global VIRQs. Changed under the registry's lock, read without.
#[derive(Debug)]
pub(crate) struct Handlers {
    /// The domain that was made the handler of a VIRQ; by default the hardware domain is.
    assigned: [AtomicU16; NR_VIRQS as usize],
    hardware: AtomicU16,
}

/// No domain has this id.
const NOBODY: u16 = DomId::INVALID.0;

fn domain_in(entry: &AtomicU16) -> Option<DomId> {
    let id = DomId(entry.load(Relaxed));
    (id.0 != NOBODY).then_some(id)
}

impl Handlers {
    pub fn new() -> Self {
        let nobody = || AtomicU16::new(NOBODY);
        Self { assigned: core::array::from_fn(|_| nobody()), hardware: nobody() }
    }

    /// The domain that gets this global VIRQ.
    pub fn handler(&self, virq: Virq) -> Option<DomId> {
        self.assigned(virq).or_else(|| domain_in(&self.hardware))
    }

    /// The domain that was made its handler.
    pub fn assigned(&self, virq: Virq) -> Option<DomId> {
        self.assigned.get(virq.0 as usize).and_then(domain_in)
    }

    /// The domain that handles what no other was made the handler of.
    pub fn hardware(&self) -> Option<DomId> {
        domain_in(&self.hardware)
    }

    /// Makes a domain its handler.
    pub fn assign(&self, virq: Virq, domain: DomId) {
        if let Some(entry) = self.assigned.get(virq.0 as usize) {
            entry.store(domain.0, Relaxed);
        }
    }

    /// Makes a domain the default handler, if it is the first.
    pub fn offer_hardware(&self, domain: DomId) {
        if domain_in(&self.hardware).is_none() {
            self.hardware.store(domain.0, Relaxed);
        }
    }

    /// Takes back whatever a domain handles.
    pub fn forget(&self, id: DomId) {
        let entries = self.assigned.iter().chain([&self.hardware]);
        entries.filter(|entry| domain_in(entry) == Some(id)).for_each(|entry| entry.store(NOBODY, Relaxed));
    }
}
