// SPDX-License-Identifier: MIT OR Apache-2.0
//! The door to a vCPU: what other threads want of it, done by its own thread.
//!
//! KVM's attributes of a vCPU wait while it runs, and a guest sets those of vCPUs that do not run yet (`register_vcpu_info` for
//! vCPU 1 comes from vCPU 0). So they are queued, and the thread is called back.

use std::mem::discriminant;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use kvm_ioctls::{VcpuExit, VcpuFd};
use parking_lot::Mutex;

use crate::attributes::VcpuAttribute;
use crate::error::Error;
use crate::kick::Kick;

/// What the rest of the VMM has of a vCPU whose `VcpuFd` is its thread's.
#[derive(Debug)]
pub struct VcpuDoor {
    kick: Kick,
    queue: Mutex<Vec<VcpuAttribute>>,
    exits: AtomicU64,
    interrupts: AtomicU64,
}

impl VcpuDoor {
    /// For a vCPU.
    ///
    /// # Errors
    /// [`Error::Ioctl`]: its `kvm_run` cannot be mapped.
    pub fn new(vcpu: &VcpuFd) -> Result<Self, Error> {
        let kick = Kick::new(vcpu).map_err(Error::ioctl("mmap of kvm_run"))?;
        let [exits, interrupts] = [0, 0].map(AtomicU64::new);
        Ok(Self { kick, queue: Mutex::default(), exits, interrupts })
    }

    /// Has an attribute set by the vCPU's thread, before it enters the guest again. What was posted first is set first.
    ///
    /// A vCPU has few attributes, and one that is posted again takes the place of the one that waits: the queue does not
    /// grow, however often a guest asks.
    ///
    /// An attribute that KVM refuses makes [`run`](Self::run) fail, which ends the guest: check before what a guest gives. Without KVM's Xen
    /// support each is refused.
    pub fn post(&self, attribute: VcpuAttribute) {
        put(&mut self.queue.lock(), attribute);
        self.kick.call_back();
    }

    /// Makes the vCPU enter the guest anew, where KVM looks for an upcall. If it is not in the guest it does so anyway.
    pub fn interrupt(&self) {
        self.interrupts.fetch_add(1, Relaxed);
        self.kick.interrupt();
    }

    /// Makes [`run`](Self::run) return, now or when it is next called.
    pub fn call_back(&self) {
        self.kick.call_back();
    }

    /// Runs the guest until it needs the VMM: `KVM_RUN`, on the vCPU's own thread.
    ///
    /// [`VcpuExit::Intr`] if somebody has called back: look for what the VMM has to do, and call again.
    ///
    /// # Errors
    /// [`Error::Ioctl`]: of `KVM_RUN`, or an attribute that was [posted](Self::post).
    pub fn run<'a>(&self, vcpu: &'a mut VcpuFd) -> Result<VcpuExit<'a>, Error> {
        for attribute in std::mem::take(&mut *self.queue.lock()) {
            attribute.set(vcpu)?;
        }
        let result = self.kick.run(|| vcpu.run());
        self.exits.fetch_add(1, Relaxed);
        match result {
            // EAGAIN: a vCPU that waited for its start has been started.
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => Ok(VcpuExit::Intr),
            result => result.map_err(Error::ioctl("KVM_RUN")),
        }
    }

    /// How often `KVM_RUN` has returned.
    #[must_use]
    pub fn exits(&self) -> u64 {
        self.exits.load(Relaxed)
    }

    /// How often the vCPU was to be interrupted, in the guest or not.
    #[must_use]
    pub fn interrupts(&self) -> u64 {
        self.interrupts.load(Relaxed)
    }
}

/// Puts an attribute at the end of the queue, in the place of one of its kind.
fn put(queue: &mut Vec<VcpuAttribute>, attribute: VcpuAttribute) {
    let kind = discriminant(&attribute);
    queue.retain(|queued| discriminant(queued) != kind);
    queue.push(attribute);
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::GuestAddress;

    #[test]
    fn the_last_of_each_kind_waits_in_the_order_in_which_they_came() {
        let mut queue = Vec::new();
        for page in 0..1000 {
            put(&mut queue, VcpuAttribute::VcpuInfo(Some(GuestAddress(page << 12))));
            put(&mut queue, VcpuAttribute::Runstate(None));
        }
        put(&mut queue, VcpuAttribute::VcpuInfo(None));
        assert_eq!(queue, [VcpuAttribute::Runstate(None), VcpuAttribute::VcpuInfo(None)]);
    }
}
