// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saving.

use alloc::vec::Vec;

use evtchn_abi::{DomId, NR_VIRQS, Port, Virq};
use evtchn_sync::{Page, enter};

use super::{
    BindingState, CallbackState, ConfigState, DomainState, FifoState, HandlerState, MachineState, PortState,
    VERSION, push, vcpu,
};
use crate::channel::{Channel, Consumer, State};
use crate::domain::{Domain, Events};
use crate::engine::Engine;
use crate::error::OpError;
use crate::hooks::Hooks;

impl<H: Hooks> Engine<H> {
    /// Saves a domain. It goes on as it was; see [`state`](crate::state) for the order in which its memory is copied.
    ///
    /// Operations on the domain's ports wait meanwhile, and senders that would link a port of it.
    ///
    /// # Errors
    /// ESRCH if there is no such domain, or another thread is destroying it; ENOMEM.
    pub fn save_domain(&self, id: DomId) -> Result<DomainState, OpError> {
        let domain = self.domain(id)?;
        let events = domain.event.lock();
        if is_gone(&events) {
            return Err(OpError::NoDomain);
        }
        save(&domain, &events)
    }

    /// Saves all domains and the handlers of VIRQs, at one moment.
    ///
    /// A domain that another thread is destroying counts as gone: ports that are bound to it are saved as unbound. One whose
    /// [teardown](Engine::tear_down) gave way is saved, and its teardown goes on where the state is restored.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn save(&self) -> Result<MachineState, OpError> {
        let _registry = self.registry.lock();
        let all: Vec<_> = self.domains.iter(&enter()).collect();
        let mut states = Vec::new();
        let locked: Vec<_> = all.iter().map(|domain| domain.event.lock()).collect();
        for (domain, events) in all.iter().zip(&locked).filter(|(_, events)| !is_gone(events)) {
            push(&mut states, save(domain, events)?)?;
        }
        drop(locked);
        forget_missing_peers(&mut states);
        let exists = |id: &DomId| find(&states, id.0).is_some();
        let handler =
            |virq| Some(HandlerState { virq, domain: self.handlers.assigned(Virq(virq)).filter(exists)?.0 });
        Ok(MachineState {
            version: VERSION,
            virq_handlers: (0..NR_VIRQS).filter_map(handler).collect(),
            hardware: self.handlers.hardware().filter(exists).map(|id| id.0),
            domains: states,
        })
    }
}

/// Is the domain as good as gone? Its end goes on without anybody's doing.
fn is_gone(events: &Events) -> bool {
    events.dying && events.teardown.is_none()
}

/// Where the domain with this id is among those of a machine.
pub(super) fn find(domains: &[DomainState], id: u16) -> Option<usize> {
    domains.binary_search_by_key(&id, |domain| domain.id).ok()
}

/// Ports whose peers are not in the machine wait for them.
fn forget_missing_peers(domains: &mut [DomainState]) {
    let ids: Vec<u16> = domains.iter().map(|domain| domain.id).collect();
    for port in domains.iter_mut().flat_map(|domain| &mut domain.ports) {
        if let BindingState::Interdomain { remote, .. } = port.binding
            && ids.binary_search(&remote).is_err()
        {
            port.binding = BindingState::Unbound { remote };
        }
    }
}

fn save<P: Page>(domain: &Domain<P>, events: &Events) -> Result<DomainState, OpError> {
    // Before kept events: what a timer raises meanwhile is in them, or it is saved as still to come.
    let vcpus = vcpu::save(domain)?;
    let mut ports = Vec::new();
    let mut from = Port(1);
    while let Some(port) = events.ports.next_taken(from) {
        if let Some(state) = domain.channels.get(port).and_then(|channel| save_port(domain, port, channel)) {
            push(&mut ports, state)?;
        }
        from = Port(port.0 + 1);
    }
    Ok(DomainState {
        version: VERSION,
        id: domain.id.0,
        config: ConfigState::from(&domain.config),
        width: domain.width().into(),
        paused: domain.is_paused(),
        records: events.ports.valid(),
        ports,
        reset: events.reset.map(|port| port.0),
        fifo: save_fifo(domain)?,
        vcpus,
        callback: CallbackState::saved(&domain.callback),
        auto_unmask: domain.auto_unmask(),
        suspend_port: domain.suspend_port().map(|port| port.0),
        teardown: events.teardown.map(|port| port.0),
    })
}

/// What is saved of a port; nothing of one that is in quarantine, as its readers are gone when it is restored.
fn save_port<P>(domain: &Domain<P>, port: Port, channel: &Channel) -> Option<PortState> {
    let (binding, target) = (channel.binding(), channel.target());
    let saved = match binding.state {
        State::Free | State::Reserved => return None,
        State::Unbound { remote } => BindingState::Unbound { remote: remote.0 },
        State::Interdomain { remote, port } => BindingState::Interdomain { remote: remote.0, port: port.0 },
        State::Pirq(pirq) => BindingState::Pirq { pirq: pirq.0, shares: domain.pirq_shares(pirq) },
        State::Virq(virq) => BindingState::Virq { virq: virq.0 },
        State::Ipi => BindingState::Ipi,
    };
    Some(PortState {
        port: port.0,
        binding: saved,
        vcpu: target.vcpu.0,
        priority: target.priority.0,
        consumer: binding.consumer.map_or(0, Consumer::get),
    })
}

fn save_fifo<P: Page>(domain: &Domain<P>) -> Result<Option<FifoState>, OpError> {
    let guard = enter();
    let Some(fifo) = domain.fifo.load(&guard) else { return Ok(None) };
    let mut state = fifo.save()?;
    let kept = |port: &Port| domain.channels.get(*port).is_some_and(Channel::is_saved);
    for port in (1..domain.channels.valid()).map(Port).filter(kept) {
        push(&mut state.kept, port.0)?;
    }
    Ok(Some(state))
}
