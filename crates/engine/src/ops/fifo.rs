// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations of the FIFO ABI: `EVTCHNOP_init_control`, `expand_array` and `set_priority`.

use alloc::boxed::Box;
use core::ops::Range;

use evtchn_abi::fifo::{ControlBlock, Priority};
use evtchn_abi::{DomId, Gfn, Op, Port, VcpuId};
use evtchn_sync::{PAGE_SIZE, Page};

use crate::channel::Channel;
use crate::deliver::{Abi, Effect};
use crate::domain::{Domain, Events};
use crate::engine::Engine;
use crate::error::OpError;
use crate::fifo::Fifo;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// `EVTCHNOP_init_control`: gives `vcpu` its control block, `offset` bytes into the frame
    /// `control_gfn`.
    ///
    /// The first block of a domain switches it to the FIFO ABI: 131,072 ports, priority 7 for all. What is
    /// pending in the two-level bits is kept until [`expand_array`](Engine::expand_array) brings the
    /// port's word; the bits stay as they are. The block is not zeroed: a READY bit that is set in it
    /// holds upcalls back.
    ///
    /// # Errors
    /// EOPNOTSUPP if the domain may not use FIFO; ENOENT if there is no such vCPU; EINVAL for an offset
    /// that is not a multiple of 8, or beyond 4024; ENOMEM; EINVAL if the vCPU has a block already, and if
    /// [`Hooks::pin`] refuses the frame. A first call that fails leaves the domain two-level.
    pub fn init_control(
        &self,
        caller: DomId,
        vcpu: VcpuId,
        control_gfn: Gfn,
        offset: u32,
    ) -> Result<(), OpError> {
        let result = self.init_control_inner(caller, vcpu, control_gfn, offset);
        self.observed(caller, Op::INIT_CONTROL, Port(0), result)
    }

    fn init_control_inner(&self, caller: DomId, vcpu: VcpuId, gfn: Gfn, offset: u32) -> Result<(), OpError> {
        let domains = self.domains();
        let domain = domains.get(caller)?;
        if !domain.config.fifo {
            return Err(OpError::NotSupported);
        }
        domain.vcpu(vcpu)?;
        let offset = block_offset(offset)?;
        let events = domain.event.write();
        // The state is looked at and changed in two steps: the event lock keeps others out meanwhile.
        let has_control = domain.pages.read().fifo().map(|fifo| fifo.has_control(vcpu));
        match has_control {
            Some(true) => Err(OpError::HasControlBlock),
            Some(false) => self.add_block(domain, vcpu, gfn, offset),
            None => self.first_block(domain, &events, vcpu, gfn, offset),
        }
    }

    /// Switches the domain. All that can fail comes before anything is changed.
    fn first_block(
        &self,
        domain: &Domain<H::Page>,
        events: &Events,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: usize,
    ) -> Result<(), OpError> {
        let mut fifo = Fifo::new(domain.vcpus.len())?;
        fifo.set_control(vcpu, self.pin(domain.id, gfn)?, offset);
        domain.switch_to_fifo(events, fifo);
        Ok(())
    }

    fn add_block(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: usize,
    ) -> Result<(), OpError> {
        let page = self.pin(domain.id, gfn)?;
        if let Some(fifo) = domain.pages.write().fifo_mut() {
            fifo.set_control(vcpu, page, offset);
        }
        Ok(())
    }

    /// `EVTCHNOP_expand_array`: adds the frame `array_gfn` to the event array: words for the next 1,024
    /// ports.
    ///
    /// Events that were kept because their ports had no word are raised now.
    ///
    /// # Errors
    /// EOPNOTSUPP while the domain is two-level; ENOSPC if there are 128 pages; EINVAL if
    /// [`Hooks::pin`] refuses the frame; ENOMEM.
    pub fn expand_array(&self, caller: DomId, array_gfn: Gfn) -> Result<(), OpError> {
        let result = self.add_array_page(caller, array_gfn).map(|ports| self.replay(caller, ports));
        self.observed(caller, Op::EXPAND_ARRAY, Port(0), result)
    }

    fn add_array_page(&self, caller: DomId, gfn: Gfn) -> Result<Range<u32>, OpError> {
        let domains = self.domains();
        let domain = domains.get(caller)?;
        // The event lock keeps a reset out: who finds the FIFO ABI here finds it until the end.
        let _events = domain.event.write();
        domain.pages.write().fifo_mut().ok_or(OpError::NotSupported)?.reserve_page()?;
        let page = self.pin(caller, gfn)?;
        let mut pages = domain.pages.write();
        Ok(pages.fifo_mut().ok_or(OpError::NotSupported)?.add_page(page))
    }

    /// Raises the ports of a range for which an event was kept. No lock may be held.
    ///
    /// Senders that saw no word had the page lock for reading, so they have set their flags before the
    /// page was added; later ones see the word.
    fn replay(&self, domain: DomId, mut ports: Range<u32>) {
        loop {
            let next = {
                let domains = self.domains();
                domains.get(domain).ok().and_then(|domain| domain.replay_one(&mut ports))
            };
            let Some(effect) = next else { return };
            self.fire(effect);
        }
    }

    fn pin(&self, domain: DomId, gfn: Gfn) -> Result<H::Page, OpError> {
        self.hooks.pin(domain, gfn).ok_or(OpError::BadFrame)
    }

    /// `EVTCHNOP_set_priority`: chooses the queue on which `port` is linked from now on: 0 the most
    /// urgent, 15 the least.
    ///
    /// An event that is linked already stays where it is.
    ///
    /// # Errors
    /// EINVAL if there is no such port; ENOSYS while the domain is two-level; EACCES if the port is closed
    /// or belongs to Xen; EINVAL for a priority above 15.
    pub fn set_priority(&self, caller: DomId, port: Port, priority: u32) -> Result<(), OpError> {
        let result = self.set_priority_inner(caller, port, priority);
        self.observed(caller, Op::SET_PRIORITY, port, result)
    }

    fn set_priority_inner(&self, caller: DomId, port: Port, priority: u32) -> Result<(), OpError> {
        let domains = self.domains();
        let domain = domains.get(caller)?;
        let _events = domain.event.write();
        let channel = domain.channel(port)?;
        if domain.pages.read().fifo().is_none() {
            return Err(OpError::NotImplemented);
        }
        if !channel.binding().usable() {
            return Err(OpError::NotInUse);
        }
        channel.set_priority(Priority::new(priority).ok_or(OpError::Invalid)?);
        Ok(())
    }
}

