// SPDX-License-Identifier: MIT OR Apache-2.0
//! The operations of the FIFO ABI: `EVTCHNOP_init_control`, `expand_array` and `set_priority`.

use alloc::boxed::Box;
use core::ops::Range;

use evtchn_abi::fifo::{ControlBlock, Priority};
use evtchn_abi::{DomId, Gfn, Op, Port, VcpuId};
use evtchn_sync::{MutexGuard, PAGE_SIZE, Page, enter, relax, try_box, wait_for_readers};

use crate::deliver::Effect;
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
    /// EOPNOTSUPP if the domain may not use FIFO, or is a sink; ENOENT if there is no such vCPU; EINVAL for an offset
    /// that is not a multiple of 8, or beyond 4024; ENOMEM; EINVAL if the vCPU has a block already, and if
    /// [`Hooks::pin`] refuses the frame. A first call that fails leaves the domain two-level.
    pub fn init_control(
        &self,
        caller: DomId,
        vcpu: VcpuId,
        control_gfn: Gfn,
        offset: u32,
    ) -> Result<(), OpError> {
        self.init_control_by(&*self.domain(caller)?, vcpu, control_gfn, offset)
    }

    pub(crate) fn init_control_by(
        &self,
        caller: &Domain<H::Page>,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: u32,
    ) -> Result<(), OpError> {
        let result = self.give_block(caller, vcpu, gfn, offset).map(|first| {
            if first {
                self.collect(caller);
            }
        });
        self.observed(caller.id, Op::INIT_CONTROL, Port(0), result)
    }

    /// Gives the vCPU its block; whether that was the domain's first.
    fn give_block(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: u32,
    ) -> Result<bool, OpError> {
        if !domain.config.fifo || domain.is_sink() {
            return Err(OpError::NotSupported);
        }
        domain.vcpu(vcpu)?;
        let offset = block_offset(offset)?;
        let mut events = lock_when_settled(domain);
        if events.dying {
            return Err(OpError::Dying);
        }
        let has_control = domain.fifo.load(&enter()).map(|fifo| fifo.has_control(vcpu));
        if has_control == Some(true) {
            return Err(OpError::HasControlBlock);
        }
        // All that can fail comes before anything is changed. The event lock keeps others out meanwhile.
        let fresh = has_control.is_none().then(|| new_fifo(domain)).transpose()?;
        let page = self.hooks.pin(domain.id, gfn).ok_or(OpError::BadFrame)?;
        let first = fresh.is_some();
        match fresh {
            Some(fifo) => {
                self.unload_all(domain);
                events.collecting += 1;
                switch_to_fifo(domain, fifo, |fifo| fifo.set_control(vcpu, page, gfn, offset));
            }
            None => {
                let guard = enter();
                domain.fifo.load(&guard).inspect(|fifo| fifo.set_control(vcpu, page, gfn, offset));
            }
        }
        Ok(first)
    }

    /// Raises what the two-level ABI left pending.
    ///
    /// The new ABI is published; when the senders that used the old one are gone, no bit is set any more behind the
    /// one that is looked at here. A port that is closed meanwhile loses its bit, so that its next owner does not get it.
    fn collect(&self, domain: &Domain<H::Page>) {
        wait_for_readers();
        let limit = domain.channels.valid().min(domain.width().layout().nr_channels());
        for port in (1..limit).map(Port) {
            if !domain.is_bit_pending(port, &enter()) {
                continue;
            }
            let effect = {
                // Under the lock: a close between the look and the raise would leave the event to the port's next owner.
                let _events = domain.event.lock();
                let guard = enter();
                let pending = domain.is_bit_pending(port, &guard);
                let switched = domain.fifo.is_some();
                if pending && switched { domain.raise(port, &guard) } else { Effect::None }
            };
            self.fire(effect);
        }
        domain.event.lock().collecting -= 1;
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
        self.expand_array_by(&*self.domain(caller)?, array_gfn)
    }

    pub(crate) fn expand_array_by(&self, caller: &Domain<H::Page>, gfn: Gfn) -> Result<(), OpError> {
        let result = self.add_array_page(caller, gfn).map(|ports| self.replay(caller, ports));
        self.observed(caller.id, Op::EXPAND_ARRAY, Port(0), result)
    }

    fn add_array_page(&self, domain: &Domain<H::Page>, gfn: Gfn) -> Result<Range<u32>, OpError> {
        // The event lock keeps a reset out: who finds the FIFO ABI here finds it until the end.
        let _events = domain.event.lock();
        let has_room = domain.fifo.load(&enter()).map(Fifo::has_room);
        if !has_room.ok_or(OpError::NotSupported)? {
            return Err(OpError::NoSpace);
        }
        let page = self.hooks.pin(domain.id, gfn).ok_or(OpError::BadFrame)?;
        let guard = enter();
        Ok(domain.fifo.load(&guard).map(|fifo| fifo.add_page(page, gfn)).unwrap_or_default())
    }

    /// Raises what was kept for ports that have got a word, whatever their state.
    pub(crate) fn replay(&self, domain: &Domain<H::Page>, ports: Range<u32>) {
        for port in ports.map(Port) {
            let Some(channel) = domain.channels.get(port) else { return };
            if !channel.is_saved() {
                continue;
            }
            let effect = {
                // Under the lock, as in `collect`.
                let _events = domain.event.lock();
                if channel.take_saved() { domain.raise(port, &enter()) } else { Effect::None }
            };
            self.fire(effect);
        }
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
        self.set_priority_by(&*self.domain(caller)?, port, priority)
    }

    pub(crate) fn set_priority_by(
        &self,
        caller: &Domain<H::Page>,
        port: Port,
        priority: u32,
    ) -> Result<(), OpError> {
        self.observed(caller.id, Op::SET_PRIORITY, port, set_priority(caller, port, priority))
    }
}

