// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest's channels with their handlers: what a kernel needs above an ABI.

mod bind;
mod channel;
mod clock;
mod deliver;
mod handler;
mod late;
mod resume;
mod settle;
mod state;
mod stats;
mod table;
mod vcpus;

use evtchn_abi::{Errno, Port, Priority, VcpuId};
use evtchn_sync::atomic::AtomicU32;
use evtchn_sync::atomic::Ordering::SeqCst;
use evtchn_sync::const_fn;

use crate::{Abi, Hypercall};
pub use bind::{Flow, Settings};
pub use channel::{Channel, ChannelId, Share, Source};
pub use clock::WithClock;
pub use handler::{Answer, Event, Handler};
pub use late::Limits;
pub use resume::Resumed;
pub use stats::Stats;
pub use table::{PortSlot, Slices, Storage, Table, VcpuSlot};

use state::{EXPLICIT, State};

/// The kernel that the events are for. [`WithClock`] makes one of any [`Hypercall`].
pub trait Kernel: Hypercall {
    /// The time in nanoseconds since some moment. It does not go back.
    fn now(&self) -> u64;

    /// Asks for [`Events::expire`] of this vCPU at `deadline`, in the time of [`now`](Self::now), or soon after. A later
    /// call for the same vCPU does not take an earlier one back.
    fn expire_at(&self, vcpu: VcpuId, deadline: u64);
}

