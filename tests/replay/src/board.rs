// SPDX-License-Identifier: MIT OR Apache-2.0
//! The facts of the recorded machine: its interrupt lines, and what its domains are.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use evtchn_abi::{DomId, Gfn, Pirq, VcpuId};
use evtchn_engine::{Denied, DomainConfig, Hooks, Party, PirqRefused, Policy, Upcall};
use evtchn_sync::HeapPage;

/// Dom0's id.
const DOM0: u16 = 0;

/// What the recorded machine does with a range of dom0's PIRQs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Dom0 may bind it.
    Permitted,
    /// Dom0 may, but Xen uses it itself: the cascade and its serial line.
    UsedByXen,
    /// Dom0 may not.
    NotPermitted,
}

/// The last PIRQ of each range in order, and what is behind the range.
const LINES: [(u32, Line); 8] = [
    (0, Line::NotPermitted),
    (1, Line::Permitted),
    (2, Line::UsedByXen),
    (3, Line::Permitted),
    (4, Line::UsedByXen),
    (15, Line::Permitted),
    (413, Line::NotPermitted),
    (415, Line::Permitted),
];
/// How many PIRQs dom0 has.
const DOM0_PIRQS: u32 = 416;
/// How many PIRQs another domain has. It may use none of them.
const DOMU_PIRQS: u32 = 56;

/// What a domain of the recorded machine is.
pub(crate) fn domain(id: u16, vcpus: u32) -> DomainConfig {
    if id == DOM0 {
        DomainConfig { nr_pirqs: DOM0_PIRQS, ..DomainConfig::dom0(vcpus) }
    } else {
        DomainConfig { nr_pirqs: DOMU_PIRQS, ..DomainConfig::guest(vcpus) }
    }
}

/// The machine around the engine. Nobody runs in its domains, so upcalls go nowhere.
#[derive(Debug, Default)]
pub(crate) struct Board {
    frames: RwLock<BTreeMap<(DomId, u64), Arc<HeapPage>>>,
}

impl Board {
    /// Gives a domain a page that it may share with Xen.
    pub fn share(&self, domain: DomId, gfn: u64, page: &Arc<HeapPage>) {
        let mut frames = self.frames.write().unwrap_or_else(PoisonError::into_inner);
        frames.insert((domain, gfn), Arc::clone(page));
    }
}

impl Hooks for Board {
    type Page = Arc<HeapPage>;

    fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}

    fn wake_poller(&self, _: DomId, _: VcpuId) {}

    fn pin(&self, domain: DomId, gfn: Gfn) -> Option<Arc<HeapPage>> {
        let frames = self.frames.read().unwrap_or_else(PoisonError::into_inner);
        frames.get(&(domain, gfn.0)).map(Arc::clone)
    }

    fn policy(&self) -> &dyn Policy {
        self
    }

    fn pirq_bind(&self, _: DomId, pirq: Pirq, _: bool) -> Result<(), PirqRefused> {
        match line(pirq) {
            Line::UsedByXen => Err(PirqRefused::InUse),
            Line::Permitted | Line::NotPermitted => Ok(()),
        }
    }
}

impl Policy for Board {
    fn bind_pirq(&self, caller: &Party, pirq: Pirq) -> Result<(), Denied> {
        let permitted = caller.id.0 == DOM0 && line(pirq) != Line::NotPermitted;
        if permitted { Ok(()) } else { Err(Denied::default()) }
    }
}

fn line(pirq: Pirq) -> Line {
    let range = LINES.iter().find(|(last, _)| pirq.0 <= *last);
    range.map_or(Line::NotPermitted, |(_, line)| *line)
}
