// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring: the ports that fired and were not read yet, in the order in which they fired.
//!
//! [`Ring`] is the indices and the overflow flag. The slots are the caller's and are given to each call, so
//! that they can be a vector, an array or a kernel allocation, and can be replaced by larger ones. The calls
//! are split by the lock that their caller holds:
//!
//! | call | lock | called from |
//! |---|---|---|
//! | [`Ring::push`] | producer | interrupt context: it does not wait or allocate |
//! | [`Ring::read`], [`Ring::peek`], then [`Ready::consume`] | consumer | a reader; the copy to the user lies between the two |
//! | [`Ring::reset`], [`copy_slots`] and replacing the slots | consumer, then producer | RESET, and a bind that needs room |
//! | [`Ring::is_empty`], [`Ring::has_overflowed`], [`Ring::poll_mask`] | none | poll, and the wait of a reader |
//!
//! # Definitions
//!
//! Both indices are `u32` and run freely: `used = producer - consumer`, wrapping; the slot of an index is the
//! index modulo the number of slots, which is 0 or a power of two.
//!
//! # Invariants
//!
//! * `0 <= used <= slots.len()`.
//! * Only the holder of the producer lock moves the producer index, only the holder of the consumer lock the
//!   consumer index.
//! * A slot in `consumer..producer` is not written.
//!
//! # Waiting without losing a wake-up
//!
//! The producer wakes only when it finds the ring empty, and a reader sleeps only when it does. Each side
//! first moves its own index, then has a full fence, then loads the other's. So of a push and an emptiness check that
//! race, at least one sees the other. A reader must **register as a waiter first and then look**.
//!
//! The consumer index must be loaded *again* for that: one from before the move would miss a reader that emptied the
//! ring in between (`docs/compat.md`: the driver in C has that window).

use evtchn_abi::Port;

use crate::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use crate::{poll, transfer};

/// The size of a ring that grew for the first time, in ports.
pub const FIRST_SIZE: usize = 64;

/// What became of a port that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It is queued and the ring was empty: wake the readers and pollers and send SIGIO.
    FirstEntry,
    /// It is queued behind others, which readers were told of: wake nobody.
    Queued,
    /// There was no room: the port is lost and the flag is set, until RESET. Nobody is woken.
    Overflow,
}

/// The indices and the overflow flag of one open file's ring.
///
/// ```
/// use evtchn_abi::Port;
/// use evtchn_device::atomic::AtomicU32;
/// use evtchn_device::{Pushed, Ring};
///
/// let ring = Ring::new();
/// let slots: [AtomicU32; 64] = [const { AtomicU32::new(0) }; 64];
/// assert_eq!(ring.push(&slots, Port(7)), Pushed::FirstEntry);
/// assert_eq!(ring.push(&slots, Port(5)), Pushed::Queued);
///
/// let ready = ring.peek(&slots, 1024);
/// assert!(ready.ports().eq([Port(7), Port(5)]));
/// ready.consume();
/// assert!(ring.is_empty());
/// ```
#[derive(Debug)]
pub struct Ring {
    /// Where the next port goes. Moved under the producer lock.
    producer: AtomicU32,
    /// Where the oldest unread port is. Moved under the consumer lock.
    consumer: AtomicU32,
    /// A port was lost. Set under the producer lock, cleared under both. It publishes nothing: Relaxed.
    overflow: AtomicBool,
}

