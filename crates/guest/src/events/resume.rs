// SPDX-License-Identifier: MIT OR Apache-2.0
//! After a suspend, or in another place after a migration: Xen knows nothing of the guest's channels.

use evtchn_abi::{DomId, Errno, Port, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;

use super::bind::Origin;
use super::state::{DELAYED, EOI, SILENT};
use super::{Channel, ChannelId, Events, Kernel, Settings, Source, Storage};
use crate::Abi;

/// What became of a channel when the guest was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resumed {
    /// It has a new port.
    Rebound(ChannelId, Port),
    /// It has no port: the other domain must make or name one. Give it one by [`Events::rebind_interdomain`],
    /// [`Events::realloc_unbound`] or [`Events::readopt`], or [close](Events::unbind) it.
    Dead(ChannelId),
    /// It has no port, since Xen has refused one. [Close](Events::unbind) it.
    Failed(ChannelId, Errno),
}

impl<A: Abi, K: Kernel, S: Storage> Events<A, K, S> {
    /// Binds all VIRQs, IPIs and PIRQs anew, after the domain has been suspended and restored, or reset. Handlers,
    /// vCPUs, priorities and masks stay what they were. What became of each channel is told to `report`.
    ///
    /// Called by one vCPU while no other runs, not in a handler, and while no thread that was interrupted is in the middle of another
    /// method: it would go on with a port that is another channel's by then. `vcpus` are those that are online; events that came
    /// before are not known any more.
    ///
    /// # Errors
    /// What [`online`](Self::online) answers for the first vCPU that cannot come online. Nothing is bound then.
    pub fn resume(
        &self,
        vcpus: impl IntoIterator<Item = VcpuId>,
        mut report: impl FnMut(Resumed),
    ) -> Result<(), Errno> {
        self.forget();
        self.abi.start();
        for vcpu in vcpus {
            self.abi.online(vcpu, &self.kernel)?;
            self.comes_online(vcpu);
        }
        for (id, channel) in self.bound() {
            report(match channel.source() {
                Source::Interdomain(_) => Resumed::Dead(id),
                source => match self.reopen(id, channel, source, Origin::Opened, || self.open(source)) {
                    Ok(port) => Resumed::Rebound(id, port),
                    Err(error) => Resumed::Failed(id, error),
                },
            });
        }
        Ok(())
    }

    /// Connects a channel that is dead since the guest was resumed to a port that another domain keeps for this one.
    ///
    /// # Errors
    /// ENOENT if there is no such channel; EINVAL if it is none to another domain; EBUSY if it has a port; as
    /// [`bind_interdomain`](Self::bind_interdomain).
    pub fn rebind_interdomain(
        &self,
        channel: ChannelId,
        remote: DomId,
        remote_port: Port,
    ) -> Result<Port, Errno> {
        self.revive(channel, remote, Origin::Opened, || self.kernel.bind_interdomain(remote, remote_port))
    }

    /// Opens a port for another domain to connect to, for a channel that is dead since the guest was resumed.
    ///
    /// # Errors
    /// ENOENT if there is no such channel; EINVAL if it is none to another domain; EBUSY if it has a port; as
    /// [`alloc_unbound`](Self::alloc_unbound).
    pub fn realloc_unbound(&self, channel: ChannelId, remote: DomId) -> Result<Port, Errno> {
        self.revive(channel, remote, Origin::Opened, || self.kernel.alloc_unbound(DomId::SELF, remote))
    }

    /// Gives a channel that is dead since the guest was resumed a port that is bound already: the store and the console have
    /// new ones, which the toolstack has opened.
    ///
    /// # Errors
    /// ENOENT if there is no such channel; EINVAL if it is none to another domain; EBUSY if it has a port; as
    /// [`adopt`](Self::adopt).
    pub fn readopt(&self, channel: ChannelId, port: Port, remote: DomId) -> Result<Port, Errno> {
        self.revive(channel, remote, Origin::Given, || self.take_over(port))
    }

    fn revive(
        &self,
        channel: ChannelId,
        remote: DomId,
        origin: Origin,
        open: impl FnOnce() -> Result<Port, Errno>,
    ) -> Result<Port, Errno> {
        let record = self.record(channel).ok_or(Errno::ENOENT)?;
        match record.source() {
            Source::Interdomain(_) => self.reopen(channel, record, Source::Interdomain(remote), origin, open),
            Source::Virq(..) | Source::Ipi(_) | Source::Pirq(..) => Err(Errno::EINVAL),
        }
    }

    /// Gives a channel without a port one that is opened for it.
    fn reopen(
        &self,
        id: ChannelId,
        channel: &Channel<S::Handler>,
        source: Source,
        origin: Origin,
        open: impl FnOnce() -> Result<Port, Errno>,
    ) -> Result<Port, Errno> {
        self.begin_move(id)?;
        let opened = if channel.port() == Port(0) { open() } else { Err(Errno::EBUSY) };
        let settings = Settings { priority: channel.priority(), ..Settings::on(channel.vcpu()) };
        let port = opened.and_then(|port| self.connect(port, source, settings, origin));
        if let Ok(port) = port {
            channel.set_source(source);
            channel.set_port(port);
            // It is masked.
            channel.set(SILENT);
            self.give_slot(port, id.index);
        }
        self.end_move(id, channel);
        port
    }

    /// Forgets everything that Xen knew.
    fn forget(&self) {
        self.abi.forget();
        self.storage.ports().iter().for_each(|slot| slot.channel.store(0, SeqCst));
        for slot in self.storage.vcpus() {
            slot.delayed.store(0, SeqCst);
            slot.is_online.store(false, SeqCst);
        }
        for channel in self.storage.channels() {
            channel.is_listed.store(false, SeqCst);
        }
        for (_, channel) in self.bound() {
            channel.set_port(Port(0));
            channel.clear(EOI | DELAYED);
        }
    }
}
