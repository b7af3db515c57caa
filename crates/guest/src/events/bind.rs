// SPDX-License-Identifier: MIT OR Apache-2.0
//! Binding channels, and closing them.

use evtchn_abi::args::{BIND_PIRQ_WILL_SHARE, PhysdevIrqStatusQuery, StatusKind};
use evtchn_abi::{DomId, Errno, Pirq, Port, Priority, VcpuId, Virq};
use evtchn_sync::atomic::Ordering::{Relaxed, SeqCst};

use super::state::{EXPLICIT, LATE, MOVING, NEEDS_EOI, State};
use super::{Channel, ChannelId, Events, Kernel, Share, Source, Storage};
use crate::Abi;

/// When a channel's next event may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Flow {
    /// As soon as the handler has returned. For handlers that do the work themselves.
    #[default]
    Edge,
    /// When the end of the last one has been reported: by the handler's answer, or by [`Events::eoi`]. For channels of
    /// peers that are not trusted, and for work that is done elsewhere: the port is masked meanwhile, and a storm is delayed.
    LateEoi,
}

/// How a channel is to be bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The vCPU that handles its events.
    pub vcpu: VcpuId,
    /// When the next event may come.
    pub flow: Flow,
    /// The priority; `None` leaves it at 7. The two-level ABI has none.
    pub priority: Option<Priority>,
    /// Whether it begins [masked](Events::mask).
    pub masked: bool,
}

impl Settings {
    /// The default settings on this vCPU.
    #[must_use]
    pub fn on(vcpu: VcpuId) -> Self {
        Self { vcpu, ..Self::default() }
    }

    /// The same with the flow [late](Flow::LateEoi).
    #[must_use]
    pub const fn late_eoi(self) -> Self {
        Self { flow: Flow::LateEoi, ..self }
    }

    /// The same with a priority.
    #[must_use]
    pub const fn priority(self, priority: Priority) -> Self {
        Self { priority: Some(priority), ..self }
    }

    /// The same, masked until [`Events::unmask`].
    #[must_use]
    pub const fn masked(self) -> Self {
        Self { masked: true, ..self }
    }
}

/// Where the port of a channel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// It was opened for the channel, and is closed again if that cannot have it.
    Opened,
    /// It is the toolstack's, and stays open then.
    Given,
}

/// # Errors of all that bind
///
/// ENOSPC if there is no record for another channel, or no slot for its port; EAGAIN if another vCPU adds a page to the
/// event array just now; ENOENT if there is no such vCPU; EINVAL if it is not [online](Events::online) and the channel is not its
/// own (those wait for it); and what the hypercall answers. Nothing is bound then.
impl<A: Abi, K: Kernel, S: Storage> Events<A, K, S> {
    /// Binds a virtual interrupt. One that is not per vCPU can be handled by any vCPU.
    ///
    /// If it is bound already, by an earlier kernel in the same domain for instance, that port is used.
    ///
    /// # Errors
    /// See [above](Self#errors-of-all-that-bind); EINVAL if there is no such VIRQ; EEXIST if a channel has it, also one that is
    /// being bound or closed just now.
    pub fn bind_virq(&self, virq: Virq, settings: Settings, handler: S::Handler) -> Result<ChannelId, Errno> {
        let source = Source::Virq(virq, settings.vcpu);
        self.bind(source, settings, handler, Origin::Opened, || self.open(source))
    }

    /// Opens a channel by which this guest's vCPUs signal the one in `settings`, by [`notify`](Self::notify).
    ///
    /// # Errors
    /// See [above](Self#errors-of-all-that-bind).
    pub fn bind_ipi(&self, settings: Settings, handler: S::Handler) -> Result<ChannelId, Errno> {
        let source = Source::Ipi(settings.vcpu);
        self.bind(source, settings, handler, Origin::Opened, || self.open(source))
    }

    /// Binds a physical interrupt. Xen is told of the end of each event, if it wants to know.
    ///
    /// # Errors
    /// See [above](Self#errors-of-all-that-bind); EPERM if the guest may not use it, EBUSY if somebody else does who does not share it.
    pub fn bind_pirq(
        &self,
        pirq: Pirq,
        share: Share,
        settings: Settings,
        handler: S::Handler,
    ) -> Result<ChannelId, Errno> {
        let source = Source::Pirq(pirq, share);
        self.bind(source, settings, handler, Origin::Opened, || self.open(source))
    }

