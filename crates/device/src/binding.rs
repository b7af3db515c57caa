// SPDX-License-Identifier: MIT OR Apache-2.0
//! One port bound to one open file: whether it is enabled, and who closes it.
//!
//! A port alternates: it starts enabled; when it fires it is queued and disabled (masked in Xen); when its
//! number is written it is enabled (unmasked). Events in between stay one pending bit in Xen and are delivered once.
//!
//! Two sides touch the flags: the interrupt side ([`Binding::fired`], in interrupt context) and the side that
//! holds the bind lock ([`Binding::enable`], [`Binding::unbind`]). Neither takes the other's lock.

use crate::atomic::{AtomicBool, Ordering};

/// Where a bound port comes from, which decides whether it is closed with its binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Made for this file by a hypercall. Unbinding and closing the file close it in Xen.
    Dynamic,
    /// It existed before and was named by BIND_STATIC. It stays open.
    Static,
}

/// What the handler has to do about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Fired {
    /// The port was enabled and now is not: push it.
    Queue,
    /// The port was disabled already, so it should have been masked. The driver logs that and pushes it all the
    /// same. A static port of two files can come here, if one of them unmasks it for both.
    QueueUnexpected,
    /// The port is being unbound: do nothing.
    Ignore,
}

/// The state of one bound port.
///
/// ```
/// use evtchn_device::{Binding, Fired, Kind};
///
/// let binding = Binding::new(Kind::Dynamic);
/// assert!(!binding.enable()); // it starts enabled: nothing to unmask
/// assert_eq!(binding.fired(), Fired::Queue);
/// assert!(binding.enable()); // unmask it now
/// ```
#[derive(Debug)]
pub struct Binding {
    /// Cleared by the interrupt side, set by the write side. Masking in Xen already keeps the two in turn; the
    /// AcqRel swaps of both sides pair with each other for embedders whose masking does not.
    enabled: AtomicBool,
    /// Set once, under the bind lock.
    unbinding: AtomicBool,
    kind: Kind,
}

impl Binding {
    /// A fresh binding, enabled.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { enabled: AtomicBool::new(true), unbinding: AtomicBool::new(false), kind }
    }

    /// Where the port comes from.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether an event would be delivered now.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// The port fired (and was masked): disables it and says whether to push it. Needs no lock.
    pub fn fired(&self) -> Fired {
        // Acquire, with the Release in `unbind`.
        if self.unbinding.load(Ordering::Acquire) {
            return Fired::Ignore;
        }
        if self.enabled.swap(false, Ordering::AcqRel) { Fired::Queue } else { Fired::QueueUnexpected }
    }

    /// The port was written. True means that it was disabled and the caller must unmask it now; false means
    /// that there is nothing to do. Needs the bind lock.
    #[must_use]
    pub fn enable(&self) -> bool {
        !self.enabled.swap(true, Ordering::AcqRel)
    }

    /// The port is about to be torn down: events that still come are ignored. Needs the bind lock.
    ///
    /// A handler that is running may still push; remove the handler, which waits for it, before the binding is freed.
    pub fn unbind(&self) {
        // Release, with the Acquire in `fired`.
        self.unbinding.store(true, Ordering::Release);
    }
}
