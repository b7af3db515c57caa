// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains as processes of this machine: an engine, a kernel for each domain, and the device files of programs.
#![forbid(unsafe_code)]

mod file;
mod host;
mod kernel;
mod machine;
mod version;

pub use evtchn_device::node::OpenFlags;
pub use evtchn_device::transfer::MAX_BYTES;
pub use evtchn_device::{Fault as UserFault, Level as LinuxLevel, UserArgument, ports_in, whole_bytes};
pub use evtchn_engine::{Fault, GuestMemory, Level as XenLevel};
pub use file::{DeviceFile, Readable, Wake};
pub use host::{Host, Levels, StartError};
