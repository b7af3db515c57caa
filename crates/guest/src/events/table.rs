// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the records are.

use evtchn_sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use evtchn_sync::{array_of, const_fn};

use super::{Channel, Handler};

/// Which channel has a port.
#[derive(Debug)]
pub struct PortSlot {
    /// Its index, plus 1; 0 for none.
    pub(super) channel: AtomicU32,
}

/// What is kept for a vCPU.
#[derive(Debug)]
pub struct VcpuSlot {
    /// How many upcalls it has run.
    pub(super) epoch: AtomicU32,
    /// The first of its delayed channels: its index, plus 1; 0 for none.
    pub(super) delayed: AtomicU32,
    /// How many events came for ports that no channel has.
    pub(super) unclaimed: AtomicU64,
    /// Whether it is online.
    pub(super) is_online: AtomicBool,
}

impl PortSlot {
    const_fn! {
        /// A port that no channel has.
        #[must_use]
        pub const fn new() -> Self {
            Self { channel: AtomicU32::new(0) }
        }
    }
}

impl VcpuSlot {
    const_fn! {
        /// A vCPU that is offline.
        #[must_use]
        pub const fn new() -> Self {
            Self {
                epoch: AtomicU32::new(0),
                delayed: AtomicU32::new(0),
                unclaimed: AtomicU64::new(0),
                is_online: AtomicBool::new(false),
            }
        }
    }
}

impl Default for PortSlot {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for VcpuSlot {
    fn default() -> Self {
        Self::new()
    }
}

/// The memory of [`Events`](super::Events): [`Table`] with sizes known to the compiler, or [`Slices`].
pub trait Storage {
    /// What handles events.
    type Handler: Handler;

    /// A record for each channel that there may be.
    fn channels(&self) -> &[Channel<Self::Handler>];

    /// A slot for each port number that can be used, port 0 included.
    fn ports(&self) -> &[PortSlot];

    /// A slot for each vCPU.
    fn vcpus(&self) -> &[VcpuSlot];
}

/// Storage for so many channels, port numbers (port 0 included), and vCPUs. Fits into a `static`.
#[derive(Debug)]
pub struct Table<H, const CHANNELS: usize, const PORTS: usize, const VCPUS: usize> {
    channels: [Channel<H>; CHANNELS],
    ports: [PortSlot; PORTS],
    vcpus: [VcpuSlot; VCPUS],
}

impl<H, const CHANNELS: usize, const PORTS: usize, const VCPUS: usize> Table<H, CHANNELS, PORTS, VCPUS> {
    const_fn! {
        /// An empty table.
        #[must_use]
        pub const fn new() -> Self {
            Self {
                channels: array_of!(Channel::new()),
                ports: array_of!(PortSlot::new()),
                vcpus: array_of!(VcpuSlot::new()),
            }
        }
    }
}

impl<H, const C: usize, const P: usize, const V: usize> Default for Table<H, C, P, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Handler, const C: usize, const P: usize, const V: usize> Storage for Table<H, C, P, V> {
    type Handler = H;

    fn channels(&self) -> &[Channel<H>] {
        &self.channels
    }

    fn ports(&self) -> &[PortSlot] {
        &self.ports
    }

    fn vcpus(&self) -> &[VcpuSlot] {
        &self.vcpus
    }
}

/// Storage in memory that the embedder has, for sizes that are known when it runs.
#[derive(Debug)]
pub struct Slices<'a, H> {
    /// A record for each channel that there may be.
    pub channels: &'a [Channel<H>],
    /// A slot for each port number that can be used, port 0 included.
    pub ports: &'a [PortSlot],
    /// A slot for each vCPU.
    pub vcpus: &'a [VcpuSlot],
}

impl<H: Handler> Storage for Slices<'_, H> {
    type Handler = H;

    fn channels(&self) -> &[Channel<H>] {
        self.channels
    }

    fn ports(&self) -> &[PortSlot] {
        self.ports
    }

    fn vcpus(&self) -> &[VcpuSlot] {
        self.vcpus
    }
}

macro_rules! forward {
    ($($(#[$attr:meta])* $pointer:ty;)*) => {$(
        $(#[$attr])*
        impl<S: Storage + ?Sized> Storage for $pointer {
            type Handler = S::Handler;

            #[inline]
            fn channels(&self) -> &[Channel<S::Handler>] {
                (**self).channels()
            }

            #[inline]
            fn ports(&self) -> &[PortSlot] {
                (**self).ports()
            }

            #[inline]
            fn vcpus(&self) -> &[VcpuSlot] {
                (**self).vcpus()
            }
        }
    )*};
}

forward! {
    &S;
    #[cfg(feature = "alloc")]
    alloc::boxed::Box<S>;
    #[cfg(feature = "alloc")]
    alloc::sync::Arc<S>;
}
