// SPDX-License-Identifier: MIT OR Apache-2.0
//! Why a state was refused.

use evtchn_abi::DomId;
use thiserror::Error;

use super::VERSION;
use crate::error::OpError;

/// Why a state was refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The state has a version that this program does not know: it is of a later one.
    #[error("saved state of version {0}: this program knows versions up to {VERSION}")]
    Version(u32),
    /// A machine is restored into an engine that has domains.
    #[error("the engine has domains already")]
    NotEmpty,
    /// The domains are not in the order of their ids, or one is there twice.
    #[error("domain {0} is out of order, or there twice")]
    DomainOrder(DomId),
    /// The machine is larger than a state may be. Its domains can be restored one by one.
    #[error("too many vCPUs, ports or PIRQs in one machine")]
    TooLarge,
    /// The VIRQ is not global, not in the order of the others, or its handler is not in the state.
    #[error("the handler of VIRQ {0} is wrong")]
    Handler(u32),
    /// The default handler of global VIRQs is not in the state, or not a hardware domain.
    #[error("domain {0} cannot be the handler of global VIRQs")]
    Hardware(DomId),
    /// A domain of the state is wrong.
    #[error("domain {0} cannot be restored")]
    Domain(DomId, #[source] DomainError),
    /// Memory ran out.
    #[error("out of memory")]
    OutOfMemory,
}

/// What is wrong with a domain's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DomainError {
    /// The id is reserved.
    #[error("the id is reserved")]
    Id,
    /// There is a domain with this id.
    #[error("there is a domain with this id")]
    Exists,
    /// There are none, or more than 8,192.
    #[error("{0} vCPUs")]
    Vcpus(u32),
    /// There are more than 1,048,576.
    #[error("{0} PIRQs")]
    Pirqs(u32),
    /// Not a multiple of 64, or more than the domain's highest port needs.
    #[error("{0} records")]
    Records(u32),
    /// A reset cannot go on there.
    #[error("a reset that goes on at port {0}")]
    Reset(u32),
    /// The port is not in ascending order, or is there twice.
    #[error("port {0} is out of order, or there twice")]
    PortOrder(u32),
    /// The port is 0 or has no record.
    #[error("port {0} is out of range")]
    PortRange(u32),
    /// The port notifies a vCPU that there is not.
    #[error("port {0} notifies a vCPU that does not exist")]
    PortVcpu(u32),
    /// The port's priority is above 15.
    #[error("port {0} has a priority that does not exist")]
    Priority(u32),
    /// The port's consumer is above 7, or such a port cannot be consumed.
    #[error("port {0} has a wrong consumer")]
    Consumer(u32),
    /// The port's peer can be none: a reserved domain, a port out of range, or the port itself.
    #[error("port {0} has an impossible peer")]
    Peer(u32),
    /// The port's peer is not in the machine.
    #[error("the peer's domain of port {0} is missing")]
    PeerMissing(u32),
    /// The port's peer does not name the port.
    #[error("the peer of port {0} does not name it")]
    Asymmetric(u32),
    /// The port's VIRQ does not exist.
    #[error("port {0} has a VIRQ that does not exist")]
    Virq(u32),
    /// The port's VIRQ has another port already.
    #[error("the VIRQ of port {0} is bound twice")]
    VirqTwice(u32),
    /// The port's PIRQ does not exist.
    #[error("port {0} has a PIRQ that does not exist")]
    Pirq(u32),
    /// The port's PIRQ has another port already.
    #[error("the PIRQ of port {0} is bound twice")]
    PirqTwice(u32),
    /// The hooks did not permit the PIRQ, or refused to connect its line.
    #[error("the PIRQ of port {0} cannot be bound")]
    PirqRefused(u32, #[source] OpError),
    /// The domain has FIFO state, but may not use FIFO, or is a sink.
    #[error("the domain may not use the FIFO ABI")]
    FifoNotAllowed,
    /// The control blocks are none, or not in ascending order.
    #[error("the control blocks are out of order, or there are none")]
    Controls,
    /// The control block is misplaced in its frame, or its vCPU does not exist.
    #[error("the control block of vCPU {0} is wrong")]
    Control(u32),
    /// The event array has more than 128 pages.
    #[error("an event array of {0} pages")]
    Array(usize),
    /// A queue's tail: the queue or the port's word does not exist, it is not in ascending order, or the port is the tail of
    /// another queue, too.
    #[error("port {0} cannot be the tail of that queue")]
    Tail(u32),
    /// A port that was linked has no word, or is not in ascending order.
    #[error("port {0} cannot have been linked")]
    Linked(u32),
    /// A port with a kept event has no record, or is not in ascending order.
    #[error("port {0} cannot have a kept event")]
    Kept(u32),
    /// A sink was given a shared_info.
    #[error("a sink has no shared_info")]
    SharedInfo,
    /// There is no such vCPU, or it is not in ascending order, or it is there twice.
    #[error("vCPU {0} does not exist, is out of order, or there twice")]
    Vcpu(u32),
    /// The registered vcpu_info is misplaced in its frame, or the domain is a sink.
    #[error("the vcpu_info of vCPU {0} cannot be there")]
    VcpuInfo(u32),
    /// The vector is below 16, or the domain is paravirtual.
    #[error("vCPU {0} cannot have that vector for upcalls")]
    UpcallVector(u32),
    /// The period is shorter or longer than a guest may set.
    #[error("the timers of vCPU {0} are wrong")]
    Timer(u32),
    /// What counts does not follow from the parameter, or the domain is paravirtual.
    #[error("the callback cannot have come from its parameter")]
    Callback,
    /// No port can have this number.
    #[error("port {0} cannot be the suspend port")]
    SuspendPort(u32),
    /// Teardown cannot go on there: the port has no record, or a port above it is open.
    #[error("a teardown that goes on at port {0}")]
    Teardown(u32),
    /// The hooks refused a frame of the FIFO ABI or of a vcpu_info.
    #[error("frame {0:#x} cannot be shared")]
    Frame(u64),
    /// Memory ran out.
    #[error("out of memory")]
    OutOfMemory,
}
