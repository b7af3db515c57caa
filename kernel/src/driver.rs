// SPDX-License-Identifier: GPL-2.0
//! What an ioctl asks of the system, answered by the platform and the file's own ports.

use evtchn_abi::{DomId, Errno, Port, Virq};
use evtchn_device::{Driver, Kind, SetUpError};
use kernel::prelude::*;

use crate::backend::{Backend, Platform};
use crate::bindings::Ports;
use crate::file::File;
use crate::statics::StaticsGuard;

/// One open file during an ioctl.
pub(crate) struct View<'a> {
    file: Pin<&'a File>,
    ports: &'a mut Ports,
    /// Held throughout BIND_STATIC.
    statics: Option<StaticsGuard>,
}

impl<'a> View<'a> {
    pub(crate) fn new(file: Pin<&'a File>, ports: &'a mut Ports) -> Self {
        Self { file, ports, statics: None }
    }

    /// This ioctl is a BIND_STATIC.
    pub(crate) fn hold_statics(&mut self, statics: StaticsGuard) {
        self.statics = Some(statics);
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
        let by_statics = self.statics.as_ref().is_some_and(|statics| statics.contains(port));
        !by_statics && Platform::is_in_use(port)
    }

    fn set_up(&mut self, port: Port, kind: Kind) -> Result<(), SetUpError> {
        let statics = match kind {
            Kind::Dynamic => None,
            Kind::Static => self.statics.as_deref_mut(),
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
