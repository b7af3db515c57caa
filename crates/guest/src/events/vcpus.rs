// SPDX-License-Identifier: MIT OR Apache-2.0
//! vCPUs that come and go, and channels that move between them.

use evtchn_abi::{Errno, Port, VcpuId};
use evtchn_sync::atomic::Ordering::SeqCst;

use super::state::{AWAY, MOVING};
use super::{Channel, ChannelId, Events, Kernel, Source, Storage};
use crate::Abi;
use crate::words::in_order;

impl<A: Abi, K: Kernel, S: Storage> Events<A, K, S> {
    /// A vCPU comes online, for the first time or again. Called by the vCPU itself, or for it before it runs.
    ///
    /// # Errors
    /// EINVAL if there is no memory for such a vCPU; what `register_vcpu_info` and `init_control` answer.
    pub fn online(&self, vcpu: VcpuId) -> Result<(), Errno> {
        self.storage.vcpus().get(vcpu.0 as usize).ok_or(Errno::EINVAL)?;
        self.abi.online(vcpu, &self.kernel)?;
        for (id, channel) in self.bound().filter(|(_, channel)| channel.vcpu() == vcpu) {
            // Nobody closes it meanwhile. Whoever moves it just now binds it, too.
            if self.begin_move(id).is_ok() {
                self.with_port(channel, |port| self.abi.bind(port, vcpu));
                self.end_move(id, channel);
            }
        }
        self.comes_online(vcpu);
        // While it was away nobody may have asked for it.
        self.expire(vcpu);
        Ok(())
    }

    /// Lets in what waited for a vCPU.
    pub(super) fn comes_online(&self, vcpu: VcpuId) {
        let Some(slot) = self.storage.vcpus().get(vcpu.0 as usize) else { return };
        // Before the look at the channels: pairs with `wait_for_vcpu`.
        slot.is_online.store(true, SeqCst);
        in_order();
        for (id, _) in self.bound().filter(|(_, channel)| channel.vcpu() == vcpu) {
            // It may have been closed just now, and the record be another's.
            let _ = self.change(id, |state| Some(state.without(AWAY)));
        }
    }

    /// A vCPU has gone offline, and takes no upcall any more: its channels move to another, with the events that it left. IPIs and
    /// VIRQs of its own stay with it and wait.
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU, EINVAL if both are the same or `to` is offline: nothing is changed then. What `bind_vcpu`
    /// answers for the first channel that cannot be moved; the others are moved all the same.
    pub fn offline(&self, vcpu: VcpuId, to: VcpuId) -> Result<(), Errno> {
        let slot = self.storage.vcpus().get(vcpu.0 as usize).ok_or(Errno::ENOENT)?;
        if !self.is_online(to)? || vcpu == to {
            return Err(Errno::EINVAL);
        }
        // Before the look at the channels: pairs with `end_move` and `wait_for_vcpu`.
        slot.is_online.store(false, SeqCst);
        in_order();
        let mut moved = Ok(());
        for (id, channel) in self.bound().filter(|(_, channel)| channel.vcpu() == vcpu) {
            let is_bound = self.change(id, |state| Some(state.with(AWAY))).is_ok();
            // Who moves it just now takes it further.
            if is_bound && !channel.source().is_fixed() && self.begin_move(id).is_ok() {
                moved = moved.and(self.give_to(channel, to));
                self.end_move(id, channel);
            }
        }
        self.abi.offline(vcpu, |port| self.pass_on(port));
        self.move_delayed(vcpu, to);
        moved
    }

    /// Is a vCPU online?
    ///
    /// # Errors
    /// ENOENT if there is no such vCPU.
    fn is_online(&self, vcpu: VcpuId) -> Result<bool, Errno> {
        let slot = self.storage.vcpus().get(vcpu.0 as usize).ok_or(Errno::ENOENT)?;
        Ok(slot.is_online.load(SeqCst))
    }

