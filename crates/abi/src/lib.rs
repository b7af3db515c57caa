// SPDX-License-Identifier: MIT OR Apache-2.0
//! The numbers and layouts of Xen event channels, and nothing else.
#![no_std]
#![forbid(unsafe_code)]

mod errno;
mod ids;

pub use errno::Errno;
pub use ids::{DomId, Gfn, Pirq, Port, VcpuId, Virq};
