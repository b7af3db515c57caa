// SPDX-License-Identifier: MIT OR Apache-2.0
//! KVM's side of one domain: what the engine's hooks do there.

use std::os::fd::AsRawFd;
use std::sync::Arc;

use evtchn_abi::{CallbackVia, DomId, Gfn, VcpuId};
use evtchn_engine::{Action, Callback, Engine, Hooks, Observed, OffloadRoute, Upcall, VcpuInfoPlace};
use evtchn_sync::PAGE_SIZE;
use evtchn_vm_memory::{GuestPage, pin};
use kvm_bindings::kvm_msi;
use kvm_ioctls::{VcpuFd, VmFd};
use parking_lot::{Mutex, MutexGuard};
use vm_memory::bitmap::Bitmap;
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::errno;

use crate::attributes::{VcpuAttribute, VmAttribute};
use crate::error::Error;
use crate::offload;
use crate::vcpu::VcpuDoor;

/// Where a message-signalled interrupt for a local APIC is written to; the APIC's id is in bits 12 to 19.
const MSI_BASE: u32 = 0xfee0_0000;

/// Vectors below are exceptions. Xen lets a guest choose one; KVM injects none, and such a guest gets no upcalls.
const LOWEST_VECTOR: u8 = 0x10;

/// How much KVM does for the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// Its Xen support is [switched on](crate::XenCapabilities::enable).
    Xen {
        /// Was it allowed to carry out sends?
        sends: bool,
    },
    /// It knows nothing of Xen: hypercalls come by [a port](crate::port_page), upcalls go by a vector of each vCPU.
    Ports,
}

/// A vCPU of a machine, as it is before it runs.
#[derive(Debug)]
pub struct NewVcpu<'a> {
    /// The vCPU; its place in the list is its number in Xen, which must be its number in KVM.
    pub fd: &'a VcpuFd,
    /// The id of its local APIC. Ids from 255 up need `KVM_CAP_X2APIC_API` with both of its flags: without them KVM takes 255 for all
    /// vCPUs, and looks at 8 bits of those above.
    pub apic_id: u32,
}

/// A domain that is a virtual machine of KVM's.
///
/// Its methods are what the engine's [`Hooks`] call for this domain: [`deliver`](Self::deliver), [`pin`](Self::pin),
/// [`observe`](Self::observe), [`offload`](Self::offload) and [`unload`](Self::unload).
#[derive(Debug)]
pub struct KvmDomain<B = ()> {
    id: DomId,
    vm: Arc<VmFd>,
    memory: GuestMemoryMmap<B>,
    interface: Interface,
    vcpus: Box<[(Arc<VcpuDoor>, u32)]>,
    /// Held from the look at the engine until KVM is told: what has changed meanwhile is told later.
    telling: Mutex<()>,
}

