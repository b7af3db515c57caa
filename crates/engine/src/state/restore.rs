// SPDX-License-Identifier: MIT OR Apache-2.0
//! Restoring.
//!
//! In three parts: everything that can fail, on domains that nobody sees yet; publishing them, under the registry's
//! lock; and saying again what is pending, as any reader does.

use alloc::sync::Arc;
use alloc::vec::Vec;

use evtchn_abi::fifo::Priority;
use evtchn_abi::{DomId, Gfn, Pirq, Port, VcpuId, Virq};
use evtchn_sync::enter;

use super::check::{self, find_port};
use super::error::{DomainError, RestoreError};
use super::save::find;
use super::{BindingState, DeliveryState, DomainState, FifoState, MachineState, PortState, push};
use crate::channel::{Binding, Consumer, QueueId, State};
use crate::deliver::Effect;
use crate::domain::{Domain, Events};
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;
use crate::locks::Pair;
use crate::ops::bind_interdomain::accepting;
use crate::ops::fifo::{block_offset, new_fifo};
use crate::table::BUCKET;

/// A domain that is about to be restored, with its state.
type Fresh<'s, H> = (&'s DomainState, Arc<Domain<<H as Hooks>::Page>>);

impl<H: Hooks> Engine<H> {
    /// Restores a domain beside those that there are. Its shared_info, and the frames that [`Hooks::pin`] gives, have the
    /// contents that they had, or later ones; [`state`](crate::state) says more.
    ///
    /// Its channels are connected again where the peer's port waits for the domain, else they become unbound. It is
    /// not made a handler of VIRQs, but for the hardware domain if there is none.
    ///
    /// # Errors
    /// A state that no engine saves, or of a version that is not known; an id that is in use; a page for a sink; a frame or
    /// a PIRQ that the hooks refuse; no memory.
    pub fn restore_domain(
        &self,
        state: &DomainState,
        shared_info: Option<H::Page>,
    ) -> Result<(), RestoreError> {
        let wrong = |wrong| RestoreError::Domain(DomId(state.id), wrong);
        check::domain(state, |virq| self.class(virq).ok())?;
        let alone = core::slice::from_ref(state);
        check::peers(state, alone, false).map_err(wrong)?;
        if shared_info.is_some() && state.config.delivery == DeliveryState::Sink {
            return Err(wrong(DomainError::SharedInfo));
        }
        let fresh = [(state, self.build(state, alone, shared_info).map_err(wrong)?)];
        self.publish(&fresh, None)?;
        self.offer_routes(&fresh[0]);
        self.rejoin(&fresh[0]);
        self.announce_all(&fresh[0]);
        Ok(())
    }

    /// Restores a whole machine into an engine without domains. `shared_info` gives the page of each domain that is no
    /// sink.
    ///
    /// The engine's [`Level`](crate::Level) should be that of the engine that saved it.
    ///
    /// # Errors
    /// As [`restore_domain`](Engine::restore_domain); besides, an engine that has domains, a port whose peer is not in
    /// the state, and a wrong handler of a VIRQ.
    pub fn restore(
        &self,
        state: &MachineState,
        mut shared_info: impl FnMut(DomId) -> Option<H::Page>,
    ) -> Result<(), RestoreError> {
        check::machine(state, |virq| self.class(virq).ok())?;
        let mut fresh = Vec::new();
        for domain in &state.domains {
            let id = DomId(domain.id);
            let shared_info = (domain.config.delivery == DeliveryState::Shared).then(|| shared_info(id));
            let built = self.build(domain, &state.domains, shared_info.flatten());
            let built = built.map_err(|wrong| RestoreError::Domain(id, wrong))?;
            push(&mut fresh, (domain, built)).map_err(|_| RestoreError::OutOfMemory)?;
        }
        self.publish(&fresh, Some(state))?;
        fresh.iter().for_each(|fresh| self.offer_routes(fresh));
        fresh.iter().for_each(|fresh| self.announce_all(fresh));
        Ok(())
    }

