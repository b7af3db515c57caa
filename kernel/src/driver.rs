// SPDX-License-Identifier: GPL-2.0
//! What an ioctl asks of the system, answered by the platform and the file's own ports.

use core::cell::Cell;

use evtchn_abi::{DomId, Errno, Port, Virq};
use evtchn_device::{Driver, Kind, SetUpError};
use kernel::prelude::*;

use crate::backend::{Backend, Platform};
use crate::bindings::Ports;
use crate::file::File;
use crate::statics::{self, StaticsGuard};

/// One open file during an ioctl.
pub(crate) struct View<'a> {
    file: Pin<&'a File>,
    ports: &'a mut Ports,
    /// BIND_STATIC holds it from the check of who uses the port to the entry of the new user. Not longer: a program can make the
    /// copy of its argument take for ever, and others want to close their files.
    statics: Cell<Option<StaticsGuard>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(file: Pin<&'a File>, ports: &'a mut Ports) -> Self {
        Self { file, ports, statics: Cell::new(None) }
    }
}

impl Driver for View<'_> {
    fn bind_virq(&mut self, virq: Virq) -> Result<Port, Errno> {
        Platform::bind_virq(virq)
    }

    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        Platform::bind_interdomain(remote, remote_port)
    }

    fn alloc_unbound(&mut self, remote: DomId) -> Result<Port, Errno> {
        Platform::alloc_unbound(remote)
    }

    fn notify(&mut self, port: Port) {
        Platform::notify(port);
    }

    fn close(&mut self, port: Port) {
        Platform::close(port);
    }

    fn usable_ports(&self) -> u32 {
        Platform::usable_ports()
    }

    fn is_bound(&self, port: Port) -> bool {
        self.ports.contains(port)
    }

    fn is_in_use(&self, port: Port) -> bool {
        // The ring grows under a lock that a reader may hold for as long as it likes: before the table is locked. If there is
        // no memory, `set_up` says so.
        let _ = self.ports.make_room(self.file);
        let statics = statics::lock();
        let by_others = !statics.contains(port) && Platform::is_in_use(port);
        self.statics.set(Some(statics));
        by_others
    }

    fn set_up(&mut self, port: Port, kind: Kind) -> Result<(), SetUpError> {
        let statics = match kind {
            Kind::Dynamic => None,
            Kind::Static => self.statics.get_mut().as_deref_mut(),
        };
        self.ports.set_up(self.file, port, statics)
    }

    fn tear_down(&mut self, port: Port) {
        self.ports.tear_down(port);
    }

    fn reset_ring(&mut self) {
        self.file.ring().reset();
    }
}
