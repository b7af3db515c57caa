// SPDX-License-Identifier: GPL-2.0
//! The ring of one file with the two locks that its users take: readers the consumer lock, interrupts the producer lock,
//! and whoever replaces the slots or empties the ring both.

use core::cell::UnsafeCell;

use evtchn_abi::{Errno, Port};
use evtchn_device::atomic::AtomicU32;
use evtchn_device::{Pushed, ReadStep, Ring, copy_slots, grown_size};
use kernel::prelude::*;
use kernel::sync::{Mutex, new_mutex};

use crate::irq_lock::{IrqLock, new_irq_lock};

type Slots = KVVec<AtomicU32>;

/// A ring and its locks.
#[pin_data]
pub(crate) struct SharedRing {
    ring: Ring,
    /// Replaced under both locks; so whoever has one of them may look.
    slots: UnsafeCell<Slots>,
    #[pin]
    consumer: Mutex<()>,
    #[pin]
    producer: IrqLock<()>,
}

// SAFETY: The slots are replaced under both locks and looked at under one of them; what is in them is atomic.
unsafe impl Sync for SharedRing {}

impl SharedRing {
    /// A ring without slots.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            ring: Ring::new(),
            slots: UnsafeCell::new(Slots::new()),
            consumer <- new_mutex!((), "evtchn_consumer"),
            producer <- new_irq_lock!((), "evtchn_producer"),
        })
    }

    /// Queues a port that fired.
    pub(crate) fn push(&self, port: Port) -> Pushed {
        let _producer = self.producer.lock();
        // SAFETY: The producer lock is held.
        let slots = unsafe { &*self.slots.get() };
        self.ring.push(slots, port)
    }

    /// Hands `with` what a read of `length` bytes does now. The consumer lock is held meanwhile.
    pub(crate) fn read<T>(&self, length: usize, with: impl FnOnce(ReadStep<'_>) -> T) -> T {
        let _consumer = self.consumer.lock();
        // SAFETY: The consumer lock is held.
        let slots = unsafe { &*self.slots.get() };
        with(self.ring.read(slots, length))
    }

    /// Forgets what is queued, and the overflow.
    pub(crate) fn reset(&self) {
        let _consumer = self.consumer.lock();
        let _producer = self.producer.lock();
        self.ring.reset();
    }

    /// Sees to it that there is a slot for each of `count` bound ports. Needs the bind lock. The error is ENOMEM.
    pub(crate) fn make_room(&self, count: usize) -> Result<(), Errno> {
        // SAFETY: Only this function replaces the slots, and the bind lock keeps others out of it.
        let size = unsafe { &*self.slots.get() }.len();
        let Some(size) = grown_size(count, size) else { return Ok(()) };
        let mut slots = zeroed(size)?;
        {
            let _consumer = self.consumer.lock();
            let _producer = self.producer.lock();
            // SAFETY: Both locks are held.
            let current = unsafe { &mut *self.slots.get() };
            copy_slots(current, &slots);
            core::mem::swap(current, &mut slots);
        }
        // The old slots are freed here, with interrupts on.
        Ok(())
    }

    /// Whether nothing is queued. Exact for a caller that has registered as a waiter first.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// What poll answers.
    pub(crate) fn poll_mask(&self) -> u32 {
        self.ring.poll_mask()
    }
}

fn zeroed(size: usize) -> Result<Slots, Errno> {
    let mut slots = Slots::with_capacity(size, GFP_KERNEL).map_err(|_| Errno::ENOMEM)?;
    for _ in 0..size {
        slots.push_within_capacity(AtomicU32::new(0)).map_err(|_| Errno::ENOMEM)?;
    }
    Ok(slots)
}