fn set_priority<P>(domain: &Domain<P>, port: Port, priority: u32) -> Result<(), OpError> {
    let _events = domain.event.lock();
    let channel = domain.channel(port)?;
    if !domain.fifo.is_some() {
        return Err(OpError::NotImplemented);
    }
    if !channel.binding().usable() {
        return Err(OpError::NotInUse);
    }
    channel.set_priority(Priority::new(priority).ok_or(OpError::Invalid)?);
    Ok(())
}

/// Locks a domain that has no readers left from an earlier time with the FIFO ABI: what they change in the
/// records would not fit to new queues. Nor, if it is to switch, from before the ports in quarantine were closed: the bit that
/// such a reader sets in the two-level ABI would be collected.
fn lock_when_settled<P: Page>(domain: &Domain<P>) -> MutexGuard<'_, Events> {
    if !domain.fifo.is_some() && !domain.event.lock().quarantine.is_empty() {
        domain.settle();
    }
    loop {
        let events = domain.event.lock();
        if events.leaving == 0 {
            return events;
        }
        drop(events);
        wait_for_readers();
        relax();
    }
}

pub(crate) fn new_fifo<P>(domain: &Domain<P>) -> Result<Box<Fifo<P>>, OpError> {
    try_box(Fifo::new(domain.vcpus.len())?).ok_or(OpError::OutOfMemory)
}

/// Publishes the new ABI, with the default priority for all ports and nothing kept from an earlier time.
fn switch_to_fifo<P>(domain: &Domain<P>, fifo: Box<Fifo<P>>, set_control: impl FnOnce(&Fifo<P>)) {
    set_control(&fifo);
    let ports = (1..domain.channels.valid()).map(Port);
    for channel in ports.filter_map(|port| domain.channels.get(port)) {
        channel.set_priority(Priority::DEFAULT);
        channel.take_saved();
    }
    drop(domain.fifo.replace(Some(fifo))); // there was none
}

/// Where a control block may begin: wholly inside its page, aligned.
pub(crate) fn block_offset(offset: u32) -> Result<usize, OpError> {
    let offset = offset as usize;
    let fits = offset <= PAGE_SIZE - ControlBlock::SIZE && offset.is_multiple_of(ControlBlock::ALIGN);
    fits.then_some(offset).ok_or(OpError::Invalid)
}
