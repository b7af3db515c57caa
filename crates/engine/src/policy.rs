// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who may do what: the decisions that a security module may take.

use evtchn_abi::{DomId, Errno, Pirq};

use crate::domain::Domain;
use crate::error::OpError;

/// What a [`Policy`] is told of a domain. These facts do not change while the domain lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Party {
    /// Its id. Whatever else a policy knows of a domain, such as a label, it keeps under this.
    pub id: DomId,
    /// Is it a control domain?
    pub privileged: bool,
    /// Is it the hardware domain?
    pub hardware: bool,
    /// The domain that it serves as device model.
    pub target: Option<DomId>,
}

impl Party {
    /// Xen's rule for operations that name a domain: it is the caller itself, or the caller's device-model target,
    /// or the caller is a control domain.
    #[must_use]
    pub fn may_act_on(&self, domain: DomId) -> bool {
        self.id == domain || self.privileged || self.target == Some(domain)
    }

    /// The same as a verdict.
    ///
    /// # Errors
    /// EPERM unless the rule holds.
    pub fn targets(&self, domain: DomId) -> Result<(), Denied> {
        if self.may_act_on(domain) { Ok(()) } else { Err(Denied::default()) }
    }
}

/// A policy's refusal, with the number that the caller gets: EPERM unless the policy gives another.
///
/// ```
/// use evtchn_abi::Errno;
/// use evtchn_engine::Denied;
///
/// assert_eq!(Denied::default().errno(), Errno::EPERM);
/// assert_eq!(Denied::with(Errno::EACCES).errno(), Errno::EACCES);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Denied(Errno);

impl Denied {
    /// A refusal with this number; with EPERM for 0, which would be a success.
    #[must_use]
    pub const fn with(errno: Errno) -> Self {
        Self(if errno.0 == 0 { Errno::EPERM } else { errno })
    }

    /// The number.
    #[must_use]
    pub const fn errno(self) -> Errno {
        self.0
    }
}

impl Default for Denied {
    fn default() -> Self {
        Self(Errno::EPERM)
    }
}

impl From<Denied> for OpError {
    fn from(denied: Denied) -> Self {
        if denied == Denied::default() { Self::NotPermitted } else { Self::Denied(denied) }
    }
}

/// The decisions that a security module may take, as Xen's module FLASK does with the permissions of its class
/// `event`. Each method has Xen's default rule as its body, so a policy overrides what it is stricter about.
///
/// A method is asked after all other checks of its operation but for those that the method's text names, at the place
/// where Xen asks; what was allocated before is given back on a refusal. Methods are called by readers and under locks:
/// they must not call the engine, and should be quick. They may be called by several threads at once.
///
/// ```
/// use evtchn_abi::{DomId, Errno, VcpuId};
/// use evtchn_engine::{Denied, DomainConfig, Engine, Hooks, Party, Policy, Upcall};
/// # use std::sync::Arc;
/// # use evtchn_sync::HeapPage;
///
/// /// Ordinary guests may signal domain 0 and nobody else.
/// struct Isolated;
/// impl Policy for Isolated {
///     fn bind(&self, caller: &Party, remote: &Party) -> Result<(), Denied> {
///         let allowed = caller.privileged || remote.privileged || caller.id == remote.id;
///         if allowed { Ok(()) } else { Err(Denied::with(Errno::EACCES)) }
///     }
/// }
///
/// struct Vmm;
/// impl Hooks for Vmm {
///     type Page = Arc<HeapPage>;
///     fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
///     fn wake_poller(&self, _: DomId, _: VcpuId) {}
///     fn policy(&self) -> &dyn Policy {
///         &Isolated
///     }
/// }
///
/// let engine = Engine::new(Vmm);
/// engine.create_domain(DomId(1), DomainConfig::guest(1))?;
/// engine.create_domain(DomId(2), DomainConfig::guest(1))?;
/// let port = engine.alloc_unbound(DomId(2), DomId::SELF, DomId(1))?;
/// let refused = engine.bind_interdomain(DomId(1), DomId(2), port).unwrap_err();
/// assert_eq!(refused.errno(), Errno::EACCES);
/// # Ok::<(), evtchn_engine::OpError>(())
/// ```
///
/// # Errors
/// Of all methods: the refusal, with the number that the caller gets.
pub trait Policy: Send + Sync {
    /// May `caller` open a port in `dom` for `remote` (`alloc_unbound`)? Asked when the port is allocated, so ENOSPC and
    /// the like come first. `remote` need not exist.
    #[allow(clippy::missing_errors_doc)] // said for all at the trait
    fn create(&self, caller: &Party, dom: &Party, remote: DomId) -> Result<(), Denied> {
        let _ = remote;
        caller.targets(dom.id)
    }

    /// May the embedder open a port that it consumes itself in `dom`, for `remote` to bind, on behalf of `caller`? Xen asks
    /// the same as for any port.
    #[allow(clippy::missing_errors_doc)]
    fn create_consumer(&self, caller: &Party, dom: &Party, remote: DomId) -> Result<(), Denied> {
        self.create(caller, dom, remote)
    }

    /// May `caller` connect to a port of `remote` that waits for it (`bind_interdomain`)? By default always: the
    /// waiting port is the consent.
    #[allow(clippy::missing_errors_doc)]
    fn bind(&self, caller: &Party, remote: &Party) -> Result<(), Denied> {
        let _ = (caller, remote);
        Ok(())
    }

    /// May `sender` signal the other end of a channel, in `receiver`? By default always. Asked for
    /// interdomain channels only: an IPI concerns nobody else, and what is sent to nobody is dropped.
    ///
    /// Without an override this costs a send nothing.
    #[inline]
    #[allow(clippy::missing_errors_doc)]
    fn send(&self, sender: &Party, receiver: &Party) -> Result<(), Denied> {
        let _ = (sender, receiver);
        Ok(())
    }

    /// May `caller` look at the ports of `dom` (`status`)? Asked when the port is known to exist.
    #[allow(clippy::missing_errors_doc)]
    fn status(&self, caller: &Party, dom: &Party) -> Result<(), Denied> {
        caller.targets(dom.id)
    }

    /// May `caller` reset `dom`? Asked before it is known whether `dom` is paused, or in a reset.
    #[allow(clippy::missing_errors_doc)]
    fn reset(&self, caller: &Party, dom: &Party) -> Result<(), Denied> {
        caller.targets(dom.id)
    }

    /// May `caller` use this physical interrupt (`bind_pirq`)? By default any that it has. Asked for paravirtual
    /// domains only, and before it is known whether it is bound already; for others a PIRQ is only a number, which
    /// was mapped for them.
    #[allow(clippy::missing_errors_doc)]
    fn bind_pirq(&self, caller: &Party, pirq: Pirq) -> Result<(), Denied> {
        let _ = (caller, pirq);
        Ok(())
    }
}

/// Xen's default rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct XenPolicy;

impl Policy for XenPolicy {}

impl<P> Domain<P> {
    /// What a policy is told of the domain.
    #[inline]
    pub fn party(&self) -> Party {
        let config = &self.config;
        Party { id: self.id, privileged: config.privileged, hardware: config.hardware, target: config.target }
    }
}