    /// Connects to a port that another domain keeps for this one. The handler is called once at the beginning, in case that
    /// something was sent before.
    ///
    /// # Errors
    /// See [above](Self#errors-of-all-that-bind); EINVAL if the port does not wait for this domain.
    pub fn bind_interdomain(
        &self,
        remote: DomId,
        remote_port: Port,
        settings: Settings,
        handler: S::Handler,
    ) -> Result<ChannelId, Errno> {
        let open = || self.kernel.bind_interdomain(remote, remote_port);
        self.bind(Source::Interdomain(remote), settings, handler, Origin::Opened, open)
    }

    /// Opens a port for another domain to connect to.
    ///
    /// # Errors
    /// See [above](Self#errors-of-all-that-bind).
    pub fn alloc_unbound(
        &self,
        remote: DomId,
        settings: Settings,
        handler: S::Handler,
    ) -> Result<ChannelId, Errno> {
        let open = || self.kernel.alloc_unbound(DomId::SELF, remote);
        self.bind(Source::Interdomain(remote), settings, handler, Origin::Opened, open)
    }

    /// Takes a port that is bound already: those of the store and the console, which the toolstack has opened. It is closed
    /// with the channel, but stays open if it cannot be taken.
    ///
    /// # Errors
    /// See [above](Self#errors-of-all-that-bind); EEXIST if a channel has it; EINVAL if no such port is open.
    pub fn adopt(
        &self,
        port: Port,
        remote: DomId,
        settings: Settings,
        handler: S::Handler,
    ) -> Result<ChannelId, Errno> {
        let source = Source::Interdomain(remote);
        self.bind(source, settings, handler, Origin::Given, || self.take_over(port))
    }

    /// Makes a port that is bound already what it is that was opened just now: Xen tells vCPU 0 of its events.
    pub(super) fn take_over(&self, port: Port) -> Result<Port, Errno> {
        // Port 0 is none; a port that a channel has would be closed with that.
        match self.holder(port) {
            _ if port == Port(0) => Err(Errno::EINVAL),
            Some(_) => Err(Errno::EEXIST),
            None => self.kernel.bind_vcpu(port, VcpuId(0)).map(|()| port),
        }
    }

    /// Closes a channel, and its port. Its handler is not called after this, and dropped; if it runs just now, then when it
    /// has returned.
    ///
    /// If another vCPU is masking or unmasking the port just now, that one closes it. [`is_running`](Self::is_running) says when
    /// nothing of the handler is used any more.
    ///
    /// # Errors
    /// ENOENT if there is no such channel.
    pub fn unbind(&self, channel: ChannelId) -> Result<(), Errno> {
        self.change(channel, |state| Some(state.closing())).map(drop)
    }

    /// Binds a channel to the port that `open` answers.
    fn bind(
        &self,
        source: Source,
        settings: Settings,
        handler: S::Handler,
        origin: Origin,
        open: impl FnOnce() -> Result<Port, Errno>,
    ) -> Result<ChannelId, Errno> {
        self.can_handle(settings.vcpu, source)?;
        let (index, channel, state) = self.reserve().ok_or(Errno::ENOSPC)?;
        // Before the port is open: pairs with `find_virq`.
        channel.begin(source, settings.vcpu, settings.priority);
        let port = open()
            .and_then(|port| self.connect(port, source, settings, origin))
            .inspect_err(|_| channel.put(state.freed()))?;
        channel.set_port(port);
        if let Some(mut place) = channel.handler.try_lock() {
            *place = Some(handler);
        }
        self.give_slot(port, index);
        channel.put(state.bound(self.flags(source, settings) | MOVING));
        let id = ChannelId { index, generation: state.generation() };
        // Unmasks it, if it is not to begin masked.
        self.end_move(id, channel);
        Ok(id)
    }

    /// Takes a free record. Looks for it behind the last that was taken.
    fn reserve(&self) -> Option<(u32, &Channel<S::Handler>, State)> {
        let channels = self.storage.channels();
        let first = self.next_record.load(Relaxed) as usize;
        let order = (first..channels.len()).chain(0..first.min(channels.len()));
        let (index, state) = order
            .filter_map(|index| {
                let channel = channels.get(index)?;
                let state = channel.state();
                let is_ours = state.is_free() && channel.change(state, state.reserved()).is_ok();
                is_ours.then_some((u32::try_from(index).ok()?, state))
            })
            .next()?;
        self.next_record.store(index + 1, Relaxed);
        Some((index, channels.get(index as usize)?, state))
    }

