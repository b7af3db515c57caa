// SPDX-License-Identifier: MIT OR Apache-2.0
//! The argument structures of the hypercalls, as they lie in guest memory.
//!
//! Fields marked *out* are results: Xen writes the whole structure back, so bytes that it does not set, padding
//! included, return as they came. For that reason padding is a field here. Fields hold whatever the guest put
//! there; no range is checked.
//!
//! The layouts of the event-channel operations are the same for 32-bit and 64-bit guests. Where another
//! hypercall's structure depends on the guest's word, both forms are here, the 32-bit one with `32` in its name.

mod channel;
mod compat;
mod domctl;
mod fifo;
mod hvm;
mod physdev;
mod sched;
mod status;
mod vcpu;

pub use channel::{
    AllocUnbound, BIND_PIRQ_WILL_SHARE, BindInterdomain, BindIpi, BindPirq, BindVcpu, BindVirq, Close, Reset,
    Send, Unmask,
};
pub use compat::EvtchnOp;
pub use domctl::{DomctlHeader, DomctlSetVirqHandler, DomctlSubscribe};
pub use fifo::{ExpandArray, InitControl, SetPriority};
pub use hvm::{EvtchnUpcallVector, HvmParamValue};
pub use physdev::{PhysdevEoi, PhysdevIrqStatusQuery, PhysdevPirqEoiGmfn, PhysdevPirqEoiGmfn32};
pub use sched::{SchedPoll, SchedPoll32, SchedShutdown};
pub use status::{Status, StatusKind, StatusUnion};
pub use vcpu::{
    VcpuRegisterVcpuInfo, VcpuSetPeriodicTimer, VcpuSetSingleshotTimer, VcpuSetSingleshotTimer32,
};
