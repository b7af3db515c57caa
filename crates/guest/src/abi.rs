// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the ABIs have in common.

use core::ops::ControlFlow;

use evtchn_abi::{Errno, Port, VcpuId};

use crate::Hypercall;

/// How a run of upcalls ended.
#[must_use = "an upcall that was stopped has to be taken again: Xen does not interrupt for what is left"]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scan {
    /// No upcall was waiting.
    Idle,
    /// All events were handled.
    Done,
    /// The handler asked to stop. What is left is announced again: run the upcall once more, later.
    Stopped,
}

/// A way in which Xen brings events to a guest: [`TwoLevel`](crate::TwoLevel), [`Fifo`](crate::Fifo), or
/// [whichever Xen has](crate::Auto).
///
/// All methods take `&self`, and none waits for another vCPU. Any vCPU may call any of them, but those that say so.
///
/// `mask` and `unmask` of one port must not race each other: one of them would win, and nobody knows which.
/// [`Events`](crate::Events) takes care of that.
pub trait Abi {
    /// How many port numbers can be used now, the unusable port 0 included.
    fn nr_channels(&self) -> u32;

    /// Begins: every port that there is gets masked, and no upcall is waiting. Before any vCPU comes online.
    fn start(&self);

    /// A vCPU comes online: Xen learns where to put its events. Called by the vCPU itself, or for it before it runs.
    ///
    /// # Errors
    /// EINVAL if there is no memory for such a vCPU; what `register_vcpu_info` and `init_control` answer.
    fn online(&self, vcpu: VcpuId, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno>;

    /// Takes what a vCPU leaves that has gone offline, after its ports have been moved away and while it runs no upcall.
    /// Calls `left` for each event that nobody has seen; [`raise_again`](Self::raise_again) brings it to the port's new vCPU.
    ///
    /// Without this, moved ports could be stuck in its FIFO queues.
    fn offline(&self, vcpu: VcpuId, left: impl FnMut(Port));

    /// Forgets what Xen knew and what was pending: after a reset, or in a new place after a migration. No other method
    /// may run meanwhile. Then [`start`](Self::start) again, and bring the vCPUs online.
    fn forget(&self);

    /// Makes room for a port, before its first use. It is masked then.
    ///
    /// # Errors
    /// ENOSPC if the ABI, or the memory that it was given, ends before this port; ENOMEM; EAGAIN if another vCPU makes room just now;
    /// what `expand_array` answers.
    fn cover(&self, port: Port, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno>;

    /// Lets a vCPU handle a port's events, and no other, after a successful `bind_vcpu` or when the port is bound.
    ///
    /// A port is moved while it is masked; its events come to the new vCPU, and those that are on their way to the
    /// old one stay there.
    fn bind(&self, port: Port, vcpu: VcpuId);

    /// Lets no vCPU handle the port.
    fn unbind(&self, port: Port);

    /// Masks a port: events set its pending bit and no more. Whether it was masked.
    fn mask(&self, port: Port) -> bool;

    /// Unmasks a port. If an event is pending Xen does it, and announces it to the port's vCPU.
    ///
    /// # Errors
    /// What the hypercall answers, where it is needed: EINVAL for a port that does not exist.
    fn unmask(&self, port: Port, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno>;

    /// Is the port masked? One that there is no room for counts as masked.
    fn is_masked(&self, port: Port) -> bool;

    /// Is an event pending, masked or not?
    fn is_pending(&self, port: Port) -> bool;

    /// Makes an event pending without telling anybody. Mask the port first and unmask it afterwards to have it announced.
    /// Whether one was pending.
    fn set_pending(&self, port: Port) -> bool;

    /// Takes a pending event away. Whether there was one.
    fn clear_pending(&self, port: Port) -> bool;

    /// Is an upcall waiting for this vCPU?
    fn upcall_is_pending(&self, vcpu: VcpuId) -> bool;

    /// Takes upcalls of this vCPU, and every event that there is for it, until there is no more or `handle` says to stop:
    /// after so many events, or so long. Only the vCPU itself does this, and never within itself.
    ///
    /// A port is not pending any more when `handle` gets it: an event that comes from then on is a new one. `handle` may call
    /// any other method here, and send events. The event whose handler says stop counts as handled.
    ///
    /// Two-level takes a whole word of ports at a time: one that `handle` masks may come once more from the word that was taken.
    fn upcall_while(&self, vcpu: VcpuId, handle: impl FnMut(Port) -> ControlFlow<()>) -> Scan;

    /// Takes upcalls of this vCPU, and every event that there is for it. Whether an upcall was waiting.
    ///
    /// Peers that never stop sending keep this running; see [`upcall_while`](Self::upcall_while).
    #[inline]
    fn upcall(&self, vcpu: VcpuId, mut handle: impl FnMut(Port)) -> bool {
        let scan = self.upcall_while(vcpu, |port| {
            handle(port);
            ControlFlow::Continue(())
        });
        scan != Scan::Idle
    }

    /// For those who poll: takes events of this vCPU and puts their ports into `ports`, as many as have room. How many.
    ///
    /// What has no room stays, and is announced again. Only the vCPU itself does this.
    fn take_pending(&self, vcpu: VcpuId, ports: &mut [Port]) -> usize {
        let mut taken = 0;
        if ports.is_empty() {
            return taken;
        }
        let _ = self.upcall_while(vcpu, |port| {
            if let Some(slot) = ports.get_mut(taken) {
                *slot = port;
                taken += 1;
            }
            if taken == ports.len() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        taken
    }

    /// Has Xen announce an event that was taken, to the vCPU that the port is bound to now. The port is unmasked then.
    ///
    /// # Errors
    /// What the hypercall answers: EINVAL for a port that does not exist.
    fn raise_again(&self, port: Port, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        self.mask(port);
        self.set_pending(port);
        xen.unmask(port)
    }

    /// Moves a port that is in use to another vCPU. No event is lost: one that is on its way to the old vCPU is taken there,
    /// later ones by the new.
    ///
    /// # Errors
    /// What `bind_vcpu` answers (ENOENT, EINVAL); nothing is changed then.
    fn move_to_vcpu(&self, port: Port, vcpu: VcpuId, xen: &(impl Hypercall + ?Sized)) -> Result<(), Errno> {
        let was_masked = self.mask(port);
        let moved = xen.bind_vcpu(port, vcpu);
        if moved.is_ok() {
            self.bind(port, vcpu);
        }
        if !was_masked {
            xen.unmask(port)?;
        }
        moved
    }
}