    /// Makes a domain of a state that was checked; `domains` are those that are restored with it.
    fn build(
        &self,
        state: &DomainState,
        domains: &[DomainState],
        shared_info: Option<H::Page>,
    ) -> Result<Arc<Domain<H::Page>>, DomainError> {
        let domain = Domain::new(DomId(state.id), state.config.into()).map_err(no_memory)?;
        domain.set_width(state.width.into());
        domain.set_paused(state.paused);
        domain.set_auto_unmask(state.auto_unmask);
        domain.set_suspend_port(Port(state.suspend_port.unwrap_or(0)));
        state.callback.restore_to(&domain.callback);
        self.build_vcpus(&domain, &state.vcpus)?;
        drop(domain.shared_info.replace(shared_info.map(alloc::boxed::Box::new))); // there was none
        let mut events = domain.event.lock();
        events.reset = state.reset.map(Port);
        events.dying = state.teardown.is_some();
        events.teardown = state.teardown.map(Port);
        (BUCKET..state.records)
            .step_by(BUCKET as usize)
            .try_for_each(|_| events.ports.grow(&domain.channels).map_err(no_memory))?;
        for port in &state.ports {
            self.open(&domain, &mut events, port, domains)?;
        }
        drop(events);
        if let Some(fifo) = &state.fifo {
            self.build_fifo(&domain, fifo)?;
        }
        Ok(Arc::new(domain))
    }

    fn open(
        &self,
        domain: &Domain<H::Page>,
        events: &mut Events,
        state: &PortState,
        domains: &[DomainState],
    ) -> Result<(), DomainError> {
        let port = Port(state.port);
        let Some(channel) = domain.channels.get(port) else { return Err(DomainError::PortRange(state.port)) };
        let vcpu = VcpuId(state.vcpu);
        let binding = binding(state, domains);
        match binding.state {
            State::Virq(virq) => self.claim_virq(domain, virq, vcpu, port)?,
            State::Pirq(pirq) => claim_pirq(domain, pirq, port, shares(state.binding))?,
            State::Free
            | State::Reserved
            | State::Unbound { .. }
            | State::Interdomain { .. }
            | State::Ipi => {}
        }
        events.ports.claim(port);
        if binding.consumer.is_some() {
            events.ports.count_xen(true);
        }
        channel.set_target(QueueId { vcpu, priority: Priority(state.priority) });
        channel.set(binding);
        Ok(())
    }

    fn claim_virq(
        &self,
        domain: &Domain<H::Page>,
        virq: Virq,
        vcpu: VcpuId,
        port: Port,
    ) -> Result<(), DomainError> {
        let table = self.virq_table(domain, virq, vcpu).ok_or(DomainError::Virq(port.0))?;
        if table.virq(virq).is_some() {
            return Err(DomainError::VirqTwice(port.0));
        }
        table.set_virq(virq, port);
        Ok(())
    }

    fn build_fifo(&self, domain: &Domain<H::Page>, state: &FifoState) -> Result<(), DomainError> {
        let fifo = new_fifo(domain).map_err(no_memory)?;
        let pin = |gfn| self.hooks.pin(domain.id, Gfn(gfn)).ok_or(DomainError::Frame(gfn));
        for control in &state.controls {
            let offset = block_offset(control.offset).map_err(|_| DomainError::Control(control.vcpu))?;
            fifo.set_control(VcpuId(control.vcpu), pin(control.gfn)?, Gfn(control.gfn), offset);
        }
        for &gfn in &state.array {
            fifo.add_page(pin(gfn)?, Gfn(gfn));
        }
        for tail in &state.tails {
            let queue = QueueId { vcpu: VcpuId(tail.vcpu), priority: Priority(tail.priority) };
            if !fifo.set_tail(queue, Port(tail.port), &domain.channels) {
                return Err(DomainError::Tail(tail.port));
            }
        }
        for channel in state.kept.iter().filter_map(|&port| domain.channels.get(Port(port))) {
            channel.save_event();
        }
        drop(domain.fifo.replace(Some(fifo))); // there was none
        Ok(())
    }