impl Ring {
    /// An empty ring.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(0)
    }

    /// An empty ring whose indices start at `index`. Every start behaves alike; one just below [`u32::MAX`] lets a
    /// test see the indices wrap.
    #[must_use]
    pub fn starting_at(index: u32) -> Self {
        Self {
            producer: AtomicU32::new(index),
            consumer: AtomicU32::new(index),
            overflow: AtomicBool::new(false),
        }
    }

    /// Queues `port`, which fired. Needs the producer lock.
    ///
    /// Ports still go into a ring that overflowed earlier if there is room; they stay unreadable until RESET.
    pub fn push(&self, slots: &[AtomicU32], port: Port) -> Pushed {
        let producer = self.producer.load(Ordering::Relaxed);
        // Acquire, with the Release in `Ready::consume`: the slot was read before it is written again.
        let consumer = self.consumer.load(Ordering::Acquire);
        let used = producer.wrapping_sub(consumer) as usize;
        let slot = slots.get(offset(slots, producer));
        let Some(slot) = slot.filter(|_| used < slots.len()) else {
            self.overflow.store(true, Ordering::Relaxed);
            return Pushed::Overflow;
        };
        slot.store(port.0, Ordering::Relaxed);
        // Release, with the Acquire in `used_by`: whoever sees the index sees the port.
        self.producer.store(producer.wrapping_add(1), Ordering::Release);
        // Partner: the fence in `used_by`. The consumer index has to be read again behind it: with the value from
        // above, a reader that emptied the ring meanwhile could be asleep and not be woken.
        fence(Ordering::SeqCst);
        if self.consumer.load(Ordering::Relaxed) == producer { Pushed::FirstEntry } else { Pushed::Queued }
    }

    /// What a `read` of `length` bytes does now. Needs the consumer lock, until the answer was dealt with.
    ///
    /// The order is the driver's: a length of less than one port, overflow, nothing there, ports.
    pub fn read<'a>(&'a self, slots: &'a [AtomicU32], length: usize) -> ReadStep<'a> {
        let wanted = transfer::whole_ports(length);
        if wanted == 0 {
            return ReadStep::Nothing;
        }
        if self.has_overflowed() {
            return ReadStep::Overflowed;
        }
        let ready = self.peek(slots, wanted);
        if ready.is_empty() { ReadStep::Empty } else { ReadStep::Ready(ready) }
    }

    /// The oldest unread ports, at most `limit` of them, without taking them. Needs the consumer lock as long
    /// as the answer is used.
    pub fn peek<'a>(&'a self, slots: &'a [AtomicU32], limit: usize) -> Ready<'a> {
        let consumer = self.consumer.load(Ordering::Relaxed);
        let count = (self.used_by(consumer) as usize).min(slots.len()).min(limit);
        let (wrapped, tail) = slots.split_at_checked(offset(slots, consumer)).unwrap_or_default();
        let oldest = tail.get(..count.min(tail.len())).unwrap_or_default();
        let rest = wrapped.get(..count.saturating_sub(oldest.len())).unwrap_or_default();
        Ready { ring: self, consumer, oldest, rest }
    }

    /// RESET: forgets every unread port and the overflow. Needs the consumer and the producer lock.
    ///
    /// It enables no port: one whose entry is forgotten here stays disabled until it is written.
    pub fn reset(&self) {
        // The driver in C sets both indices to 0. Moving only one gives the same empty ring, and a poll without
        // locks sees nothing in between.
        self.consumer.store(self.producer.load(Ordering::Relaxed), Ordering::Release);
        self.overflow.store(false, Ordering::Relaxed);
    }

    /// Whether no unread port is queued. Needs no lock.
    ///
    /// Before a sleep it is exact if the caller registered as a waiter first (see the [module](self)).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Acquire, with the Releases that move it: the producer index loaded next is then no older than the one
        // that the consumer index was moved by, or an empty ring could look filled to a caller without locks.
        self.used_by(self.consumer.load(Ordering::Acquire)) == 0
    }

    /// Whether a port was lost since the last RESET. Needs no lock.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.overflow.load(Ordering::Relaxed)
    }

    /// What poll answers now. Needs no lock; the caller registers as a waiter first.
    #[must_use]
    pub fn poll_mask(&self) -> u32 {
        poll::mask(self.is_empty(), self.has_overflowed())
    }

    /// How many ports are queued behind a consumer index that the caller loaded before.
    fn used_by(&self, consumer: u32) -> u32 {
        // Partner: the fence in `push`. Between the load of the consumer index and that of the producer index.
        fence(Ordering::SeqCst);
        // Acquire, with the Release in `push`.
        self.producer.load(Ordering::Acquire).wrapping_sub(consumer)
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

/// What a `read` does at this moment ([`Ring::read`]).
#[derive(Debug)]
#[must_use]
pub enum ReadStep<'a> {
    /// The length has no room for a port: return 0 at once, whatever the state.
    Nothing,
    /// A port was lost: `EFBIG` until RESET. Ports that are queued cannot be reached.
    Overflowed,
    /// Nothing to read: `EAGAIN` with `O_NONBLOCK`, otherwise let the lock go, sleep until the ring is not empty, and
    /// start again. The caller's buffer was not looked at.
    Empty,
    /// There are ports: copy them out, then [`Ready::consume`] them. If the copy fails, return `EFAULT` and do
    /// not consume: the next read gets the same ports.
    Ready(Ready<'a>),
}

/// Ports that can be read, oldest first, and are not taken until [`Ready::consume`].
///
/// It is valid while the consumer lock is held.
#[derive(Debug)]
#[must_use]
pub struct Ready<'a> {
    ring: &'a Ring,
    consumer: u32,
    /// Up to the end of the slots.
    oldest: &'a [AtomicU32],
    /// From the start of the slots, if the ports wrap.
    rest: &'a [AtomicU32],
}

