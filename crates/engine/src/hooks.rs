// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the engine asks of its embedder.

use evtchn_abi::{CallbackPpi, DomId, Gfn, Op, Pirq, Port, VcpuId};
use evtchn_sync::Page;

use crate::action::Action;
use crate::channel::Consumer;
use crate::error::OpError;
use crate::offload::OffloadRoute;
use crate::pirq::PirqStatus;
use crate::policy::{Policy, XenPolicy};

/// How an upcall reaches a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Upcall {
    /// A paravirtual guest: wake the vCPU, or interrupt the CPU it runs on. It enters its event
    /// callback whenever it returns to the guest with `evtchn_upcall_pending` set and
    /// `evtchn_upcall_mask` clear.
    PvEntry,
    /// The vCPU's own vector: a fixed interrupt of its local APIC, by edge, that needs an EOI. If the APIC is disabled
    /// it is lost; when the guest enables it, an upcall that is pending is to be delivered again.
    VcpuVector(u8),
    /// The domain's vector: kick the vCPU. The vector is injected, without APIC and EOI, at each entry with interrupts
    /// enabled while [`upcall_pending`](crate::Engine::upcall_pending).
    Vector(u8),
    /// The domain's interrupt line; vCPU 0 only. By level: it is asserted while
    /// [`pending_upcall`](crate::Engine::pending_upcall) names it, which the embedder looks at before each entry of
    /// vCPU 0 and at an EOI.
    Gsi(u8),
    /// A pin of a device on the domain's PCI bus 0; as for [`Gsi`](Self::Gsi).
    PciIntx {
        /// The device, 0 to 31.
        device: u8,
        /// The pin, 0 (INTA) to 3 (INTD).
        pin: u8,
    },
    /// On Arm: the domain's private peripheral interrupt. Unless it is by edge, it is asserted while
    /// [`upcall_pending`](crate::Engine::upcall_pending).
    Ppi(CallbackPpi),
}

/// Something that happened in the engine, for tracing, counting and recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Observed {
    /// An operation of `event_channel_op` ended.
    Operation {
        /// Whose operation it was.
        caller: DomId,
        /// Which operation.
        op: Op,
        /// The port it named or returned; port 0 if it has none.
        port: Port,
        /// How it ended.
        result: Result<(), OpError>,
    },
    /// Another call ended that a guest or the embedder made.
    Action {
        /// The domain that it was about.
        domain: DomId,
        /// What was done.
        action: Action,
        /// How it ended.
        result: Result<(), OpError>,
    },
    /// A port was raised.
    Raised {
        /// The domain that the port belongs to.
        domain: DomId,
        /// The port.
        port: Port,
        /// Did the pending bit go from 0 to 1? If not, the event was merged into an earlier one.
        fresh: bool,
        /// The vCPU whose upcall byte was set by it; none if it was set already, or the port is masked.
        upcall: Option<VcpuId>,
    },
}

/// Why a PIRQ could not be bound to the machine's interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PirqRefused {
    /// No interrupt is mapped to it: EINVAL.
    NoIrq,
    /// Xen uses it, or somebody who does not share it: EBUSY.
    InUse,
    /// Out of memory: ENOMEM.
    OutOfMemory,
}

/// The embedder's side of an [`Engine`](crate::Engine).
///
/// Unless it says otherwise, a hook is called when the engine holds nothing, on the
/// thread that called the engine, and may call the engine again. It may be called by several threads
/// at once.
pub trait Hooks: Send + Sync {
    /// The pages that are shared with a guest: shared_info, and those that [`pin`](Hooks::pin) gives.
    /// `Arc<dyn Page>` fits all, a concrete type is faster.
    type Page: Page;

    /// `evtchn_upcall_pending` of `vcpu` went from 0 to 1, or it has moved, or the way to tell the vCPU has changed: let it
    /// look. Not called for a vCPU that cannot be told: see [`Engine::set_callback`](crate::Engine::set_callback). A send that is under
    /// way when the domain is destroyed may come here afterwards, with a number that a new domain of that id does not have.
    fn deliver(&self, domain: DomId, vcpu: VcpuId, upcall: Upcall);

    /// The poll in which `vcpu` sleeps is over. As with `deliver`, the domain may be gone by now. May come before
    /// [`sched_poll`](crate::Engine::sched_poll) has returned, like a wake-up token.
    fn wake_poller(&self, domain: DomId, vcpu: VcpuId);

    /// Gives the page at frame `gfn` of the domain's memory to the engine, which reads and writes it from
    /// now on: a control block or an array page of the FIFO ABI, or a vcpu_info. The engine keeps it, and thereby
    /// must keep it in memory, until the domain is reset (a vcpu_info stays then) or destroyed; then it is dropped. A
    /// guest may name one frame several times.
    ///
    /// `None` if there is no such frame, or it is not writable memory of the domain's: the operation is
    /// refused with EINVAL. So an embedder that does not override this has no FIFO guests.
    ///
    /// Called with engine locks held: must not call the engine.
    fn pin(&self, domain: DomId, gfn: Gfn) -> Option<Self::Page> {
        let _ = (domain, gfn);
        None
    }

    /// Is this frame, which [`pin`](Hooks::pin) has refused, memory that cannot be written? A vcpu_info there is refused
    /// with EACCES instead of EINVAL.
    ///
    /// Called with engine locks held: must not call the engine.
    fn is_read_only(&self, domain: DomId, gfn: Gfn) -> bool {
        let _ = (domain, gfn);
        false
    }