/// Where a control block may begin: wholly inside its page, aligned.
fn block_offset(offset: u32) -> Result<usize, OpError> {
    let offset = offset as usize;
    let fits = offset <= PAGE_SIZE - ControlBlock::SIZE && offset.is_multiple_of(ControlBlock::ALIGN);
    fits.then_some(offset).ok_or(OpError::Invalid)
}

impl<P: Page> Domain<P> {
    /// Publishes the new ABI, then collects what the old one left pending.
    ///
    /// In this order: taking the page lock waits for senders that use the old ABI, and those that come
    /// later use the new one. So no bit is set after it was looked at.
    fn switch_to_fifo(&self, events: &Events, fifo: Fifo<P>) {
        let fifo = Box::new(fifo);
        let limit = events.ports.valid().min(self.width().layout().nr_channels());
        let channels = || (1..limit).filter_map(|port| Some((Port(port), self.channels.get(Port(port))?)));
        channels().for_each(|(_, channel)| forget(channel));
        self.pages.write().abi = Abi::Fifo(fifo);
        let pages = self.pages.read();
        let pending = channels().filter(|&(port, _)| pages.is_bit_pending(port, self.width()));
        pending.for_each(|(_, channel)| channel.save_event());
    }

    /// Raises the first port of the range for which an event was kept, whatever the port's state, and
    /// moves the range behind it.
    fn replay_one(&self, ports: &mut Range<u32>) -> Option<Effect> {
        let _keeps_the_binding = self.event.read();
        ports.find_map(|port| {
            let channel = self.channels.get(Port(port))?;
            channel.take_saved().then(|| self.raise(Port(port), channel))
        })
    }

    /// Returns to the two-level ABI; what the FIFO ABI used is the caller's to drop, after its locks.
    pub fn switch_to_two_level(&self) -> Abi<P> {
        core::mem::replace(&mut self.pages.write().abi, Abi::TwoLevel)
    }
}

/// A switch begins with the default priority, and nothing kept from an earlier time.
fn forget(channel: &Channel) {
    channel.set_priority(Priority::DEFAULT);
    channel.take_saved();
}
