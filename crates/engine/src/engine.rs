// SPDX-License-Identifier: MIT OR Apache-2.0
//! The engine, and the life of its domains.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::ops::Deref;

use evtchn_abi::{DomId, NR_VIRQS, Port, Virq};
use evtchn_sync::{Page, RwLock};

use crate::config::{DomainConfig, Width};
use crate::domain::Domain;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::level::Level;
use crate::ops::close::Closer;

/// The hypervisor's half of event channels: domains, their ports, and who may signal whom.
///
/// All methods take `&self`; an engine is shared between threads. Which locks they take is in the
/// module documentation of `locks`; hooks are called with none held.
#[derive(Debug)]
pub struct Engine<H: Hooks> {
    pub(crate) hooks: H,
    pub(crate) level: Level,
    domains: RwLock<Domains<H::Page>>,
}

/// Which domains there are, and who handles global VIRQs.
#[derive(Debug)]
pub(crate) struct Domains<P> {
    map: BTreeMap<DomId, Box<Domain<P>>>,
    /// The domain that was made the handler of a VIRQ; by default the hardware domain is.
    pub handlers: [Option<DomId>; NR_VIRQS as usize],
    hardware: Option<DomId>,
}

impl<P> Domains<P> {
    /// The domain with this very id.
    ///
    /// # Errors
    /// ESRCH if there is none.
    #[inline]
    pub fn get(&self, id: DomId) -> Result<&Domain<P>, OpError> {
        self.map.get(&id).map(Deref::deref).ok_or(OpError::NoDomain)
    }

    /// The domain that `caller` means by `id`: `DomId::SELF` is itself.
    ///
    /// # Errors
    /// ESRCH if there is none.
    pub fn named<'a>(&'a self, caller: &'a Domain<P>, id: DomId) -> Result<&'a Domain<P>, OpError> {
        if id == DomId::SELF { Ok(caller) } else { self.get(id) }
    }

    /// The domain that gets this global VIRQ.
    pub fn handler(&self, virq: Virq) -> Option<DomId> {
        self.handlers.get(virq.0 as usize).copied().flatten().or(self.hardware)
    }

    /// All domains, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Domain<P>> {
        self.map.values().map(Deref::deref)
    }

    fn forget(&mut self, id: DomId) -> Option<Box<Domain<P>>> {
        for handler in self.handlers.iter_mut().filter(|handler| **handler == Some(id)) {
            *handler = None;
        }
        self.hardware = self.hardware.filter(|&hardware| hardware != id);
        self.map.remove(&id)
    }
}

impl<H: Hooks> Engine<H> {
    /// An engine without domains that answers like the latest Xen.
    pub fn new(hooks: H) -> Self {
        Self::with_level(hooks, Level::default())
    }

    /// An engine that answers like the given release of Xen.
    pub fn with_level(hooks: H, level: Level) -> Self {
        let domains = Domains { map: BTreeMap::new(), handlers: [None; NR_VIRQS as usize], hardware: None };
        Self { hooks, level, domains: RwLock::new(domains) }
    }

    /// The embedder's side.
    pub fn hooks(&self) -> &H {
        &self.hooks
    }

    /// Which release of Xen the engine answers like.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The domain table, for reading. Never held over a hook, nor taken twice by one thread.
    #[inline]
    pub(crate) fn domains(&self) -> impl Deref<Target = Domains<H::Page>> {
        self.domains.read()
    }

    /// The domain table, with every operation kept out.
    pub(crate) fn domains_exclusively(&self) -> impl core::ops::DerefMut<Target = Domains<H::Page>> {
        self.domains.write()
    }

    /// Creates a domain, with no port in use and no shared_info yet.
    ///
    /// The first hardware domain becomes the default handler of global VIRQs.
    ///
    /// # Errors
    /// EINVAL for a reserved id, or for no vCPUs or more than 65,536, EEXIST for an id in use, ENOMEM.
    pub fn create_domain(&self, id: DomId, config: DomainConfig) -> Result<(), OpError> {
        if id >= DomId::FIRST_RESERVED {
            return Err(OpError::Invalid);
        }
        let hardware = config.hardware;
        let domain = Box::new(Domain::new(id, config)?);
        let mut domains = self.domains_exclusively();
        if domains.map.contains_key(&id) {
            return Err(OpError::DomainExists);
        }
        domains.map.insert(id, domain);
        if hardware {
            domains.hardware.get_or_insert(id);
        }
        Ok(())
    }

    /// Destroys a domain: closes its ports from the highest down, those that Xen consumes included.
    ///
    /// Peers are left unbound, naming the dead id, and get no event. VIRQs that the domain handled go
    /// back to the default handler. While this runs the domain exists but gets no new ports (EINVAL).
    /// Returns the shared_info page; those of the FIFO ABI are dropped.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, or it is being destroyed already.
    pub fn destroy_domain(&self, id: DomId) -> Result<Option<H::Page>, OpError> {
        self.mark_dying(id)?;
        let mut from = Port(u32::MAX);
        while let Some(port) = self.close_one_below(id, from)? {
            from = Port(port.0 - 1);
        }
        let domain = self.domains_exclusively().forget(id);
        Ok(domain.and_then(|domain| domain.pages.into_inner().shared_info))
    }

    fn mark_dying(&self, id: DomId) -> Result<(), OpError> {
        let domains = self.domains();
        let mut events = domains.get(id)?.event.write();
        if events.dying {
            return Err(OpError::NoDomain);
        }
        events.dying = true;
        Ok(())
    }

    /// Closes the highest open port up to `from`, and returns it; `None` at port 0.
    fn close_one_below(&self, id: DomId, from: Port) -> Result<Option<Port>, OpError> {
        let domains = self.domains();
        let domain = domains.get(id)?;
        let highest = domain.event.read().ports.previous_taken(from);
        let Some(port) = highest.filter(|&port| port != Port(0)) else { return Ok(None) };
        // A port that its peer re-binds at this moment is refused once; it cannot be twice, as no
        // new ports are made. It must be closed, so try again.
        while domain.event.read().ports.next_taken(port) == Some(port) {
            let _ = self.close_port(&domains, domain, port, Closer::Xen);
        }
        Ok(Some(port))
    }

    /// Says whether the toolstack has paused the domain. Others may only be reset while paused.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn set_paused(&self, id: DomId, paused: bool) -> Result<(), OpError> {
        self.domains().get(id).map(|domain| domain.set_paused(paused))
    }

    /// Is there a domain with this id?
    #[must_use]
    pub fn domain_exists(&self, id: DomId) -> bool {
        self.domains().get(id).is_ok()
    }

    /// Sets, moves or takes away a domain's shared_info, and returns the page that it was.
    ///
    /// The contents are not copied. Bits that would have been set while there is no page are lost.
    /// The vcpu_info of vCPUs below 32 lie in this page; those above have none, and get no
    /// upcalls, until a way to register one is offered.
    ///
    /// When this returns, no thread uses the old page any more.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn set_shared_info(&self, id: DomId, page: Option<H::Page>) -> Result<Option<H::Page>, OpError> {
        let domains = self.domains();
        let mut pages = domains.get(id)?.pages.write();
        Ok(core::mem::replace(&mut pages.shared_info, page))
    }

    /// Changes the width of a domain's layout, as an HVM guest does that changes its mode.
    ///
    /// Bits are not converted. Ports above the new limit stay open, but their events are dropped.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn set_width(&self, id: DomId, width: Width) -> Result<(), OpError> {
        let domains = self.domains();
        let domain = domains.get(id)?;
        let _no_operation = domain.event.write();
        domain.set_width(width);
        Ok(())
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