    /// Can a vCPU have a channel? One that is offline only has those that are its own.
    pub(super) fn can_handle(&self, vcpu: VcpuId, source: Source) -> Result<(), Errno> {
        if self.is_online(vcpu)? || source.is_fixed() { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Has a channel that cannot leave its vCPU wait for it, if that is offline.
    pub(super) fn wait_for_vcpu(&self, id: ChannelId, channel: &Channel<S::Handler>) {
        let is_away = || channel.source().is_fixed() && self.is_online(channel.vcpu()) == Ok(false);
        in_order();
        if is_away() {
            // It may have been closed just now.
            let _ = self.change(id, |state| Some(state.with(AWAY)));
            in_order();
            if !is_away() {
                // It has come back before it could see this.
                let _ = self.change(id, |state| Some(state.without(AWAY)));
            }
        }
    }

    /// Has another vCPU handle a channel's events. None is lost, and none is handled by both; one whose announcement was on its way to the old
    /// vCPU comes to the new.
    ///
    /// # Errors
    /// ENOENT if there is no such channel, or no such vCPU; EINVAL if it is an IPI's or a VIRQ's of one vCPU, or the vCPU is
    /// offline (if it goes offline just now, another has the channel); EBUSY if somebody else moves it just now.
    pub fn move_to(&self, channel: ChannelId, vcpu: VcpuId) -> Result<(), Errno> {
        let record = self.record(channel).ok_or(Errno::ENOENT)?;
        if record.source().is_fixed() {
            return Err(Errno::EINVAL);
        }
        self.can_handle(vcpu, record.source())?;
        self.begin_move(channel)?;
        let moved = self.give_to(record, vcpu);
        self.end_move(channel, record);
        moved
    }

    /// Gives a channel to a vCPU, while it is being moved.
    fn give_to(&self, channel: &Channel<S::Handler>, vcpu: VcpuId) -> Result<(), Errno> {
        match channel.port() {
            // Dead since the guest was resumed: the port that it gets will be bound there.
            Port(0) => {}
            port => self.kernel.bind_vcpu(port, vcpu)?,
        }
        channel.set_vcpu(vcpu);
        self.with_port(channel, |port| self.abi.bind(port, vcpu));
        Ok(())
    }

    /// Holds a channel's events back while it is moved, or gets another port, and keeps it from being closed.
    pub(super) fn begin_move(&self, channel: ChannelId) -> Result<(), Errno> {
        let was = self.change(channel, |state| (!state.has(MOVING)).then_some(state.with(MOVING)))?;
        if was.has(MOVING) { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// Lets in the events of a channel that was moved; on another vCPU, if its own has gone offline meanwhile.
    ///
    /// Who goes offline says so, and then says AWAY to the channels that have the vCPU. Here the channel has got its vCPU, which is looked at,
    /// and the channel let in by a step that fails if somebody has said AWAY. So nothing is announced to a vCPU that will not look.
    pub(super) fn end_move(&self, id: ChannelId, channel: &Channel<S::Handler>) {
        if channel.source().is_fixed() {
            self.wait_for_vcpu(id, channel);
            return self.update(channel, |state| Some(state.without(MOVING)));
        }
        let mut is_in = false;
        while !is_in {
            in_order();
            if let Some(other) = self.who_takes_over(channel) {
                // Only a port that is not open any more cannot be given away: nothing comes from it.
                let _ = self.give_to(channel, other);
            }
            self.update(channel, |state| {
                is_in = !state.has(AWAY);
                Some(state.without(if is_in { MOVING } else { AWAY }))
            });
        }
    }

    /// A vCPU that is online, if a channel's is not.
    fn who_takes_over(&self, channel: &Channel<S::Handler>) -> Option<VcpuId> {
        if self.is_online(channel.vcpu()) != Ok(false) {
            return None;
        }
        (0..)
            .map(VcpuId)
            .zip(self.storage.vcpus())
            .find_map(|(vcpu, slot)| slot.is_online.load(SeqCst).then_some(vcpu))
    }

    /// All channels that are bound.
    pub(super) fn bound(&self) -> impl Iterator<Item = (ChannelId, &Channel<S::Handler>)> {
        let records = (0..).zip(self.storage.channels());
        records.filter_map(|(index, record)| {
            let state = record.state();
            state.is_bound().then_some((ChannelId { index, generation: state.generation() }, record))
        })
    }
}
