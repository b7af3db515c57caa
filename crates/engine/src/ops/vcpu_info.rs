// SPDX-License-Identifier: MIT OR Apache-2.0
//! `VCPUOP_register_vcpu_info`: a vCPU's vcpu_info moves into memory of the guest's choice.
//!
//! ```text
//! register:  copy the old one | publish the new one | wait for readers | set all of S, set U, deliver
//! ```
//!
//! A sender that found the old one may set bits in it after they were copied. It is a reader, and it has set the port's
//! pending bit before; so when the whole selector is set, the guest finds that port.

use evtchn_abi::{DomId, Gfn, VcpuId};
use evtchn_sync::{PAGE_SIZE, enter, try_box, wait_for_readers};

use crate::action::Action;
use crate::config::Width;
use crate::deliver::Effect;
use crate::domain::Domain;
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::vcpu_info::{Area, VcpuInfoPlace};

impl<H: Hooks> Engine<H> {
    /// `VCPUOP_register_vcpu_info`: moves the vcpu_info of a vCPU of `caller`'s to `offset` bytes into the frame
    /// `gfn`, once and for all. Those of vCPUs from 32 up are nowhere before that.
    ///
    /// The contents move with it; if it was nowhere it begins as zeroes, with `evtchn_upcall_mask` set. Then the whole
    /// selector is set and an upcall delivered, so that the guest looks at all its ports once.
    ///
    /// A [`reset`](Engine::reset) leaves it where it is; see [`drop_vcpu_infos`](Engine::drop_vcpu_infos). Its clock is
    /// the embedder's to fill in.
    ///
    /// # Errors
    /// With [`Level::Current`](crate::Level::Current), in this order: ENOENT if there is no such vCPU; EINVAL for a frame beyond 52 bits, or
    /// an offset of 4096 and more; EBUSY if it has been registered before; ENXIO if it does not lie wholly in the page,
    /// or is not aligned to the guest's word; EINVAL if [`Hooks::pin`] refuses the frame, EACCES if
    /// [that](Hooks::is_read_only) is because it is read-only; ENOMEM. With [`Level::Xen4_17`](crate::Level::Xen4_17): ENOENT, ENXIO, and EINVAL
    /// for all the rest. EINVAL while the domain is being destroyed. EOPNOTSUPP if the
    /// domain is a sink.
    pub fn register_vcpu_info(
        &self,
        caller: DomId,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: u32,
    ) -> Result<(), OpError> {
        self.register_vcpu_info_by(&*self.domain(caller)?, vcpu, vcpu, gfn, offset)
    }

    /// As `register_vcpu_info`, called by vCPU `current`.
    pub(crate) fn register_vcpu_info_by(
        &self,
        caller: &Domain<H::Page>,
        current: VcpuId,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: u32,
    ) -> Result<(), OpError> {
        let result = self.move_vcpu_info(caller, current, vcpu, gfn, offset);
        self.acted(caller.id, Action::RegisterVcpuInfo { vcpu, gfn, offset }, result)
    }

    fn move_vcpu_info(
        &self,
        caller: &Domain<H::Page>,
        current: VcpuId,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: u32,
    ) -> Result<(), OpError> {
        if caller.is_sink() {
            return Err(OpError::NotSupported);
        }
        caller.vcpu(vcpu)?;
        let own = current == vcpu || self.level.moves_vcpu_info_of_others();
        if !own && self.hooks.is_online(caller.id, vcpu) {
            in_page(caller.width(), offset)?;
            return Err(OpError::VcpuIsOnline);
        }
        self.publish_area(caller, vcpu, gfn, offset)?;
        wait_for_readers();
        let told = caller.announce_all(vcpu, &enter());
        self.fire(Effect::Told(caller.id, told));
        Ok(())
    }

