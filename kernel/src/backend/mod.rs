// SPDX-License-Identifier: GPL-2.0
//! Where channels and their interrupts come from.

#[cfg(evtchn_sim)]
mod sim;
#[cfg(not(evtchn_sim))]
mod xen;

use core::ptr::NonNull;

use evtchn_abi::{DomId, Errno, Port, Virq};
use evtchn_device::SetUpError;
use kernel::error::Result as KernelResult;

use crate::bindings::End;
use crate::name::InterruptName;

/// What this module was built for.
#[cfg(evtchn_sim)]
pub(crate) type Platform = sim::Sim;
#[cfg(not(evtchn_sim))]
pub(crate) type Platform = xen::Xen;

/// An interrupt: what a bound port is known by to the platform.
#[derive(Clone, Copy)]
pub(crate) struct Line(pub(crate) u32);

/// A platform. There is one a machine, so its calls have no `self`.
///
/// The calls that bind, close and signal are the hypercalls of these names, with their errors.
pub(crate) trait Backend {
    /// Begins to use the platform. ENODEV: this machine does not have it.
    fn start() -> KernelResult;

    /// Ends it. No port is bound any more.
    fn stop();

    /// A port for a virtual interrupt of vCPU 0.
    fn bind_virq(virq: Virq) -> Result<Port, Errno>;

    /// A port connected to a remote one.
    fn bind_interdomain(remote: DomId, remote_port: Port) -> Result<Port, Errno>;

    /// A port that `remote` may connect to.
    fn alloc_unbound(remote: DomId) -> Result<Port, Errno>;

    /// Signals the other end of `port`.
    fn notify(port: Port);

    /// Closes `port`, which has no interrupt.
    fn close(port: Port);

    /// Port numbers from here on cannot be used now.
    fn usable_ports() -> u32;

    /// Whether `port` has an interrupt, anybody's.
    fn is_in_use(port: Port) -> bool;

    /// Gives a channel that was just made an interrupt, whose `handler` is called from now on, perhaps before this returns.
    ///
    /// # Safety
    ///
    /// `handler` and `name` stay where they are until [`Backend::detach`] has returned.
    unsafe fn attach(port: Port, name: &InterruptName, handler: NonNull<End>) -> Result<Line, SetUpError>;

    /// The same for a channel that existed before and stays open. It has no interrupt yet. EINVAL: no such channel.
    ///
    /// # Safety
    ///
    /// As [`Backend::attach`].
    unsafe fn attach_static(port: Port, name: &InterruptName, handler: NonNull<End>) -> Result<Line, Errno>;

    /// One more handler for the interrupt that [`Backend::attach_static`] made.
    ///
    /// # Safety
    ///
    /// As [`Backend::attach`].
    unsafe fn attach_to_static(
        port: Port,
        line: Line,
        name: &InterruptName,
        handler: NonNull<End>,
    ) -> Result<(), Errno>;

    /// Takes a handler away, and waits for it if it is running. With the last one the interrupt goes, and the channel is closed
    /// unless it is static or somebody else holds it.
    ///
    /// # Safety
    ///
    /// The handler was attached to this line, and not detached since.
    unsafe fn detach(line: Line, handler: NonNull<End>);

    /// Lets the interrupt come again after its handler was called.
    fn end_of_interrupt(line: Line);
}