    /// Lets everybody see the domains: all of them, or none. If they are those of a machine, there must be no other.
    fn publish(&self, fresh: &[Fresh<'_, H>], machine: Option<&MachineState>) -> Result<(), RestoreError> {
        let _registry = self.registry.lock();
        if machine.is_some() && self.domains.iter(&enter()).next().is_some() {
            return Err(RestoreError::NotEmpty);
        }
        for (_, domain) in fresh {
            let entry = self.domains.need(domain.id).map_err(|_| RestoreError::OutOfMemory)?;
            if entry.is_some() {
                return Err(RestoreError::Domain(domain.id, DomainError::Exists));
            }
        }
        self.connect_lines(fresh)?;
        // Nothing fails any more.
        for (state, domain) in fresh {
            let guard = enter();
            let fifo = domain.fifo.load(&guard).zip(state.fifo.as_ref());
            fifo.inspect(|(fifo, state)| fifo.rewind(&state.linked));
        }
        for (state, domain) in fresh {
            if machine.is_none() && state.config.hardware {
                self.handlers.offer_hardware(domain.id);
            }
            if let Some(entry) = self.domains.entry(domain.id) {
                drop(entry.replace(Some(domain.clone()))); // there was none
            }
        }
        machine.inspect(|machine| self.appoint(machine));
        Ok(())
    }

    /// Gives a machine's domains the VIRQs that they handled. Under the registry's lock.
    fn appoint(&self, machine: &MachineState) {
        machine.hardware.into_iter().for_each(|id| self.handlers.offer_hardware(DomId(id)));
        for handler in &machine.virq_handlers {
            self.handlers.assign(Virq(handler.virq), DomId(handler.domain));
        }
    }

    /// Connects the lines of all PIRQs, or none.
    fn connect_lines(&self, fresh: &[Fresh<'_, H>]) -> Result<(), RestoreError> {
        let all = || fresh.iter().flat_map(|(state, domain)| lines(state).map(move |line| (domain, line)));
        for (done, (domain, (port, pirq))) in all().enumerate() {
            if let Err(refused) = self.reconnect_line(domain, port, pirq) {
                all().take(done).for_each(|(domain, (_, pirq))| self.hooks.pirq_unbind(domain.id, pirq));
                let wrong = DomainError::PirqRefused(port.port, refused);
                return Err(RestoreError::Domain(domain.id, wrong));
            }
        }
        Ok(())
    }

    fn reconnect_line(&self, domain: &Domain<H::Page>, port: &PortState, pirq: Pirq) -> Result<(), OpError> {
        if domain.is_pv() {
            self.hooks.policy().bind_pirq(&domain.party(), pirq)?;
        }
        self.connect_line(domain, pirq, shares(port.binding))?;
        if port.vcpu != 0 {
            self.hooks.pirq_moved(domain.id, pirq, VcpuId(port.vcpu));
        }
        Ok(())
    }

    /// Offers the routes to a domain's ports, but for those that were made since everybody sees it.
    fn offer_routes(&self, (state, domain): &Fresh<'_, H>) {
        for port in state.ports.iter().map(|port| Port(port.port)) {
            let _events = domain.event.lock();
            let channel = domain.channels.get(port).filter(|channel| !channel.is_loaded());
            channel.inspect(|channel| self.load(domain, port, channel));
        }
    }

    /// Connects the channels of a domain whose peers have waited for it.
    fn rejoin(&self, (state, domain): &Fresh<'_, H>) {
        for port in &state.ports {
            match port.binding {
                BindingState::Interdomain { remote, port: far } if remote != state.id => {
                    let effect = self.domain(DomId(remote)).map(|remote| {
                        self.rejoin_one(domain, Port(port.port), &remote, Port(far)).unwrap_or(Effect::None)
                    });
                    self.fire(effect.unwrap_or(Effect::None));
                }
                _ => {}
            }
        }
    }

    /// Says again what is pending, and delivers each upcall that waits.
    fn announce_all(&self, (state, domain): &Fresh<'_, H>) {
        for port in state.ports.iter().filter(|port| port.consumer == 0) {
            domain.announce_again(Port(port.port), &enter());
        }
        for &port in state.fifo.iter().flat_map(|fifo| &fifo.kept) {
            self.replay(domain, port..port + 1);
        }
        domain.mark_ready_vcpus(&enter());
        self.tell_vcpus(domain);
        self.ask_again(domain);
    }

    /// Connects two ports that wait for each other's domain, and raises the near one: what came for it meanwhile was
    /// dropped. `None` if one of them does not wait any more.
    fn rejoin_one(
        &self,
        domain: &Domain<H::Page>,
        port: Port,
        remote: &Domain<H::Page>,
        remote_port: Port,
    ) -> Option<Effect> {
        let _locks = Pair::lock(domain, remote);
        let near = accepting(domain, port, remote.id).ok()?;
        let far = accepting(remote, remote_port, domain.id).ok()?;
        let (here, there) = (near.binding().consumer, far.binding().consumer);
        let joined = |remote, port, consumer, peer: Option<Consumer>| Binding {
            state: State::Interdomain { remote, port },
            consumer,
            peer_is_consumed: peer.is_some(),
        };
        near.set(joined(remote.id, remote_port, here, there));
        far.set(joined(domain.id, port, there, here));
        self.load(remote, remote_port, far);
        self.load(domain, port, near);
        Some(if here.is_none() { domain.raise(port, &enter()) } else { Effect::None })
    }
}

/// All that can go wrong where this is used: the state was checked.
fn no_memory(_: OpError) -> DomainError {
    DomainError::OutOfMemory
}

/// The binding of a restored port. Who is not restored with it is not connected yet.
fn binding(state: &PortState, domains: &[DomainState]) -> Binding {
    let consumer = Consumer::new(state.consumer);
    let guest = |state| Binding { consumer, ..Binding::guest(state) };
    match state.binding {
        BindingState::Unbound { remote } => guest(State::Unbound { remote: DomId(remote) }),
        BindingState::Interdomain { remote, port } => {
            let peer = find(domains, remote).and_then(|at| find_port(&domains[at], port));
            let joined = State::Interdomain { remote: DomId(remote), port: Port(port) };
            peer.map_or(guest(State::Unbound { remote: DomId(remote) }), |peer| Binding {
                peer_is_consumed: peer.consumer != 0,
                ..guest(joined)
            })
        }
        BindingState::Pirq { pirq, .. } => guest(State::Pirq(Pirq(pirq))),
        BindingState::Virq { virq } => guest(State::Virq(Virq(virq))),
        BindingState::Ipi => guest(State::Ipi),
    }
}

fn shares(binding: BindingState) -> bool {
    matches!(binding, BindingState::Pirq { shares: true, .. })
}

fn claim_pirq<P>(domain: &Domain<P>, pirq: Pirq, port: Port, shares: bool) -> Result<(), DomainError> {
    domain.need_pirqs().map_err(no_memory)?;
    if domain.pirq(pirq).is_some() {
        return Err(DomainError::PirqTwice(port.0));
    }
    domain.set_pirq(pirq, port, shares);
    Ok(())
}

/// The ports of PIRQs.
fn lines(state: &DomainState) -> impl Iterator<Item = (&PortState, Pirq)> {
    state.ports.iter().filter_map(|port| match port.binding {
        BindingState::Pirq { pirq, .. } => Some((port, Pirq(pirq))),
        _ => None,
    })
}
