// SPDX-License-Identifier: MIT OR Apache-2.0
//! Domains as processes of this machine: an engine, a kernel for each domain, and the device files of programs.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicBool, Ordering};
//!
//! use evtchn_abi::ioctl::Ioctl;
//! use evtchn_abi::Port;
//! use evtchn_host::{Abi, Host, Levels, Readable};
//!
//! let host = Host::new(Levels::default(), Abi::default());
//! let server = host.join(1, 1).unwrap(); // domain 1 with one vCPU boots
//! let client = host.join(2, 1).unwrap();
//!
//! // A program in each domain opens /dev/xen/evtchn.
//! let woken = Arc::new(AtomicBool::new(false));
//! let wake = Arc::clone(&woken);
//! let served = host.open(server, "server", Arc::new(move || wake.store(true, Ordering::SeqCst))).unwrap();
//! let calling = host.open(client, "client", Arc::new(|| {})).unwrap();
//!
//! // The server offers a port to domain 2, the client binds to it and notifies.
//! let offered = served.ioctl(Ioctl::BIND_UNBOUND_PORT, 2u32.to_ne_bytes().as_slice()).unwrap();
//! let bind = [1, offered].map(u32::to_ne_bytes);
//! let local = calling.ioctl(Ioctl::BIND_INTERDOMAIN, bind.as_flattened()).unwrap();
//! calling.ioctl(Ioctl::NOTIFY, local.to_ne_bytes().as_slice()).unwrap();
//!
//! // The server is woken, reads its port, and enables it again.
//! assert!(woken.load(Ordering::SeqCst));
//! assert_eq!(served.readable(4096), Readable::Ports(1));
//! let mut read = Vec::new();
//! served.read(4096, |bytes| Ok(read.extend_from_slice(bytes))).unwrap();
//! assert_eq!(read, offered.to_ne_bytes());
//! served.enable([Port(offered)]);
//! ```
//!
//! # What a domain is here
//!
//! A domain boots as a Linux guest does: its kernel masks every port, tells Xen where its events go, with the FIFO [`Abi`] or with
//! two-level, and opens the ports that Linux opens for itself: virtual interrupts, calls between vCPUs, in domain 0 the
//! interrupts of devices and a port for the store daemon, elsewhere a port each for the store and the console. Nothing
//! comes from most of them, but they make a program's first port the number that it is on Xen. A domain is there while
//! somebody has joined it. Domain 0 is privileged, and has as many ports as the ABI; all others are ordinary guests with
//! ports up to 1023.
//!
//! # Threads
//!
//! Everything may be called by any thread. An event is delivered on the thread that caused it, before its call returns; if the target's
//! vCPU takes its events on another thread just then, that thread takes the new one too. So no event waits for anything, and an idle host does nothing.
#![forbid(unsafe_code)]

mod abi;
mod boot;
mod file;
mod host;
mod kernel;
mod machine;
mod pages;
mod version;

pub use abi::Abi;
pub use evtchn_device::node::OpenFlags;
pub use evtchn_device::transfer::MAX_BYTES;
pub use evtchn_device::{Fault as UserFault, Level as LinuxLevel, UserArgument, ports_in, whole_bytes};
pub use evtchn_engine::{Fault, GuestMemory, Level as XenLevel};
pub use file::{DeviceFile, Readable, Wake};
pub use host::{Host, Levels, StartError};
