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
    /// How many vCPUs there are: 1 to 65,536.
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