impl<B: Bitmap + Send + Sync> KvmDomain<B> {
    /// For a machine that does not run yet. Tells KVM that it is one of 64 bits, and the vCPUs' numbers.
    ///
    /// # Errors
    /// [`Error::Ioctl`].
    pub fn new(
        id: DomId,
        vm: Arc<VmFd>,
        memory: GuestMemoryMmap<B>,
        interface: Interface,
        vcpus: &[NewVcpu<'_>],
    ) -> Result<Self, Error> {
        if matches!(interface, Interface::Xen { .. }) {
            VmAttribute::LongMode(true).set(&vm)?;
            for (number, vcpu) in (0..).zip(vcpus) {
                VcpuAttribute::VcpuId(number).set(vcpu.fd)?;
            }
        }
        let door = |vcpu: &NewVcpu<'_>| Ok((Arc::new(VcpuDoor::new(vcpu.fd)?), vcpu.apic_id));
        let vcpus = vcpus.iter().map(door).collect::<Result<_, Error>>()?;
        Ok(Self { id, vm, memory, interface, vcpus, telling: Mutex::default() })
    }

    /// The domain's id.
    pub fn id(&self) -> DomId {
        self.id
    }

    /// How much KVM does for it.
    pub fn interface(&self) -> Interface {
        self.interface
    }

    /// Its memory.
    pub fn memory(&self) -> &GuestMemoryMmap<B> {
        &self.memory
    }

    /// Its machine.
    pub fn vm(&self) -> &VmFd {
        &self.vm
    }

    /// How many vCPUs it has.
    pub fn vcpus(&self) -> usize {
        self.vcpus.len()
    }

    /// The door to a vCPU.
    ///
    /// # Errors
    /// [`Error::NoVcpu`].
    pub fn vcpu(&self, vcpu: VcpuId) -> Result<&Arc<VcpuDoor>, Error> {
        self.entry(vcpu).map(|(door, _)| door)
    }

    fn entry(&self, vcpu: VcpuId) -> Result<&(Arc<VcpuDoor>, u32), Error> {
        let entry = usize::try_from(vcpu.0).ok().and_then(|index| self.vcpus.get(index));
        entry.ok_or(Error::NoVcpu(vcpu.0))
    }

    fn has_xen(&self) -> bool {
        matches!(self.interface, Interface::Xen { .. })
    }

    /// [`Hooks::deliver`]: brings an upcall to a vCPU.
    ///
    /// * The domain's vector: KVM injects it by itself while `evtchn_upcall_pending` is set in the vcpu_info that it knows; the
    ///   vCPU is made to enter the guest anew.
    /// * The vCPU's own vector: an MSI to its local APIC. While the guest has not switched that on, or has given it another id,
    ///   it is lost.
    ///
    /// # Errors
    /// What a guest has chosen that there is not: [`Error::Line`] for an interrupt line, which the VMM asserts while
    /// [`Engine::pending_upcall`] says so, if it has lines; [`Error::NoVector`]. They are no reason to end anything.
    ///
    /// [`Error::NoVcpu`], [`Error::Ioctl`].
    pub fn deliver(&self, vcpu: VcpuId, upcall: Upcall) -> Result<(), Error> {
        let (door, apic_id) = self.entry(vcpu)?;
        match upcall {
            Upcall::Vector(_) if self.has_xen() => {
                door.interrupt();
                Ok(())
            }
            Upcall::Vector(vector) => Err(Error::NoVector(vector)),
            Upcall::VcpuVector(vector) => signalled(self.vm.signal_msi(message(*apic_id, vector))),
            line => Err(Error::Line(line)),
        }
    }

    /// [`Hooks::pin`]: a page of the guest's memory.
    pub fn pin(&self, gfn: Gfn) -> Option<GuestPage<B>> {
        pin(&self.memory, gfn)
    }

    /// [`Hooks::observe`]: tells KVM what has changed for upcalls. Events of other domains are nothing.
    ///
    /// A guest without interrupt controllers ([`DomainConfig::nr_gsis`](evtchn_engine::DomainConfig::nr_gsis) is 0) cannot give up its
    /// global vector, but this takes it for given up if it tries; [`sync`](Self::sync) puts that right.
    ///
    /// # Errors
    /// [`Error::Ioctl`], [`Error::NoVcpu`].
    pub fn observe(&self, event: &Observed) -> Result<(), Error> {
        match *event {
            Observed::Action { domain, action, result: Ok(()) } if domain == self.id && self.has_xen() => {
                self.acted(action)
            }
            _ => Ok(()),
        }
    }

    fn acted(&self, action: Action) -> Result<(), Error> {
        match action {
            // KVM looks there when the vCPU is entered, for which it is called back: an upcall that is pending there already
            // is not missed.
            Action::RegisterVcpuInfo { vcpu, gfn, offset } => {
                let _telling = self.telling.lock();
                let place = address(gfn, offset as usize);
                self.vcpu(vcpu)?.post(VcpuAttribute::VcpuInfo(Some(place)));
                Ok(())
            }
            Action::SetCallback(param) => {
                let _telling = self.telling.lock();
                self.set_vector(CallbackVia::from_param(param).into())
            }
            // For the events that KVM raises itself; ours go as MSIs.
            Action::SetUpcallVector { vcpu, vector } => {
                let _telling = self.telling.lock();
                self.vcpu(vcpu)?.post(VcpuAttribute::UpcallVector(vector));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn set_vector(&self, callback: Callback) -> Result<(), Error> {
        VmAttribute::UpcallVector(injected(callback)).set(&self.vm)?;
        // An upcall may have been delivered before KVM knew how.
        self.vcpus.iter().for_each(|(door, _)| door.interrupt());
        Ok(())
    }

    /// Gives a frame of the guest's memory to the engine and to KVM as shared_info, or takes it away.
    ///
    /// # Errors
    /// [`Error::NoPage`]; [`Error::Engine`]; [`Error::Ioctl`].
    pub fn set_shared_info<H>(&self, engine: &Engine<H>, gfn: Option<Gfn>) -> Result<(), Error>
    where
        H: Hooks<Page = GuestPage<B>>,
    {
        let page = gfn.map(|gfn| self.pin(gfn).ok_or(Error::NoPage(gfn.0))).transpose()?;
        let telling = self.telling.lock();
        drop(engine.set_shared_info(self.id, page)?);
        self.tell(engine, gfn, &telling)
    }

    /// Tells KVM all that the engine knows of the domain's upcalls: shared_info, which is at `shared_info`, each vCPU's
    /// vcpu_info, there or where it is registered, and the vectors. After the domain's state was restored, in a new machine too, and
    /// after [`Engine::drop_vcpu_infos`].
    ///
    /// What the engine does not know is the VMM's to restore: runstate areas, the guest's clock.
    ///
    /// # Errors
    /// [`Error::Engine`] if the engine does not know the domain or has fewer vCPUs for it; [`Error::Ioctl`].
    pub fn sync<H: Hooks>(&self, engine: &Engine<H>, shared_info: Option<Gfn>) -> Result<(), Error> {
        self.tell(engine, shared_info, &self.telling.lock())
    }

    fn tell<H: Hooks>(
        &self,
        engine: &Engine<H>,
        shared_info: Option<Gfn>,
        _telling: &MutexGuard<'_, ()>,
    ) -> Result<(), Error> {
        if !self.has_xen() {
            return Ok(());
        }
        VmAttribute::SharedInfo(shared_info.map(|gfn| gfn.0)).set(&self.vm)?;
        for ((door, _), vcpu) in self.vcpus.iter().zip((0..).map(VcpuId)) {
            let place = engine.vcpu_info(self.id, vcpu)?;
            door.post(VcpuAttribute::VcpuInfo(vcpu_info(place, shared_info)));
            door.post(VcpuAttribute::UpcallVector(engine.upcall_vector(self.id, vcpu)?.unwrap_or(0)));
        }
        self.set_vector(engine.callback(self.id)?)
    }

    /// The guest's system time in nanoseconds: what its deadlines are in, and what KVM writes into its vcpu_infos.
    ///
    /// # Errors
    /// [`Error::Ioctl`].
    pub fn now(&self) -> Result<u64, Error> {
        self.vm.get_clock().map(|clock| clock.clock).map_err(Error::ioctl("KVM_GET_CLOCK"))
    }

    /// [`Hooks::offload`], for the sender's domain: may KVM carry out this route within it? Only if it was
    /// [allowed](Interface::Xen) to send at all.
    #[must_use]
    pub fn offload(&self, route: &OffloadRoute) -> bool {
        let plan = offload::within(self.id, self.interface, route);
        plan.is_some_and(|attribute| attribute.set(&self.vm).is_ok())
    }

    /// The same for a route to another domain. `eventfd` is an irqfd of that machine by then, for an interrupt whose entry of the
    /// routing table is [`routing_entry`](crate::routing_entry)'s.
    ///
    /// [`unload`](Self::unload) takes it back; the irqfd is taken off after that, by which KVM waits for what has been signalled.
    #[must_use]
    pub fn offload_to(&self, route: &OffloadRoute, eventfd: &impl AsRawFd) -> bool {
        let plan = offload::away(self.id, self.interface, route, eventfd.as_raw_fd());
        plan.is_some_and(|attribute| attribute.set(&self.vm).is_ok())
    }

    /// [`Hooks::unload`]: takes a route back. KVM waits for sends that are under way.
    ///
    /// # Errors
    /// [`Error::Ioctl`]: the kernel does not know the route.
    pub fn unload(&self, route: &OffloadRoute) -> Result<(), Error> {
        VmAttribute::NoSend { port: route.sender_port.0 }.set(&self.vm)
    }
}

/// Where a vcpu_info is in the guest's memory.
fn vcpu_info(place: VcpuInfoPlace, shared_info: Option<Gfn>) -> Option<GuestAddress> {
    match place {
        VcpuInfoPlace::Nowhere => None,
        VcpuInfoPlace::SharedInfo { offset } => shared_info.map(|gfn| address(gfn, offset)),
        VcpuInfoPlace::Registered { gfn, offset } => Some(address(gfn, offset)),
    }
}

/// The vector that KVM is to inject; 0 for none.
fn injected(callback: Callback) -> u8 {
    match callback {
        Callback::Via(CallbackVia::Vector(vector)) if vector >= LOWEST_VECTOR => vector,
        _ => 0,
    }
}

/// Where something is that lies `offset` bytes into a frame. Only for frames that exist.
fn address(gfn: Gfn, offset: usize) -> GuestAddress {
    GuestAddress(gfn.0.wrapping_mul(PAGE_SIZE as u64).wrapping_add(offset as u64))
}

/// An interrupt of a vector to a local APIC. Ids above 255 need KVM's x2APIC format, in which `address_hi` has their upper bits.
fn message(apic_id: u32, vector: u8) -> kvm_msi {
    kvm_msi {
        address_lo: MSI_BASE | (apic_id & 0xff) << 12,
        address_hi: apic_id & !0xff,
        data: vector.into(),
        ..kvm_msi::default()
    }
}

/// What has become of an interrupt. That no APIC has this id, which KVM calls EPERM, is the guest's own affair: it may have
/// changed its ids.
fn signalled(result: errno::Result<i32>) -> Result<(), Error> {
    match result {
        Err(error) if error.errno() != libc::EPERM => Err(Error::ioctl("KVM_SIGNAL_MSI")(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_that_no_apic_takes_is_no_error_of_the_vmms() {
        assert_eq!(signalled(Ok(1)), Ok(()));
        assert_eq!(signalled(Ok(0)), Ok(()), "the APIC is switched off");
        assert_eq!(signalled(Err(errno::Error::new(libc::EPERM))), Ok(()), "no APIC has this id");
        let error = errno::Error::new(libc::EINVAL);
        assert_eq!(signalled(Err(error)), Err(Error::Ioctl { name: "KVM_SIGNAL_MSI", error }));
    }

    #[test]
    fn kvm_is_told_of_no_vector_that_it_would_refuse() {
        assert_eq!(injected(CallbackVia::Vector(0xf3).into()), 0xf3);
        assert_eq!(injected(CallbackVia::Vector(0x10).into()), 0x10);
        for none in
            [CallbackVia::Vector(0xf), CallbackVia::Vector(0), CallbackVia::Gsi(0xf3), CallbackVia::None]
        {
            assert_eq!(injected(none.into()), 0, "{none:?}");
        }
    }

    #[test]
    fn kvm_looks_where_the_engine_writes() {
        let at = |place| vcpu_info(place, Some(Gfn(2))).map(|address| address.0);
        assert_eq!(at(VcpuInfoPlace::SharedInfo { offset: 0x40 }), Some(0x2040));
        assert_eq!(at(VcpuInfoPlace::Registered { gfn: Gfn(0x10_0000), offset: 0xfc0 }), Some(0x1_0000_0fc0));
        assert_eq!(at(VcpuInfoPlace::Nowhere), None);
        assert_eq!(vcpu_info(VcpuInfoPlace::SharedInfo { offset: 0x40 }, None), None);
    }

    #[test]
    fn a_message_names_the_apic_and_the_vector() {
        let small = message(3, 0xf3);
        assert_eq!((small.address_lo, small.address_hi, small.data), (0xfee0_3000, 0, 0xf3));
        let large = message(0x1_02, 0x20);
        assert_eq!((large.address_lo, large.address_hi), (0xfee0_2000, 0x100));
    }
}
