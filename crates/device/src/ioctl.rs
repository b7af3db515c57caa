// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ioctls: every check, in the driver's order, over what an embedder provides.
//!
//! [`ioctl`] runs under the bind lock from beginning to end, so it excludes other ioctls and writes on the same open
//! file, but not reads and not the interrupt side.
//!
//! # Results
//!
//! | command | checks in order | success |
//! |---|---|---|
//! | BIND_VIRQ | restricted `EACCES`; `EFAULT`; the hypercall's error; set-up | the port |
//! | BIND_INTERDOMAIN | `EFAULT`; restricted to another domain `EACCES`; the hypercall's error; set-up | the port |
//! | BIND_UNBOUND_PORT | restricted `EACCES`; `EFAULT`; the hypercall's error; set-up | the port |
//! | UNBIND | `EFAULT`; not below the usable ports `EINVAL`; not bound here `ENOTCONN` | 0 |
//! | NOTIFY | `EFAULT`; not bound here `ENOTCONN` | 0, whatever the send's result |
//! | RESET | none | 0 |
//! | RESTRICT_DOMID | restricted `EACCES`; `EFAULT`; 0 or reserved `EINVAL` | 0 |
//! | BIND_STATIC | `EFAULT`; bound here `EISCONN`; another kind of user, or port 0, `EBUSY`; set-up | 0 |
//! | anything else | `ENOSYS` | |
//!
//! # Differences from the driver in C
//!
//! `docs/compat.md` lists them. A restriction does not hold BIND_STATIC back, here as there; an embedder that wants it
//! to asks [`Command::decode`] and [`Restriction::require_none`] first.

use evtchn_abi::ioctl::{self as abi, Ioctl};
use evtchn_abi::{DomId, Errno, Port, Virq};

use crate::{Command, Kind, Level, Restriction};

/// The user's memory could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

impl From<Fault> for Errno {
    fn from(_: Fault) -> Self {
        Self::EFAULT
    }
}

/// What the third argument of an ioctl points to.
pub trait UserArgument {
    /// Copies the argument's first bytes, as many as `to` is long.
    ///
    /// It is called at most once per ioctl, and not at all for commands that fail before or have no argument.
    ///
    /// # Errors
    ///
    /// [`Fault`]: not all of them could be read.
    fn copy_in(&mut self, to: &mut [u8]) -> Result<(), Fault>;
}

/// An argument that was read before, as far as it could be: a shorter slice than the command needs is a fault.
impl UserArgument for &[u8] {
    fn copy_in(&mut self, to: &mut [u8]) -> Result<(), Fault> {
        let bytes = self.get(..to.len()).ok_or(Fault)?;
        for (to, from) in to.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(())
    }
}

/// Why a port could not be set up, and what became of its channel in Xen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUpError {
    /// The channel is open still; [`ioctl`] closes it unless it is static.
    Open(Errno),
    /// The embedder's own clean-up has closed the channel already (Linux does when a handler cannot be installed).
    Closed(Errno),
}

/// The system below one open file: hypercalls, and the bindings of this file.
///
/// All of it is called under the bind lock.
pub trait Driver {
    /// `EVTCHNOP_bind_virq` on vCPU 0.
    ///
    /// # Errors
    ///
    /// The hypercall's: `EEXIST` if the domain has that virq bound on vCPU 0, `EINVAL` if there is no such virq.
    fn bind_virq(&mut self, virq: Virq) -> Result<Port, Errno>;

    /// `EVTCHNOP_bind_interdomain`. The new local port has an event pending, which comes as soon as it is set up.
    ///
    /// # Errors
    ///
    /// The hypercall's: `ESRCH` if there is no such domain, `EINVAL` if the port is not offered to us.
    fn bind_interdomain(&mut self, remote: DomId, remote_port: Port) -> Result<Port, Errno>;

    /// `EVTCHNOP_alloc_unbound` in the own domain. The remote domain need not exist.
    ///
    /// # Errors
    ///
    /// The hypercall's.
    fn alloc_unbound(&mut self, remote: DomId) -> Result<Port, Errno>;

    /// `EVTCHNOP_send`, whose result the driver does not look at.
    fn notify(&mut self, port: Port);

    /// `EVTCHNOP_close`, for a channel whose set-up failed. It is called at most once per channel.
    fn close(&mut self, port: Port);