    /// Is this vCPU online (`VCPUOP_up`)? With [`Level::Xen4_17`](crate::Level::Xen4_17) a vCPU may not register the
    /// vcpu_info of another one that is. Unless overridden vCPU 0 alone counts as online, as when a domain begins.
    fn is_online(&self, domain: DomId, vcpu: VcpuId) -> bool {
        let _ = domain;
        vcpu == VcpuId(0)
    }

    /// Asks for a call of [`Engine::deadline_passed`](crate::Engine::deadline_passed) for this vCPU when the system time
    /// of its guest, in nanoseconds, is not before `deadline`: as soon as possible if that is so already. Takes the
    /// place of what was asked before; `None` if nothing is wanted any more.
    ///
    /// Unless this is overridden guests have no timers, but for an embedder that looks at
    /// [`Engine::deadline`](crate::Engine::deadline).
    ///
    /// Also called for each vCPU of a restored domain that waits for a deadline.
    ///
    /// Called with the vCPU's timer lock held, so that the last call is the one that counts: must not call the engine.
    fn set_deadline(&self, domain: DomId, vcpu: VcpuId, deadline: Option<u64>) {
        let _ = (domain, vcpu, deadline);
    }

    /// Somebody sent to a channel that the embedder itself consumes.
    fn consumer_event(&self, consumer: Consumer, domain: DomId, vcpu: VcpuId, port: Port) {
        let _ = (consumer, domain, vcpu, port);
    }

    /// A port of a [sink](crate::Delivery::Sink) was raised; `vcpu` is the one that it notifies. Of two threads that signal one
    /// port, either may come first. A send that is under way while the port is closed may still come here afterwards.
    fn sink_event(&self, domain: DomId, port: Port, vcpu: VcpuId) {
        let _ = (domain, port, vcpu);
    }

    /// Could the upcall that is pending enter this hardware-assisted vCPU now: are interrupts enabled and, for
    /// [`Upcall::VcpuVector`], is the vector still requested? Asked by `sched_poll` and `sched_block`, which do not let it
    /// sleep then. For paravirtual guests `evtchn_upcall_mask` decides.
    fn accepts_upcall(&self, domain: DomId, vcpu: VcpuId) -> bool {
        let _ = (domain, vcpu);
        true
    }

    /// Should a long reset of `caller`'s, or the [teardown](crate::Engine::tear_down) of the domain `caller`, give way? The
    /// call then answers [`Outcome::Again`](crate::Outcome) and the like. Asked once for every 64 port numbers.
    fn preempt(&self, caller: DomId) -> bool {
        let _ = caller;
        false
    }

    /// Who may do what: Xen's default rules, unless this is overridden. Must always give the same policy.
    #[inline]
    fn policy(&self) -> &dyn Policy {
        &XenPolicy
    }

    /// A PIRQ is bound: connect the line. `share` tells whether the guest agrees to share it. Called
    /// with engine locks held: must not call the engine.
    ///
    /// # Errors
    /// A paravirtual domain's binding is refused with the error's number. A hardware-assisted guest's lines are emulated, and
    /// it is not refused one, as in Xen.
    fn pirq_bind(&self, domain: DomId, pirq: Pirq, share: bool) -> Result<(), PirqRefused> {
        let _ = (domain, pirq, share);
        Ok(())
    }

    /// A PIRQ's port was closed: disconnect the line. Called with engine locks held: must not call
    /// the engine.
    fn pirq_unbind(&self, domain: DomId, pirq: Pirq) {
        let _ = (domain, pirq);
    }

    /// The guest has handled a PIRQ: acknowledge the line. Is it still asserted? Then the PIRQ is raised again. For what is not
    /// level-triggered, false. Also called for PIRQs that are not bound.
    fn pirq_eoi(&self, domain: DomId, pirq: Pirq) -> bool {
        let _ = (domain, pirq);
        false
    }

    /// What a guest has to know of a PIRQ.
    fn pirq_status(&self, domain: DomId, pirq: Pirq) -> PirqStatus {
        let _ = (domain, pirq);
        PirqStatus::default()
    }

    /// A PIRQ now notifies another vCPU. Called with engine locks held: must not call the engine.
    fn pirq_moved(&self, domain: DomId, pirq: Pirq, vcpu: VcpuId) {
        let _ = (domain, pirq, vcpu);
    }

    /// Would the embedder carry out this channel's sends itself, as KVM does in the kernel? True to take it, until
    /// [`unload`](Hooks::unload).
    ///
    /// Each route is offered when it comes into being: when a port is bound, or restored, and again when its vCPU changes. Not
    /// offered are those to FIFO domains, to or from [sinks](crate::Delivery::Sink), and to or from what the embedder
    /// consumes. A domain that switches to FIFO loses the routes to it.
    ///
    /// An embedder that takes a route does all that a send does: the bits in the receiver's shared_info, as it is
    /// set and laid out at the time, the upcall, and the end of polls. The observer does not see such sends, and
    /// the [`Policy`] is not asked about them. A send that comes to the engine nevertheless is carried out there.
    ///
    /// Called with engine locks held: must not call the engine.
    fn offload(&self, route: &OffloadRoute) -> bool {
        let _ = route;
        false
    }

    /// Takes back a route that the embedder has taken: when this returns, no send that it carries out is under way, and
    /// none begins. Later sends come to the engine.
    ///
    /// Called before the change that asks for it: before a port is closed, moved or freed, and so before the
    /// operation, reset or destruction returns. Called with engine locks held: must not call the engine.
    fn unload(&self, route: &OffloadRoute) {
        let _ = route;
    }

    /// Something happened. Called with no locks held; does nothing unless overridden.
    #[inline]
    fn observe(&self, event: Observed) {
        let _ = event;
    }
}
