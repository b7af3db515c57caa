// SPDX-License-Identifier: MIT OR Apache-2.0
//! The arguments of `physdev_op` that concern physical interrupts (`physdev.h`).

use crate::{Gfn, Pirq};

c_struct! {
    /// [`PhysdevOp::EOI`](crate::PhysdevOp::EOI).
    PhysdevEoi = "physdev_eoi", 4 bytes {
        /// The interrupt that was handled.
        irq: Pirq = 0,
    }
}

c_struct! {
    /// [`PhysdevOp::IRQ_STATUS_QUERY`](crate::PhysdevOp::IRQ_STATUS_QUERY).
    PhysdevIrqStatusQuery = "physdev_irq_status_query", 8 bytes {
        /// The interrupt.
        irq: Pirq = 0,
        /// Out: [`NEEDS_EOI`](Self::NEEDS_EOI), [`SHARED`](Self::SHARED).
        flags: u32 = 4,
    }
}

impl PhysdevIrqStatusQuery {
    /// Bit in `flags`: the guest must say when it has handled the interrupt.
    #[doc(alias = "XENIRQSTAT_needs_eoi")]
    pub const NEEDS_EOI: u32 = 1;
    /// Bit in `flags`: the interrupt is shared with other domains.
    #[doc(alias = "XENIRQSTAT_shared")]
    pub const SHARED: u32 = 2;
}

c_struct! {
    /// [`PhysdevOp::PIRQ_EOI_GMFN_V1`](crate::PhysdevOp::PIRQ_EOI_GMFN_V1) and
    /// [`V2`](crate::PhysdevOp::PIRQ_EOI_GMFN_V2) of a 64-bit guest.
    PhysdevPirqEoiGmfn = "physdev_pirq_eoi_gmfn", 8 bytes {
        /// The page with the bits.
        gmfn: Gfn = 0,
    }
}

c_struct! {
    /// [`PhysdevOp::PIRQ_EOI_GMFN_V1`](crate::PhysdevOp::PIRQ_EOI_GMFN_V1) and
    /// [`V2`](crate::PhysdevOp::PIRQ_EOI_GMFN_V2) of a 32-bit x86 guest.
    PhysdevPirqEoiGmfn32 = "physdev_pirq_eoi_gmfn", 4 bytes {
        /// As in [`PhysdevPirqEoiGmfn`].
        gmfn: u32 = 0,
    }
}

impl From<PhysdevPirqEoiGmfn32> for PhysdevPirqEoiGmfn {
    fn from(page: PhysdevPirqEoiGmfn32) -> Self {
        Self { gmfn: Gfn(page.gmfn.into()) }
    }
}