    fn publish_area(
        &self,
        domain: &Domain<H::Page>,
        vcpu: VcpuId,
        gfn: Gfn,
        offset: u32,
    ) -> Result<(), OpError> {
        let registered = &domain.vcpu(vcpu)?.area;
        let events = domain.event.lock();
        let offset = self.check_place(domain, registered.is_some(), gfn, offset)?;
        if events.dying {
            return Err(OpError::Dying);
        }
        let page = self.hooks.pin(domain.id, gfn).ok_or_else(|| self.frame_error(domain.id, gfn))?;
        let area = try_box(Area { page, gfn, offset }).ok_or(OpError::OutOfMemory)?;
        domain.move_vcpu_info(vcpu, &area, &enter());
        drop(registered.replace(Some(area))); // there was none
        Ok(())
    }

    /// Where in the page it is to begin.
    fn check_place(
        &self,
        domain: &Domain<H::Page>,
        is_registered: bool,
        gfn: Gfn,
        offset: u32,
    ) -> Result<usize, OpError> {
        if self.level.tells_vcpu_info_errors() {
            is_address(gfn, offset)?;
            if is_registered { Err(OpError::HasVcpuInfo) } else { in_page(domain.width(), offset) }
        } else {
            let offset = in_page(domain.width(), offset)?;
            if is_registered { Err(OpError::Invalid) } else { Ok(offset) }
        }
    }

    /// Where in the page one begins that was registered some time ago. The guest may have changed its width since, so
    /// what either width allows is right.
    ///
    /// # Errors
    /// As for registering it.
    pub(crate) fn check_old_place(&self, gfn: Gfn, offset: u32) -> Result<usize, OpError> {
        if self.level.tells_vcpu_info_errors() {
            is_address(gfn, offset)?;
        }
        in_page(Width::Bits32, offset)
    }

    /// Why a frame could not be pinned.
    fn frame_error(&self, domain: DomId, gfn: Gfn) -> OpError {
        let tells = self.level.tells_vcpu_info_errors();
        if tells && self.hooks.is_read_only(domain, gfn) { OpError::ReadOnlyFrame } else { OpError::BadFrame }
    }

    /// Drops all registered vcpu_infos of a domain, whose vCPUs use those in shared_info again, and may register new
    /// ones. Together with a [`reset`](Engine::reset) this is what a soft reset (`XEN_DOMCTL_soft_reset`)
    /// does to event channels.
    ///
    /// Nothing is copied. When this returns, no thread uses the pages any more.
    ///
    /// # Errors
    /// ESRCH if there is no such domain.
    pub fn drop_vcpu_infos(&self, domain: DomId) -> Result<(), OpError> {
        let result = self.domain(domain).map(|domain| drop_areas(&domain));
        self.acted(domain, Action::DropVcpuInfos, result)
    }

    /// Where a vCPU's vcpu_info is now.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, ENOENT if there is no such vCPU.
    pub fn vcpu_info(&self, domain: DomId, vcpu: VcpuId) -> Result<VcpuInfoPlace, OpError> {
        let guard = enter();
        let domain = self.peek(domain, &guard)?;
        Ok(domain.vcpu_info_place(domain.vcpu(vcpu)?, vcpu, &guard))
    }
}

/// Drops all registered vcpu_infos. The caller is no reader and holds no lock.
pub(crate) fn drop_areas<P>(domain: &Domain<P>) {
    for vcpu in &domain.vcpus {
        let area = {
            let _events = domain.event.lock();
            vcpu.area.replace(None)
        };
        drop(area); // waits for readers, if there was one
    }
}

/// Is there a guest address that is `offset` bytes into the frame?
fn is_address(gfn: Gfn, offset: u32) -> Result<(), OpError> {
    let last = u64::MAX / PAGE_SIZE as u64;
    let inside = (offset as usize) < PAGE_SIZE;
    // The very last address stands for none.
    let none = gfn.0 == last && offset as usize == PAGE_SIZE - 1;
    (gfn.0 <= last && inside && !none).then_some(()).ok_or(OpError::Invalid)
}

/// Where a vcpu_info may begin: wholly inside its page, aligned.
fn in_page(width: Width, offset: u32) -> Result<usize, OpError> {
    let (layout, offset) = (width.layout(), offset as usize);
    let fits = offset <= PAGE_SIZE - layout.vcpu_info_size && offset.is_multiple_of(layout.word_size);
    fits.then_some(offset).ok_or(OpError::Misplaced)
}