    /// Opens a port of a kind that can be opened again when the guest is resumed.
    pub(super) fn open(&self, source: Source) -> Result<Port, Errno> {
        match source {
            Source::Virq(virq, vcpu) => {
                let at = if source.is_fixed() { vcpu } else { VcpuId(0) };
                match self.kernel.bind_virq(virq, at) {
                    Err(Errno::EEXIST) => self.find_virq(virq, at).ok_or(Errno::EEXIST),
                    port => port,
                }
            }
            Source::Ipi(vcpu) => self.kernel.bind_ipi(vcpu),
            Source::Pirq(pirq, Share::No) => self.kernel.bind_pirq(pirq, 0),
            Source::Pirq(pirq, Share::Yes) => self.kernel.bind_pirq(pirq, BIND_PIRQ_WILL_SHARE),
            // Who opens it is asked by whoever binds it: the other end has to agree.
            Source::Interdomain(_) => Err(Errno::EINVAL),
        }
    }

    /// The port of a VIRQ that is bound already, and that no channel has, none is being bound to, and none is just closing.
    fn find_virq(&self, virq: Virq, vcpu: VcpuId) -> Option<Port> {
        let is_global = !Source::Virq(virq, vcpu).is_fixed();
        let is_it =
            |source| matches!(source, Source::Virq(other, at) if other == virq && (is_global || at == vcpu));
        let claims = self
            .storage
            .channels()
            .iter()
            .filter(|channel| !channel.state().is_free() && is_it(channel.source()));
        // Besides the channel that asks.
        if claims.count() > 1 {
            return None;
        }
        let ports = (1..self.storage.ports().len()).filter_map(|port| u32::try_from(port).ok()).map(Port);
        for port in ports {
            match self.kernel.status(DomId::SELF, port) {
                // Of a global one whatever vCPU handles it.
                Ok(status)
                    if status.kind() == Some(StatusKind::Virq(virq))
                        && (is_global || status.vcpu == vcpu) =>
                {
                    if self.holder(port).is_none() {
                        return if is_global { self.take_over(port).ok() } else { Some(port) };
                    }
                }
                // There is none beyond.
                Err(Errno::EINVAL) => return None,
                // Another kind, or Xen's own.
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    /// Makes a port ready that has just been opened: there is room for it, it is masked, and its vCPU and priority are chosen.
    pub(super) fn connect(
        &self,
        port: Port,
        source: Source,
        settings: Settings,
        origin: Origin,
    ) -> Result<Port, Errno> {
        let chosen = self.make_room(port).and_then(|()| self.choose(port, source, settings));
        chosen.map(|()| port).inspect_err(|_| {
            self.abi.unbind(port);
            if origin == Origin::Opened {
                // It was open; there is nothing else to be done about it.
                let _ = self.kernel.close(port);
            }
        })
    }

    fn make_room(&self, port: Port) -> Result<(), Errno> {
        self.storage.ports().get(port.0 as usize).ok_or(Errno::ENOSPC)?;
        self.abi.cover(port, &self.kernel)?;
        self.abi.mask(port);
        Ok(())
    }

    fn choose(&self, port: Port, source: Source, settings: Settings) -> Result<(), Errno> {
        if !source.is_fixed() && settings.vcpu != VcpuId(0) {
            // Xen tells vCPU 0 of a new port's events until it knows better, and on behalf of a sender who has looked before that.
            self.abi.bind(port, VcpuId(0));
            self.kernel.bind_vcpu(port, settings.vcpu)?;
        }
        if let Some(priority) = settings.priority {
            match self.kernel.set_priority(port, priority) {
                Ok(()) | Err(Errno::ENOSYS) => {}
                Err(error) => return Err(error),
            }
        }
        self.abi.bind(port, settings.vcpu);
        Ok(())
    }

    pub(super) fn give_slot(&self, port: Port, index: u32) {
        if let Some(slot) = self.storage.ports().get(port.0 as usize) {
            slot.channel.store(index + 1, SeqCst);
        }
    }

    fn flags(&self, source: Source, settings: Settings) -> u32 {
        let late = if settings.flow == Flow::LateEoi { LATE } else { 0 };
        let explicit = if settings.masked { EXPLICIT } else { 0 };
        let needs_eoi = if self.needs_eoi(source) { NEEDS_EOI } else { 0 };
        late | explicit | needs_eoi
    }

    fn needs_eoi(&self, source: Source) -> bool {
        let Source::Pirq(pirq, _) = source else { return false };
        // A hypervisor that cannot be asked is told: an end too many does no harm.
        let status = self.kernel.pirq_status(pirq);
        status.map_or(true, |status| status.flags & PhysdevIrqStatusQuery::NEEDS_EOI != 0)
    }
}
