// SPDX-License-Identifier: GPL-2.0
//! The ports that are bound to one file, and what happens when one fires.

use core::ptr::NonNull;

use evtchn_abi::{Errno, Port};
use evtchn_device::{Binding, Fired, Kind, Restriction, SetUpError};
use kernel::prelude::*;
use kernel::rbtree::{RBTree, RBTreeNodeReservation};

use crate::backend::{Backend, Line, Platform};
use crate::file::File;
use crate::statics::{self, Statics};

/// What the bind lock protects.
pub(crate) struct Bindings {
    pub(crate) restriction: Restriction,
    pub(crate) ports: Ports,
}

impl Bindings {
    pub(crate) fn new() -> Self {
        Self { restriction: Restriction::NONE, ports: Ports { bound: RBTree::new(), count: 0 } }
    }

    /// `port` was written: lets it fire again, if it is bound here and disabled.
    pub(crate) fn enable(&self, port: Port) {
        if let Some(bound) = self.ports.bound.get(&port.0) {
            if bound.end.binding.enable() {
                Platform::end_of_interrupt(bound.line);
            }
        }
    }
}

/// The ports of a file.
pub(crate) struct Ports {
    bound: RBTree<u32, Bound>,
    /// How many there are.
    count: usize,
}

/// A bound port as its file sees it.
struct Bound {
    line: Line,
    /// What the handler sees. It has an address of its own, which the handler is called with.
    end: KBox<End>,
}

// SAFETY: The file behind the pointer outlives its ports, and may be used from any thread.
unsafe impl Send for Bound {}

/// A bound port as its interrupt sees it.
pub(crate) struct End {
    /// It is pinned, and tears its ports down before it goes.
    file: NonNull<File>,
    port: Port,
    binding: Binding,
}

impl End {
    /// The interrupt handler: disables the port and queues it.
    pub(crate) fn fired(&self) {
        match self.binding.fired() {
            // QueueUnexpected is a static port that another file let fire before this file did: no reason to worry anybody.
            Fired::Queue | Fired::QueueUnexpected => {
                // SAFETY: The file waits for its handlers before it goes.
                unsafe { self.file.as_ref() }.push(self.port);
            }
            Fired::Ignore => {}
        }
    }
}

impl Ports {
    /// Whether `port` is bound to this file.
    pub(crate) fn contains(&self, port: Port) -> bool {
        self.bound.get(&port.0).is_some()
    }

    /// Sees to it that the ring has a slot for one port more. The error is ENOMEM.
    pub(crate) fn make_room(&self, file: Pin<&File>) -> Result<(), Errno> {
        file.get_ref().ring().make_room(self.count.wrapping_add(1))
    }

    /// Binds `port` to `file`, whose ports these are. `statics` is the table of static ports if that is what it is.
    pub(crate) fn set_up(
        &mut self,
        file: Pin<&File>,
        port: Port,
        statics: Option<&mut Statics>,
    ) -> Result<(), SetUpError> {
        // Xen has just given this number to us: if it is in the map, that channel died behind our back (a migration).
        self.tear_down(port);
        const NO_MEMORY: SetUpError = SetUpError::Open(Errno::ENOMEM);
        let kind = if statics.is_some() { Kind::Static } else { Kind::Dynamic };
        let end = End { file: NonNull::from(file.get_ref()), port, binding: Binding::new(kind) };
        let end = KBox::new(end, GFP_KERNEL).map_err(|_| NO_MEMORY)?;
        let node = RBTreeNodeReservation::new(GFP_KERNEL).map_err(|_| NO_MEMORY)?;
        self.make_room(file).map_err(SetUpError::Open)?;
        let handler = NonNull::from(&*end);
        let line = match statics {
            // SAFETY: `end` and the name stay until `tear_down` has called `detach`.
            None => unsafe { Platform::attach(port, file.name(), handler) }?,
            Some(statics) => {
                // SAFETY: As above.
                let attached = unsafe { statics.attach(port, file.name(), handler) };
                attached.map_err(SetUpError::Open)?
            }
        };
        self.bound.insert(node.into_node(port.0, Bound { line, end }));
        self.count = self.count.wrapping_add(1);
        Ok(())
    }

    /// Gives `port` up, if it is bound here. Its handler does not run any more when this returns.
    pub(crate) fn tear_down(&mut self, port: Port) {
        let Some(Bound { line, end }) = self.bound.remove(&port.0) else { return };
        self.count = self.count.wrapping_sub(1);
        end.binding.unbind();
        let handler = NonNull::from(&*end);
        match end.binding.kind() {
            // SAFETY: `attach` gave us the line for this handler, and nobody has detached it yet.
            Kind::Dynamic => unsafe { Platform::detach(line, handler) },
            // SAFETY: As above.
            Kind::Static => unsafe { statics::lock().detach(port, line, handler) },
        }
    }

    /// Gives every port up.
    pub(crate) fn tear_down_all(&mut self) {
        while let Some(port) = self.first() {
            self.tear_down(port);
        }
    }

    fn first(&self) -> Option<Port> {
        self.bound.keys().next().map(|port| Port(*port))
    }
}
