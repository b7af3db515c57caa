// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why an operation was refused.

use evtchn_abi::Errno;
use thiserror::Error;

use crate::policy::Denied;

/// Why an operation was refused. [`OpError::errno`] gives the number that Xen answers.
///
/// Xen folds many causes into one number; the variants keep them apart for logs and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum OpError {
    /// The caller has no power over the domain it named.
    #[error("not permitted on that domain")]
    NotPermitted,
    /// The domain may not use this physical interrupt.
    #[error("no permission for that PIRQ")]
    PirqNotPermitted,
    /// The policy has refused with a number of its own, not EPERM.
    #[error("denied by the policy: {}", .0.errno())]
    Denied(Denied),
    /// The vCPU does not exist.
    #[error("no such vCPU")]
    NoVcpu,
    /// The domain does not exist.
    #[error("no such domain")]
    NoDomain,
    /// Somebody opened a port while a reset was closing them.
    #[error("ports were opened during the reset")]
    OpenedMeanwhile,
    /// Memory ran out.
    #[error("out of memory")]
    OutOfMemory,
    /// The channel is consumed by Xen and this level of behaviour does not show it.
    #[error("the channel belongs to Xen")]
    Hidden,
    /// The guest's memory could not be read or written.
    #[error("bad guest address")]
    Fault,
    /// A reset is under way, or none is where one should be continued.
    #[error("a reset is in the wrong phase for this")]
    ResetPhase,
    /// The global VIRQ belongs to another handler domain.
    #[error("the VIRQ belongs to another domain")]
    VirqElsewhere,
    /// The handler of a VIRQ cannot change while the present one has it bound.
    #[error("the VIRQ's handler has it bound")]
    VirqInUse,
    /// The port of a chosen number is in use.
    #[error("the port is in use")]
    PortInUse,
    /// The interrupt line is in use by somebody who does not share it.
    #[error("the interrupt is in use")]
    IrqInUse,
    /// The VIRQ is bound on that vCPU already.
    #[error("the VIRQ is bound already")]
    VirqBound,
    /// The PIRQ is bound in this domain already.
    #[error("the PIRQ is bound already")]
    PirqBound,
    /// A domain of this id exists.
    #[error("the domain exists already")]
    DomainExists,
    /// The port's record does not exist.
    #[error("no such port")]
    NoPort,
    /// The port's state does not allow the operation.
    #[error("the port is in the wrong state")]
    WrongState,
    /// The channel is consumed by Xen; its domain may not touch it.
    #[error("the channel is consumed by Xen")]
    XenOwned,
    /// The peer's port is not waiting for the caller.
    #[error("the peer's port does not accept the caller")]
    NotAccepted,
    /// The VIRQ's number is out of range, or not of a class that the operation is for.
    #[error("no such VIRQ")]
    NoVirq,
    /// A VIRQ that is not per vCPU must be bound on vCPU 0.
    #[error("the VIRQ must be bound on vCPU 0")]
    VirqNotOnVcpu0,
    /// The PIRQ's number is out of range.
    #[error("no such PIRQ")]
    NoPirq,
    /// There is no interrupt behind the PIRQ.
    #[error("no interrupt behind the PIRQ")]
    NoIrq,
    /// The domain is being destroyed.
    #[error("the domain is dying")]
    Dying,
    /// The domain must be paused first.
    #[error("the domain is not paused")]
    NotPaused,
    /// The frame is not writable memory of the domain.
    #[error("the frame is not memory that can be shared")]
    BadFrame,
    /// The vCPU has a control block already.
    #[error("the vCPU has a control block")]
    HasControlBlock,
    /// A port has a priority only while its domain uses it.
    #[error("the port is not in use by its domain")]
    NotInUse,
    /// An argument of the call is out of range.
    #[error("invalid argument")]
    Invalid,
    /// There is no room: no port is free within the domain's limits, or the event array is full.
    #[error("no space left")]
    NoSpace,
    /// The vCPU's vcpu_info has been registered already.
    #[error("the vCPU has registered a vcpu_info")]
    HasVcpuInfo,
    /// A vcpu_info does not lie wholly in its page, or is not aligned.
    #[error("the vcpu_info is misplaced in its page")]
    Misplaced,
    /// The frame is memory of the domain's that it may only read.
    #[error("the frame is read-only")]
    ReadOnlyFrame,
    /// Only the vCPU itself may do that while it is online.
    #[error("the vCPU is online")]
    VcpuIsOnline,
    /// A vCPU may do that for itself only.
    #[error("not the calling vCPU")]
    OtherVcpu,
    /// Only hardware-assisted domains have that.
    #[error("the domain is not hardware-assisted")]
    NotHvm,
    /// The operation is unknown, or unknown in the present event-channel ABI.
    #[error("not implemented")]
    NotImplemented,
    /// The operation is not available in the present configuration.
    #[error("not supported")]
    NotSupported,
}

