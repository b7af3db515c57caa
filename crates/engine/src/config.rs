// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an embedder says about a domain when it creates it.

use evtchn_abi::{DomId, Layout};

/// How a domain is virtualised, as far as event channels are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DomainKind {
    /// Paravirtual: `evtchn_upcall_mask` counts, PIRQs need permission, the compat hypercall exists.
    #[default]
    Pv,
    /// Hardware-assisted (HVM, PVH): the upcall mask is ignored.
    Hvm,
}

/// The width of `xen_ulong_t` for a guest: the layout of its shared_info and its two-level limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bits: ports below 1024.
    Bits32,
    /// 64 bits: ports below 4096.
    #[default]
    Bits64,
}

impl Width {
    /// The offsets of everything in shared_info.
    #[must_use]
    pub const fn layout(self) -> &'static Layout {
        match self {
            Self::Bits32 => &Layout::X86_32,
            Self::Bits64 => &Layout::X86_64,
        }
    }
}

/// Where the events of a domain go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Delivery {
    /// Into pages that are shared with the domain, as Xen does.
    #[default]
    Shared,
    /// To the embedder, one by one: each raise of a port is a call of [`Hooks::sink_event`](crate::Hooks::sink_event),
    /// and there is no page.
    ///
    /// So the back ends and I/O threads of a VMM can be a domain, for the most part domain 0, without anybody
    /// playing a guest kernel. All operations are there. No port is ever pending, so nothing merges, `unmask` does nothing, and a
    /// poll waits for the next event. Ports may have any number below 131,072, in the limits of
    /// [`DomainConfig::max_port`]. FIFO pages and a shared_info are refused with EOPNOTSUPP.
    ///
    /// Who would rather look for events in a bitmap needs no sink: give the domain a page of your own as shared_info.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::{Arc, Condvar, Mutex};
    ///
    /// use evtchn_abi::{DomId, Port, VcpuId};
    /// use evtchn_engine::{Delivery, DomainConfig, Engine, Hooks, Upcall};
    /// use evtchn_sync::HeapPage;
    ///
    /// /// Counts signals, and makes a thread wait for one, as an eventfd does.
    /// #[derive(Default)]
    /// struct Bell(Mutex<u64>, Condvar);
    ///
    /// impl Bell {
    ///     fn ring(&self) {
    ///         *self.0.lock().unwrap() += 1;
    ///         self.1.notify_one();
    ///     }
    ///
    ///     fn wait(&self) -> u64 {
    ///         let count = self.1.wait_while(self.0.lock().unwrap(), |count| *count == 0);
    ///         std::mem::take(&mut count.unwrap())
    ///     }
    /// }
    ///
    /// #[derive(Default)]
    /// struct Vmm(Mutex<HashMap<Port, Arc<Bell>>>);
    ///
    /// impl Hooks for Vmm {
    ///     type Page = Arc<HeapPage>;
    ///     fn deliver(&self, _: DomId, _: VcpuId, _: Upcall) {}
    ///     fn wake_poller(&self, _: DomId, _: VcpuId) {}
    ///     fn sink_event(&self, _: DomId, port: Port, _: VcpuId) {
    ///         if let Some(bell) = self.0.lock().unwrap().get(&port) {
    ///             bell.ring();
    ///         }
    ///     }
    /// }
    ///
    /// let engine = Engine::new(Vmm::default());
    /// let (back, front) = (DomId(0), DomId(1));
    /// engine.create_domain(back, DomainConfig { delivery: Delivery::Sink, ..DomainConfig::dom0(1) })?;
    /// engine.create_domain(front, DomainConfig::guest(1))?;
    ///
    /// // A back end waits for its front end on a thread of its own.
    /// let port = engine.alloc_unbound(back, DomId::SELF, front)?;
    /// let bell = Arc::new(Bell::default());
    /// engine.hooks().0.lock().unwrap().insert(port, Arc::clone(&bell));
    /// let io = std::thread::spawn(move || bell.wait());
    ///
    /// let local = engine.bind_interdomain(front, back, port)?;
    /// engine.send(front, local)?;
    /// assert_eq!(io.join().unwrap(), 1);
    /// # Ok::<(), evtchn_engine::OpError>(())
    /// ```
    Sink,
}

/// What a domain is.
///
/// ```
/// use evtchn_engine::{DomainConfig, DomainKind, Width};
///
/// let config = DomainConfig { vcpus: 4, kind: DomainKind::Hvm, ..DomainConfig::default() };
/// assert_eq!(config.max_port, Some(1023)); // what toolstacks give a guest
/// assert_eq!(config.width, Width::Bits64);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainConfig {
    /// How many vCPUs there are: 1 to 8,192.
    pub vcpus: u32,
    /// The highest port number (a number, not a count); `None` leaves only the ABI's limit.
    pub max_port: Option<u32>,
    /// Is it a control domain, which may act on every other?
    pub privileged: bool,
    /// Is it the hardware domain, which handles global VIRQs by default?
    pub hardware: bool,
    /// How it is virtualised.
    pub kind: DomainKind,
    /// The width it starts with. An HVM guest may change: see `Engine::set_width`.
    pub width: Width,
    /// How many PIRQs it has.
    pub nr_pirqs: u32,
    /// How many lines its interrupt controllers have; 0 if it has no such controllers, as PVH guests have none. Only
    /// hardware-assisted domains may choose one for upcalls.
    pub nr_gsis: u32,
    /// May it switch to the FIFO ABI? If not it gets the answers of a Xen that was built without.
    pub fifo: bool,
    /// The domain that this one serves as device model, and so may act on.
    pub target: Option<DomId>,
    /// Where its events go.
    pub delivery: Delivery,
}

impl Default for DomainConfig {
    /// An ordinary guest: one vCPU, 64-bit, paravirtual, ports up to 1023, no PIRQs, 48 interrupt lines.
    fn default() -> Self {
        Self {
            vcpus: 1,
            max_port: Some(1023),
            privileged: false,
            hardware: false,
            kind: DomainKind::default(),
            width: Width::default(),
            nr_pirqs: 0,
            nr_gsis: 48,
            fifo: true,
            target: None,
            delivery: Delivery::default(),
        }
    }
}

impl DomainConfig {
    /// An ordinary guest with this many vCPUs.
    #[must_use]
    pub fn guest(vcpus: u32) -> Self {
        Self { vcpus, ..Self::default() }
    }

    /// Domain 0: control and hardware domain, with no limit on ports but the ABI's.
    #[must_use]
    pub fn dom0(vcpus: u32) -> Self {
        Self { vcpus, max_port: None, privileged: true, hardware: true, ..Self::default() }
    }
}
