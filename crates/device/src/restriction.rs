// SPDX-License-Identifier: MIT OR Apache-2.0
//! The restriction of one open file to one remote domain, for a program that gives up its privileges.

use evtchn_abi::{DomId, Errno};

/// The remote domain that a file is restricted to, if it is. One way: it is never lifted or changed.
///
/// The bind lock protects it. A restricted file can still bind to ports that its domain offers, and keeps what it
/// had bound before.
///
/// ```
/// use evtchn_abi::{DomId, Errno};
/// use evtchn_device::Restriction;
///
/// let mut restriction = Restriction::NONE;
/// assert_eq!(restriction.restrict_to(DomId::SELF), Err(Errno::EINVAL));
/// assert_eq!(restriction.restrict_to(DomId(5)), Ok(()));
/// assert_eq!(restriction.restrict_to(DomId(5)), Err(Errno::EACCES));
/// assert!(restriction.permits(5));
/// assert!(!restriction.permits(0x10005));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restriction(DomId);

impl Restriction {
    /// Not restricted.
    pub const NONE: Self = Self(DomId(0xffff));

    /// Whether the file is restricted.
    #[must_use]
    pub fn is_restricted(self) -> bool {
        self != Self::NONE
    }

    /// The domain that the file is restricted to.
    #[must_use]
    pub fn domain(self) -> Option<DomId> {
        self.is_restricted().then_some(self.0)
    }

    /// Whether `remote_domain` may be bound to. It is the user's value with all its 32 bits: one that the hypercall
    /// would cut down to the permitted domain is not the permitted domain.
    #[must_use]
    pub fn permits(self, remote_domain: u32) -> bool {
        !self.is_restricted() || u32::from(self.0.0) == remote_domain
    }

    /// Only a file that is not restricted goes on.
    ///
    /// # Errors
    ///
    /// `EACCES`: it is restricted.
    pub fn require_none(self) -> Result<(), Errno> {
        if self.is_restricted() { Err(Errno::EACCES) } else { Ok(()) }
    }

    /// Restricts the file to `domain`, which need not exist.
    ///
    /// # Errors
    ///
    /// `EACCES`: it is restricted already. `EINVAL`: domain 0 or a reserved id.
    pub fn restrict_to(&mut self, domain: DomId) -> Result<(), Errno> {
        self.require_none()?;
        if domain == DomId(0) || domain >= DomId::FIRST_RESERVED {
            return Err(Errno::EINVAL);
        }
        self.0 = domain;
        Ok(())
    }
}

impl Default for Restriction {
    fn default() -> Self {
        Self::NONE
    }
}