    /// How many port numbers are usable now: 4096 with the two-level ABI on 64 bits, with FIFO 1024 for each page of
    /// the event array that was added so far.
    fn usable_ports(&self) -> u32;

    /// Whether `port` is bound to this file.
    fn is_bound(&self, port: Port) -> bool;

    /// Whether `port` has a user besides static bindings: the kernel itself, or a dynamic binding of any file.
    fn is_in_use(&self, port: Port) -> bool;

    /// Binds `port` to this file: enters an enabled [`Binding`](crate::Binding), grows the ring if
    /// [`grown_size`](crate::grown_size) asks for it, installs the handler and lets events through.
    ///
    /// A failure leaves no trace but, perhaps, the open channel. A static port is the user's number: nobody has
    /// checked it with Xen, and nobody needs to, as a port that is closed just never fires.
    ///
    /// # Errors
    ///
    /// `ENOMEM` in practice; whatever fits for a static port beyond the numbers that can exist.
    fn set_up(&mut self, port: Port, kind: Kind) -> Result<(), SetUpError>;

    /// Undoes [`Driver::set_up`] of a port that is bound: marks the binding with
    /// [`Binding::unbind`](crate::Binding::unbind), removes the handler and waits for one that runs, closes the channel
    /// unless it is static or somebody else holds it, and drops the binding.
    ///
    /// Entries of the port that are in the ring stay and are read later. A channel that is gone in Xen is no failure.
    fn tear_down(&mut self, port: Port);

    /// [`Ring::reset`](crate::Ring::reset) under the consumer and the producer lock.
    fn reset_ring(&mut self);
}

/// Does the ioctl `word` on one open file. Needs its bind lock.
///
/// Answers what the system call returns: the port of a bind, 0 otherwise.
///
/// # Errors
///
/// See the table of the [module](self).
///
/// # Examples
///
/// ```
/// use evtchn_abi::ioctl::Ioctl;
/// use evtchn_abi::{DomId, Errno, Port, Virq};
/// use evtchn_device::{Driver, Kind, Level, Restriction, SetUpError, ioctl};
///
/// /// A system with one virtual interrupt, and a file that has bound it or has not.
/// struct System(Option<Port>);
///
/// impl Driver for System {
///     fn bind_virq(&mut self, _: Virq) -> Result<Port, Errno> {
///         Ok(Port(9))
///     }
///     fn set_up(&mut self, port: Port, _: Kind) -> Result<(), SetUpError> {
///         self.0 = Some(port);
///         Ok(())
///     }
///     fn tear_down(&mut self, _: Port) {
///         self.0 = None;
///     }
///     fn is_bound(&self, port: Port) -> bool {
///         self.0 == Some(port)
///     }
///     fn usable_ports(&self) -> u32 {
///         4096
///     }
///     // There is nothing else in this system.
///     # fn bind_interdomain(&mut self, _: DomId, _: Port) -> Result<Port, Errno> { Err(Errno::ESRCH) }
///     # fn alloc_unbound(&mut self, _: DomId) -> Result<Port, Errno> { Err(Errno::ENOSPC) }
///     # fn notify(&mut self, _: Port) {}
///     # fn close(&mut self, _: Port) {}
///     # fn is_in_use(&self, _: Port) -> bool { true }
///     # fn reset_ring(&mut self) {}
/// }
///
/// let (mut system, mut restriction) = (System(None), Restriction::NONE);
/// let mut call = |word, argument: [u8; 4]| {
///     ioctl(Level::Linux7_2, word, argument.as_slice(), &mut restriction, &mut system)
/// };
/// assert_eq!(call(Ioctl::BIND_VIRQ, [3, 0, 0, 0]), Ok(9));
/// assert_eq!(call(Ioctl::UNBIND, [9, 0, 0, 0]), Ok(0));
/// assert_eq!(call(Ioctl::UNBIND, [9, 0, 0, 0]), Err(Errno::ENOTCONN));
/// assert_eq!(call(Ioctl(0x5401), [0; 4]), Err(Errno::ENOSYS)); // TCGETS
/// ```
pub fn ioctl(
    level: Level,
    word: Ioctl,
    argument: impl UserArgument,
    restriction: &mut Restriction,
    driver: &mut impl Driver,
) -> Result<u32, Errno> {
    let command = Command::decode(level, word).ok_or(Errno::ENOSYS)?;
    match command {
        Command::BindVirq => bind_virq(argument, *restriction, driver),
        Command::BindInterdomain => bind_interdomain(argument, *restriction, driver),
        Command::BindUnboundPort => bind_unbound_port(argument, *restriction, driver),
        Command::Unbind => unbind(argument, driver),
        Command::Notify => notify(argument, driver),
        Command::Reset => {
            driver.reset_ring();
            Ok(0)
        }
        Command::RestrictDomid => restrict(argument, restriction),
        Command::BindStatic => bind_static(argument, driver),
    }
}

