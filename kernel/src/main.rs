// SPDX-License-Identifier: GPL-2.0
//! `/dev/xen/evtchn` for Linux on Xen: what drivers/xen/evtchn.c offers, in Rust.
//!
//! A program binds event channels, reads the ports that fired, and writes those that may fire again. What that means in
//! detail (ring, checks and their order, errors) is the crate `evtchn_device`, which this project also runs without any
//! kernel; here are the parts that only a kernel has: locks, sleeping, interrupts, hypercalls.
//!
//! | file | what |
//! |---|---|
//! | `node.rs` | the device node and its lifetime |
//! | `operations.rs` | the table of system calls, from C's types to Rust's |
//! | `file.rs` | one open file: read, write, ioctl, poll, release |
//! | `bindings.rs` | the ports of a file, and what an interrupt does |
//! | `driver.rs` | what an ioctl asks of the system |
//! | `ring.rs` | the ring with its two locks |
//! | `irq_lock.rs`, `wait.rs`, `signal.rs`, `name.rs` | services of the kernel that the `kernel` crate has no safe form of |
//! | `statics.rs` | who has which static port |
//! | `backend` | where channels and interrupts come from: Xen, or a simulation for tests |
//!
//! # Locks
//!
//! In this order: the bind lock of a file (a mutex), the table of static ports (a mutex), the consumer lock (a mutex), the
//! producer lock (interrupts off). An interrupt takes the last only.

mod backend;
mod bindings;
mod driver;
mod file;
mod irq_lock;
mod name;
mod node;
mod operations;
mod ring;
mod signal;
mod statics;
mod wait;

use kernel::prelude::*;

use backend::{Backend, Platform};

#[cfg(not(evtchn_sim))]
module! {
    type: Evtchn,
    name: "xen_evtchn",
    authors: ["The evtchn developers"],
    description: "Xen event channels for programs",
    license: "GPL v2",
    alias: ["devname:xen/evtchn"],
}

#[cfg(evtchn_sim)]
module! {
    type: Evtchn,
    name: "evtchn_sim",
    authors: ["The evtchn developers"],
    description: "The event-channel device over simulated channels, for tests",
    license: "GPL v2",
}

/// The loaded module. Dropping it takes the node away, then the channels.
#[pin_data]
struct Evtchn {
    #[pin]
    node: node::Node,
    _platform: Started,
}

impl kernel::InPlaceModule for Evtchn {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // The channels have to be there before the first open. Fields are initialised in the order they are written here
            // and dropped in the order they are declared.
            _platform: Started::new()?,
            node <- node::Node::new(module),
        })
    }
}

/// The platform in use; dropping it ends that.
struct Started;

impl Started {
    /// Starts the platform: ENODEV when this machine does not have it.
    fn new() -> Result<Self> {
        statics::init();
        Platform::start()?;
        pr_info!("Event-channel device installed\n");
        Ok(Self)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        Platform::stop();
    }
}