macro_rules! forward {
    ($($(#[$attr:meta])* $pointer:ty;)*) => {$(
        $(#[$attr])*
        impl<K: Kernel + ?Sized> Kernel for $pointer {
            fn now(&self) -> u64 {
                (**self).now()
            }

            fn expire_at(&self, vcpu: VcpuId, deadline: u64) {
                (**self).expire_at(vcpu, deadline);
            }
        }
    )*};
}

forward! {
    &K;
    #[cfg(feature = "alloc")]
    alloc::boxed::Box<K>;
    #[cfg(feature = "alloc")]
    alloc::sync::Arc<K>;
}

/// A guest's channels: each has a port, a vCPU, and a handler.
///
/// `A` is the ABI, `K` the kernel that all this is for, and `S` the memory for the channels; nothing is allocated. All
/// methods take `&self` and wait for nobody, so any vCPU may call any of them at any time, also in a handler; but
/// [`start`](Self::start) and [`resume`](Self::resume) need the guest for themselves, and [`upcall`](Self::upcall) is not called in a handler.
///
/// What somebody is in the middle of is left to them. So a thread that is interrupted while it masks, unmasks or ends an event may hold up that
/// channel, and no other, until it runs again: a kernel with threads of very different urgency does this with the scheduler held back.
///
/// * A handler runs for one event of its channel at a time, on the channel's vCPU.
/// * An event that comes while the channel is masked, is being moved, or has its handler running, is remembered and
///   announced again. None is lost, and none comes to a handler that was not sent to its port.
/// * A handler may be called once more than there were events: when it is bound; where Xen announces an event again that is being taken; and if
///   its port was another channel's until just now, and an event of that was being taken.
///
/// See the crate's documentation for an example.
#[derive(Debug)]
pub struct Events<A, K, S> {
    abi: A,
    kernel: K,
    storage: S,
    limits: Limits,
    /// Where to look for a free record first.
    next_record: AtomicU32,
}

impl<A, K, S> Events<A, K, S> {
    const_fn! {
        /// Channels in `storage`, which is empty.
        pub const fn new(abi: A, kernel: K, storage: S) -> Self {
            Self { abi, kernel, storage, limits: Limits::LINUX, next_record: AtomicU32::new(0) }
        }
    }

    /// The same with other limits than Linux's.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The ABI.
    pub fn abi(&self) -> &A {
        &self.abi
    }

    /// The kernel.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }
}

impl<A: Abi, K: Kernel, S: Storage> Events<A, K, S> {
    /// Begins: every port is masked. Before any vCPU is [online](Self::online).
    pub fn start(&self) {
        self.abi.start();
    }

    /// Signals the other end of a channel: another domain, or for an IPI the vCPU that it is for.
    ///
    /// # Errors
    /// ENOENT if there is no such channel, or it has no port since a resume; EINVAL if it has no other end.
    pub fn notify(&self, channel: ChannelId) -> Result<(), Errno> {
        self.kernel.send(self.port(channel).ok_or(Errno::ENOENT)?)
    }

    /// A channel's port, which may change when the guest is [resumed](Self::resume). `None` if there is no such channel, or
    /// it has none.
    pub fn port(&self, channel: ChannelId) -> Option<Port> {
        let port = self.record(channel)?.port();
        (port != Port(0)).then_some(port)
    }

    /// Which channel has a port.
    pub fn channel(&self, port: Port) -> Option<ChannelId> {
        let (index, record) = self.holder(port)?;
        let state = record.state();
        // The record may have become another channel's.
        (state.is_bound() && record.port() == port)
            .then(|| ChannelId { index, generation: state.generation() })
    }

    /// Where a channel's events come from.
    pub fn source(&self, channel: ChannelId) -> Option<Source> {
        self.record(channel).map(Channel::source)
    }

    /// The vCPU that handles a channel's events.
    pub fn vcpu(&self, channel: ChannelId) -> Option<VcpuId> {
        self.record(channel).map(Channel::vcpu)
    }

    /// Holds a channel's events back. Whether they were. A handler that runs is not waited for: see [`is_running`](Self::is_running).
    ///
    /// # Errors
    /// ENOENT if there is no such channel.
    pub fn mask(&self, channel: ChannelId) -> Result<bool, Errno> {
        let was = self.change(channel, |state| Some(state.with(EXPLICIT)))?;
        Ok(was.has(EXPLICIT))
    }

    /// Lets a channel's events in again, also those that came meanwhile. Whether they were held back.
    ///
    /// # Errors
    /// ENOENT if there is no such channel.
    pub fn unmask(&self, channel: ChannelId) -> Result<bool, Errno> {
        let was = self.change(channel, |state| Some(state.without(EXPLICIT)))?;
        Ok(was.has(EXPLICIT))
    }

    /// Is a channel's handler running just now? After [`unbind`](Self::unbind): has it still to return, or to be dropped?
    ///
    /// To wait for that is for a thread, not for an upcall: what it has interrupted may be what it waits for.
    pub fn is_running(&self, channel: ChannelId) -> bool {
        self.storage.channels().get(channel.index as usize).is_some_and(|record| {
            let state = record.state();
            state.generation() == channel.generation && (state.has(state::ACTIVE) || state.is_closing())
        })
    }

    /// Chooses the queue of a channel's port, also of the one that it gets when the guest is [resumed](Self::resume).
    ///
    /// # Errors
    /// ENOENT if there is no such channel; ENOSYS with the two-level ABI.
    pub fn set_priority(&self, channel: ChannelId, priority: Priority) -> Result<(), Errno> {
        let record = self.record(channel).ok_or(Errno::ENOENT)?;
        self.kernel.set_priority(self.port(channel).ok_or(Errno::ENOENT)?, priority)?;
        record.set_priority(Some(priority));
        Ok(())
    }

    /// The record of a channel that is bound.
    fn record(&self, channel: ChannelId) -> Option<&Channel<S::Handler>> {
        let record = self.storage.channels().get(channel.index as usize)?;
        let state = record.state();
        (state.is_bound() && state.generation() == channel.generation).then_some(record)
    }

    /// The record that a port belongs to, and its index.
    #[inline]
    fn holder(&self, port: Port) -> Option<(u32, &Channel<S::Handler>)> {
        let slot = self.storage.ports().get(port.0 as usize)?;
        let index = slot.channel.load(SeqCst).checked_sub(1)?;
        Some((index, self.storage.channels().get(index as usize)?))
    }

    /// Changes the state of a channel that is bound, or leaves it if `to` says so; what it was.
    ///
    /// # Errors
    /// ENOENT if there is no such channel.
    fn change(&self, channel: ChannelId, to: impl Fn(State) -> Option<State>) -> Result<State, Errno> {
        let record = self.storage.channels().get(channel.index as usize).ok_or(Errno::ENOENT)?;
        let mut known = Err(Errno::ENOENT);
        self.update(record, |state| {
            if !state.is_bound() || state.generation() != channel.generation {
                known = Err(Errno::ENOENT);
                return None;
            }
            known = Ok(state);
            to(state)
        });
        known
    }
}