fn bind_virq(
    argument: impl UserArgument,
    restriction: Restriction,
    driver: &mut impl Driver,
) -> Result<u32, Errno> {
    restriction.require_none()?;
    let bind = abi::BindVirq::from_bytes(copy_in(argument)?);
    let port = driver.bind_virq(bind.virq)?;
    set_up_dynamic(port, driver)
}

fn bind_interdomain(
    argument: impl UserArgument,
    restriction: Restriction,
    driver: &mut impl Driver,
) -> Result<u32, Errno> {
    let bind = abi::BindInterdomain::from_bytes(copy_in(argument)?);
    if !restriction.permits(bind.remote_domain) {
        return Err(Errno::EACCES);
    }
    let port = driver.bind_interdomain(bind.remote_domid(), bind.remote_port)?;
    set_up_dynamic(port, driver)
}

fn bind_unbound_port(
    argument: impl UserArgument,
    restriction: Restriction,
    driver: &mut impl Driver,
) -> Result<u32, Errno> {
    restriction.require_none()?;
    let bind = abi::BindUnboundPort::from_bytes(copy_in(argument)?);
    let port = driver.alloc_unbound(bind.remote_domid())?;
    set_up_dynamic(port, driver)
}

fn unbind(argument: impl UserArgument, driver: &mut impl Driver) -> Result<u32, Errno> {
    let port = abi::Unbind::from_bytes(copy_in(argument)?).port;
    if port.0 >= driver.usable_ports() {
        return Err(Errno::EINVAL);
    }
    require_bound(port, driver)?;
    driver.tear_down(port);
    Ok(0)
}

fn notify(argument: impl UserArgument, driver: &mut impl Driver) -> Result<u32, Errno> {
    let port = abi::Notify::from_bytes(copy_in(argument)?).port;
    require_bound(port, driver)?;
    driver.notify(port);
    Ok(0)
}

fn restrict(argument: impl UserArgument, restriction: &mut Restriction) -> Result<u32, Errno> {
    restriction.require_none()?;
    let domain = abi::RestrictDomid::from_bytes(copy_in(argument)?).domid;
    restriction.restrict_to(domain)?;
    Ok(0)
}

fn bind_static(argument: impl UserArgument, driver: &mut impl Driver) -> Result<u32, Errno> {
    let port = abi::BindStatic::from_bytes(copy_in(argument)?).port;
    if driver.is_bound(port) {
        return Err(Errno::EISCONN);
    }
    // Port 0 is nobody's, ever. Linux finds its own bookkeeping there and answers the same.
    if port == Port(0) || driver.is_in_use(port) {
        return Err(Errno::EBUSY);
    }
    match driver.set_up(port, Kind::Static) {
        Ok(()) => Ok(0),
        // Not ours to close.
        Err(SetUpError::Open(errno) | SetUpError::Closed(errno)) => Err(errno),
    }
}

/// The end of every bind that made a channel. If it fails, the channel is closed exactly once.
fn set_up_dynamic(port: Port, driver: &mut impl Driver) -> Result<u32, Errno> {
    match driver.set_up(port, Kind::Dynamic) {
        Ok(()) => Ok(port.0),
        Err(SetUpError::Open(errno)) => {
            driver.close(port);
            Err(errno)
        }
        Err(SetUpError::Closed(errno)) => Err(errno),
    }
}

fn require_bound(port: Port, driver: &impl Driver) -> Result<(), Errno> {
    if driver.is_bound(port) { Ok(()) } else { Err(Errno::ENOTCONN) }
}

fn copy_in<const N: usize>(mut argument: impl UserArgument) -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    argument.copy_in(&mut bytes)?;
    Ok(bytes)
}
