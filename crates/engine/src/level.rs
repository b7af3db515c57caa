// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which release of Xen the engine answers like.

/// Which release of Xen the engine answers like, where releases differ.
///
/// | Topic | `Xen4_17` | `Current` |
/// |---|---|---|
/// | `status` of a port consumed by Xen | EACCES | reported |
/// | binding a global VIRQ without being its handler | allowed, never fires | EBUSY |
/// | changing the handler of a VIRQ that is bound | takes it over | EBUSY |
/// | `VIRQ_ARGO` | global | one per domain |
/// | errors of `register_vcpu_info` | ENXIO, EINVAL | also EBUSY, EACCES |
/// | registering the vcpu_info of another vCPU that is online | EINVAL | allowed |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Level {
    /// Xen 4.15 to 4.18; of their behaviours, 4.17's.
    Xen4_17,
    /// The latest release known here (4.21 and later).
    #[default]
    Current,
}

impl Level {
    /// Does `status` report ports that Xen consumes?
    pub(crate) const fn shows_xen_ports(self) -> bool {
        match self {
            Self::Xen4_17 => false,
            Self::Current => true,
        }
    }

    /// Is a global VIRQ reserved for its handler domain?
    pub(crate) const fn guards_global_virqs(self) -> bool {
        match self {
            Self::Xen4_17 => false,
            Self::Current => true,
        }
    }

    /// Is `VIRQ_ARGO` one per domain, rather than global?
    pub(crate) const fn argo_is_per_domain(self) -> bool {
        match self {
            Self::Xen4_17 => false,
            Self::Current => true,
        }
    }

    /// Do the errors of `register_vcpu_info` say what is wrong?
    pub(crate) const fn tells_vcpu_info_errors(self) -> bool {
        match self {
            Self::Xen4_17 => false,
            Self::Current => true,
        }
    }

    /// May a vCPU register the vcpu_info of another one that is online?
    pub(crate) const fn moves_vcpu_info_of_others(self) -> bool {
        match self {
            Self::Xen4_17 => false,
            Self::Current => true,
        }
    }
}
