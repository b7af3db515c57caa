// SPDX-License-Identifier: GPL-2.0
//! A platform for tests on a machine without Xen: channels of its own, and handlers that run in interrupt context.
//!
//! It is one domain, with the id 0, which can connect to itself. Interrupts are the kernel's `irq_work`, which calls back
//! in hard interrupt context on the CPU that asks for it. (The kernel's simulated interrupts, `irq_sim`, lose an event that is
//! raised while the handler runs on another CPU, which an event channel does not.)
//!
//! Besides what a program makes there are the ports 1, the kernel's own; 2 and 3, static ones, connected to each other; and
//! virtual interrupts for tests: [`KERNELS_VIRQ`], [`FAILS_OPEN`], [`FAILS_CLOSED`].

mod channels;
mod work;

use core::ptr::NonNull;

use evtchn_abi::{DomId, Errno, Port, Virq};
use evtchn_device::SetUpError;
use kernel::error::Result as KernelResult;

use super::{Backend, Line};
use crate::bindings::End;
use crate::name::InterruptName;

use channels::{Channels, Owner, State};

/// The virtual interrupt that the kernel itself has bound.
const KERNELS_VIRQ: Virq = Virq(0);
/// The virtual interrupt whose interrupt cannot be made; its channel is open afterwards.
const FAILS_OPEN: Virq = Virq(22);
/// The virtual interrupt whose interrupt cannot be made, either; its channel is closed afterwards.
const FAILS_CLOSED: Virq = Virq(23);

/// The simulation.
pub(crate) struct Sim;

impl Backend for Sim {
    fn start() -> KernelResult {
        work::init();
        let channels = Channels::filled(KERNELS_VIRQ)?;
        *work::lock() = channels;
        Ok(())
    }

    fn stop() {
        work::wait();
        // Memory is freed with interrupts on.
        drop(core::mem::replace(&mut *work::lock(), Channels::new()));
    }

    fn bind_virq(virq: Virq) -> Result<Port, Errno> {
        work::lock().bind_virq(virq)
    }

    fn bind_interdomain(remote: DomId, remote_port: Port) -> Result<Port, Errno> {
        let port = work::lock().bind_interdomain(remote, remote_port)?;
        work::kick();
        Ok(port)
    }

    fn alloc_unbound(remote: DomId) -> Result<Port, Errno> {
        work::lock().alloc_unbound(remote)
    }

    fn notify(port: Port) {
        work::lock().send(port);
        work::kick();
    }

    fn close(port: Port) {
        work::lock().close(port);
    }

    fn usable_ports() -> u32 {
        work::lock().usable()
    }

    fn is_in_use(port: Port) -> bool {
        work::lock().owner(port).is_some()
    }

    unsafe fn attach(port: Port, _: &InterruptName, handler: NonNull<End>) -> Result<Line, SetUpError> {
        let mut channels = work::lock();
        match channels.state(port) {
            Some(State::Virq(FAILS_OPEN)) => return Err(SetUpError::Open(Errno::ENOMEM)),
            Some(State::Virq(FAILS_CLOSED)) => {
                channels.close(port);
                return Err(SetUpError::Closed(Errno::ENOMEM));
            }
            _ => {}
        }
        channels.attach(port, Owner::Dynamic, handler).map_err(SetUpError::Open)?;
        drop(channels);
        work::kick();
        Ok(Line(port.0))
    }

    unsafe fn attach_static(port: Port, _: &InterruptName, handler: NonNull<End>) -> Result<Line, Errno> {
        if !work::lock().is_open(port) {
            return Err(Errno::EINVAL);
        }
        work::lock().attach(port, Owner::Static, handler)?;
        work::kick();
        Ok(Line(port.0))
    }

    unsafe fn attach_to_static(
        port: Port,
        _: Line,
        _: &InterruptName,
        handler: NonNull<End>,
    ) -> Result<(), Errno> {
        work::lock().attach(port, Owner::Static, handler)
    }

    unsafe fn detach(line: Line, handler: NonNull<End>) {
        let port = Port(line.0);
        // Until it is not running any more: then it is not called again.
        while !work::lock().detach(port, handler) {
            core::hint::spin_loop();
        }
    }

    fn end_of_interrupt(line: Line) {
        work::lock().unmask(Port(line.0));
        work::kick();
    }
}
