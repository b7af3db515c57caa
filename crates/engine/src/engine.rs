// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine, and the life of its domains.

use alloc::boxed::Box;
use alloc::sync::Arc;

use evtchn_abi::DomId;
use evtchn_sync::{Guard, Mutex, Page, enter};

use crate::action::Action;
use crate::config::{DomainConfig, Width};
use crate::domain::Domain;
use crate::domains::{Domains, Handlers, Named};
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::level::Level;

/// The hypervisor's half of event channels: domains, their ports, and who may signal whom.
///
/// All methods take `&self`; an engine is shared between threads. What they lock is in the
/// module documentation of `locks`; hooks are called with nothing held, but for those that say so.
#[derive(Debug)]
pub struct Engine<H: Hooks> {
    pub(crate) hooks: H,
    pub(crate) level: Level,
    pub(crate) handlers: Handlers,
    pub(crate) domains: Domains<H::Page>,
    /// See `locks`.
    pub(crate) registry: Mutex<()>,
}

impl<H: Hooks> Engine<H> {
    /// An engine without domains that answers like the latest Xen.
    pub fn new(hooks: H) -> Self {
        Self::with_level(hooks, Level::default())
    }

    /// An engine that answers like the given release of Xen.
    pub fn with_level(hooks: H, level: Level) -> Self {
        Self { hooks, level, handlers: Handlers::new(), domains: Domains::new(), registry: Mutex::new(()) }
    }

    /// The embedder's side.
    pub fn hooks(&self) -> &H {
        &self.hooks
    }

    /// Which release of Xen the engine answers like.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The domain with this very id, for as long as the guard lives.
    #[inline]
    pub(crate) fn peek<'g>(
        &'g self,
        id: DomId,
        guard: &'g Guard<'_>,
    ) -> Result<&'g Domain<H::Page>, OpError> {
        self.domains.get(id, guard)
    }

    /// The domain with this very id, to keep. It may die meanwhile.
    pub(crate) fn domain(&self, id: DomId) -> Result<Arc<Domain<H::Page>>, OpError> {
        self.domains.share(id, &enter())
    }

    /// The domain that `caller` means by `id`: `DomId::SELF` is itself.
    pub(crate) fn named<'a>(
        &self,
        caller: &'a Domain<H::Page>,
        id: DomId,
    ) -> Result<Named<'a, H::Page>, OpError> {
        let own = id == DomId::SELF || id == caller.id;
        if own { Ok(Named::Own(caller)) } else { self.domain(id).map(Named::Other) }
    }

    /// Creates a domain, with no port in use and no shared_info yet.
    ///
    /// The first hardware domain becomes the default handler of global VIRQs.
    ///
    /// # Errors
    /// EINVAL for a reserved id, or for no vCPUs or more than 8,192, EEXIST for an id in use, ENOMEM.
    pub fn create_domain(&self, id: DomId, config: DomainConfig) -> Result<(), OpError> {
        self.acted(id, Action::CreateDomain, self.register(id, config))
    }

    fn register(&self, id: DomId, config: DomainConfig) -> Result<(), OpError> {
        if id >= DomId::FIRST_RESERVED {
            return Err(OpError::Invalid);
        }
        let hardware = config.hardware;
        let domain = Arc::new(Domain::new(id, config)?);
        let _registry = self.registry.lock();
        let entry = self.domains.need(id)?;
        if entry.is_some() {
            return Err(OpError::DomainExists);
        }
        if hardware {
            self.handlers.offer_hardware(id);
        }
        drop(entry.replace(Some(domain))); // there was none
        Ok(())
    }

    /// Says whether the toolstack has paused the domain. Others may only be reset while paused.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn set_paused(&self, id: DomId, paused: bool) -> Result<(), OpError> {
        let result = self.peek(id, &enter()).map(|domain| domain.set_paused(paused));
        self.acted(id, Action::SetPaused(paused), result)
    }

    /// Is there a domain with this id?
    #[must_use]
    pub fn domain_exists(&self, id: DomId) -> bool {
        self.peek(id, &enter()).is_ok()
    }

    /// Sets, moves or takes away a domain's shared_info, and returns the page that it was.
    ///
    /// The contents are not copied. Bits that would have been set while there is no page are lost; what is on FIFO queues
    /// is announced again in the new page.
    /// The vcpu_infos of vCPUs below 32 lie in this page, unless the guest has registered others. vCPUs above get no
    /// upcalls until they have one registered.
    ///
    /// When this returns, no thread uses the old page any more.
    ///
    /// # Errors
    /// ESRCH if there is no such domain; EOPNOTSUPP for a page if the domain is a sink.
    pub fn set_shared_info(&self, id: DomId, page: Option<H::Page>) -> Result<Option<H::Page>, OpError> {
        let present = page.is_some();
        let result = self.domain(id).and_then(|domain| {
            if present && domain.is_sink() {
                return Err(OpError::NotSupported);
            }
            let old = domain.shared_info.replace(page.map(Box::new)).wait().map(|page| *page);
            self.announce_queues(&domain);
            Ok(old)
        });
        self.acted(id, Action::SetSharedInfo { present }, result)
    }

    /// Tells the vCPUs that have something on a queue: there may have been no page to say so when it came there.
    fn announce_queues(&self, domain: &Domain<H::Page>) {
        if domain.fifo.is_some() {
            domain.mark_ready_vcpus(&enter());
            self.tell_vcpus(domain);
        }
    }

    /// Changes the width of a domain's layout, as an HVM guest does that changes its mode.
    ///
    /// Bits are not converted. Ports above the new limit stay open, but their events are dropped.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn set_width(&self, id: DomId, width: Width) -> Result<(), OpError> {
        let result = self.domain(id).map(|domain| domain.set_width(width));
        self.acted(id, Action::SetWidth(width), result)
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    #[allow(dead_code)]
    const fn engine_is_shared<H: Hooks>()
    where
        H::Page: Page,
    {
        shared::<Engine<H>>();
    }
};