/// How many ports [`Ready::copy_out`] hands over at once.
const COPY_PORTS: usize = 64;

impl Ready<'_> {
    /// How many ports there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.oldest.len().wrapping_add(self.rest.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.oldest.is_empty()
    }

    /// What the `read` that copied all of them returns, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.len().wrapping_mul(transfer::PORT_BYTES)
    }

    /// The ports, oldest first.
    pub fn ports(&self) -> impl Iterator<Item = Port> {
        // Relaxed: `peek` loaded the producer index with Acquire.
        self.oldest.iter().chain(self.rest).map(|slot| Port(slot.load(Ordering::Relaxed)))
    }

    /// Hands the ports to `copy` as the bytes that the reader gets, in pieces of at most 256 bytes, in order.
    ///
    /// # Errors
    ///
    /// The first error of `copy`; then nothing must be consumed.
    pub fn copy_out<E>(&self, mut copy: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let pieces = self.oldest.chunks(COPY_PORTS).chain(self.rest.chunks(COPY_PORTS));
        let mut bytes = [[0; transfer::PORT_BYTES]; COPY_PORTS];
        for piece in pieces {
            for (to, slot) in bytes.iter_mut().zip(piece) {
                *to = slot.load(Ordering::Relaxed).to_ne_bytes();
            }
            copy(bytes.get(..piece.len()).unwrap_or_default().as_flattened())?;
        }
        Ok(())
    }

    /// Takes the ports out of the ring. Answers how many bytes they are.
    ///
    /// It does not enable them again: that is what `write` is for.
    pub fn consume(self) -> usize {
        // Release, with the Acquire in `push`: the slots were read before they can be written again.
        self.ring.consumer.store(self.consumer.wrapping_add(self.len() as u32), Ordering::Release);
        self.byte_len()
    }
}

/// The size that a ring of `size` slots must get before `bound_ports` ports (with the new one) may fire;
/// `None` if it is large enough.
///
/// A ring starts with [`FIRST_SIZE`] slots, doubles, and never shrinks. While it has a slot for every bound port, only
/// a user that writes ports without reading them, or unbinds ports that it has not read, can make it overflow.
#[must_use]
pub const fn grown_size(bound_ports: usize, size: usize) -> Option<usize> {
    if bound_ports <= size {
        None
    } else if size == 0 {
        Some(FIRST_SIZE)
    } else {
        size.checked_mul(2)
    }
}

/// Fills the slots `new` of a grown ring from its slots `old`. Needs the consumer and the producer lock, until
/// the new slots are in place; they were allocated before.
///
/// The old slots are repeated until `new` is full (twice, as rings double). So every unread port is at the slot of
/// its index again, whatever the indices are.
pub fn copy_slots(old: &[AtomicU32], new: &[AtomicU32]) {
    for (to, from) in new.iter().zip(old.iter().cycle()) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// The slot of an index. With no slots it is out of range.
fn offset(slots: &[AtomicU32], index: u32) -> usize {
    index as usize & slots.len().saturating_sub(1)
}