impl OpError {
    /// The number that Xen answers for this.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            Self::NotPermitted | Self::PirqNotPermitted => Errno::EPERM,
            Self::Denied(denied) => denied.errno(),
            Self::NoVcpu => Errno::ENOENT,
            Self::NoDomain => Errno::ESRCH,
            Self::OpenedMeanwhile => Errno::EAGAIN,
            Self::OutOfMemory => Errno::ENOMEM,
            Self::Hidden | Self::NotInUse | Self::ReadOnlyFrame => Errno::EACCES,
            Self::Fault => Errno::EFAULT,
            Self::ResetPhase
            | Self::VirqElsewhere
            | Self::VirqInUse
            | Self::PortInUse
            | Self::IrqInUse
            | Self::HasVcpuInfo => Errno::EBUSY,
            Self::Misplaced => Errno::ENXIO,
            Self::VirqBound | Self::PirqBound | Self::DomainExists => Errno::EEXIST,
            Self::NoPort
            | Self::WrongState
            | Self::XenOwned
            | Self::NotAccepted
            | Self::NoVirq
            | Self::VirqNotOnVcpu0
            | Self::NoPirq
            | Self::NoIrq
            | Self::Dying
            | Self::NotPaused
            | Self::BadFrame
            | Self::HasControlBlock
            | Self::VcpuIsOnline
            | Self::OtherVcpu
            | Self::NotHvm
            | Self::Invalid => Errno::EINVAL,
            Self::NoSpace => Errno::ENOSPC,
            Self::NotImplemented => Errno::ENOSYS,
            Self::NotSupported => Errno::EOPNOTSUPP,
        }
    }
}

impl From<OpError> for Errno {
    fn from(error: OpError) -> Self {
        error.errno()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_xens_number() {
        let table = [
            (OpError::NotPermitted, 1),
            (OpError::PirqNotPermitted, 1),
            (OpError::Denied(Denied::with(Errno::EACCES)), 13),
            (OpError::NoVcpu, 2),
            (OpError::NoDomain, 3),
            (OpError::Misplaced, 6),
            (OpError::OpenedMeanwhile, 11),
            (OpError::OutOfMemory, 12),
            (OpError::Hidden, 13),
            (OpError::NotInUse, 13),
            (OpError::ReadOnlyFrame, 13),
            (OpError::Fault, 14),
            (OpError::ResetPhase, 16),
            (OpError::VirqElsewhere, 16),
            (OpError::VirqInUse, 16),
            (OpError::PortInUse, 16),
            (OpError::IrqInUse, 16),
            (OpError::HasVcpuInfo, 16),
            (OpError::VirqBound, 17),
            (OpError::PirqBound, 17),
            (OpError::DomainExists, 17),
            (OpError::NoPort, 22),
            (OpError::WrongState, 22),
            (OpError::XenOwned, 22),
            (OpError::NotAccepted, 22),
            (OpError::NoVirq, 22),
            (OpError::VirqNotOnVcpu0, 22),
            (OpError::NoPirq, 22),
            (OpError::NoIrq, 22),
            (OpError::Dying, 22),
            (OpError::NotPaused, 22),
            (OpError::BadFrame, 22),
            (OpError::HasControlBlock, 22),
            (OpError::VcpuIsOnline, 22),
            (OpError::OtherVcpu, 22),
            (OpError::NotHvm, 22),
            (OpError::Invalid, 22),
            (OpError::NoSpace, 28),
            (OpError::NotImplemented, 38),
            (OpError::NotSupported, 95),
        ];
        for (error, number) in table {
            assert_eq!(error.errno(), Errno(number), "{error}");
        }
    }
}
