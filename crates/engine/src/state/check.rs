// SPDX-License-Identifier: MIT OR Apache-2.0
//! Is a state one that an engine could have saved? All that can be said without an engine.
//!
//! Lists must ascend: so nothing is there twice, and a list is no longer than the numbers that it may hold.

use evtchn_abi::fifo::{MAX_ARRAY_PAGES, Priority, WORDS_PER_PAGE};
use evtchn_abi::{DomId, Virq, VirqClass};

use super::error::{DomainError, RestoreError};
use super::save::find;
use super::{
    BindingState, ConfigState, DeliveryState, DomainState, FifoState, MachineState, PortState, TailState,
    VERSION, vcpu,
};
use crate::channel::{Consumer, MAX_VCPUS};
use crate::domain;
use crate::ops::fifo::block_offset;
use crate::table::{BUCKET, MAX_PORTS};

/// PIRQs of a domain.
/// Records, vCPUs and PIRQs of a machine: what a state can make the engine allocate, some 256 MiB.
const MACHINE_RECORDS: u64 = 1 << 22;
const MACHINE_VCPUS: u64 = 1 << 17;
const MACHINE_PIRQS: u64 = 1 << 22;

/// Checks a machine; `class` tells the class of a VIRQ.
pub(super) fn machine(
    state: &MachineState,
    class: impl Fn(Virq) -> Option<VirqClass> + Copy,
) -> Result<(), RestoreError> {
    if state.version != VERSION {
        return Err(RestoreError::Version(state.version));
    }
    if let Some(pair) = state.domains.windows(2).find(|pair| pair[0].id >= pair[1].id) {
        return Err(RestoreError::DomainOrder(DomId(pair[1].id)));
    }
    size(state)?;
    for domain in &state.domains {
        self::domain(domain, class)?;
        peers(domain, &state.domains, true).map_err(|wrong| RestoreError::Domain(DomId(domain.id), wrong))?;
    }
    handlers(state, class)
}

fn size(state: &MachineState) -> Result<(), RestoreError> {
    let sum =
        |count: fn(&DomainState) -> u32| -> u64 { state.domains.iter().map(count).map(u64::from).sum() };
    let fits = sum(|domain| domain.records) <= MACHINE_RECORDS
        && sum(|domain| domain.config.vcpus) <= MACHINE_VCPUS
        && sum(|domain| domain.config.nr_pirqs) <= MACHINE_PIRQS;
    fits.then_some(()).ok_or(RestoreError::TooLarge)
}

fn handlers(state: &MachineState, class: impl Fn(Virq) -> Option<VirqClass>) -> Result<(), RestoreError> {
    let mut from = 0;
    for handler in &state.virq_handlers {
        let global = class(Virq(handler.virq)) == Some(VirqClass::Global);
        if !global || handler.virq < from || find(&state.domains, handler.domain).is_none() {
            return Err(RestoreError::Handler(handler.virq));
        }
        from = handler.virq + 1;
    }
    let able = |id: u16| find(&state.domains, id).is_some_and(|at| state.domains[at].config.hardware);
    match state.hardware {
        Some(id) if !able(id) => Err(RestoreError::Hardware(DomId(id))),
        _ => Ok(()),
    }
}

/// Checks a domain, but for its peers.
pub(super) fn domain(
    state: &DomainState,
    class: impl Fn(Virq) -> Option<VirqClass>,
) -> Result<(), RestoreError> {
    if state.version != VERSION {
        return Err(RestoreError::Version(state.version));
    }
    domain_itself(state, class).map_err(|wrong| RestoreError::Domain(DomId(state.id), wrong))
}

fn domain_itself(state: &DomainState, class: impl Fn(Virq) -> Option<VirqClass>) -> Result<(), DomainError> {
    if DomId(state.id) >= DomId::FIRST_RESERVED {
        return Err(DomainError::Id);
    }
    config(&state.config)?;
    if !state.records.is_multiple_of(BUCKET)
        || state.records == 0
        || state.records > most_records(&state.config)
    {
        return Err(DomainError::Records(state.records));
    }
    progress(state)?;
    state.callback.check(&state.config)?;
    vcpu::check(state)?;
    let mut from = 1;
    for port in &state.ports {
        if port.port == 0 || port.port >= state.records {
            return Err(DomainError::PortRange(port.port));
        }
        if port.port < from {
            return Err(DomainError::PortOrder(port.port));
        }
        from = port.port + 1;
        self::port(state, port, &class)?;
    }
    state.fifo.as_ref().map_or(Ok(()), |fifo| self::fifo(state, fifo))
}

/// Checks what goes on, or is to happen one day.
fn progress(state: &DomainState) -> Result<(), DomainError> {
    if let Some(reset) = state.reset.filter(|&reset| reset == 0 || reset > MAX_PORTS) {
        return Err(DomainError::Reset(reset));
    }
    // The ports ascend, as is checked later.
    let highest = state.ports.last().map_or(0, |port| port.port);
    if let Some(teardown) = state.teardown.filter(|&next| next < highest || next >= state.records) {
        return Err(DomainError::Teardown(teardown));
    }
    let number = |port: u32| domain::port_number(port).map(|port| port.0);
    match state.suspend_port.filter(|&port| number(port) != Some(port)) {
        Some(port) => Err(DomainError::SuspendPort(port)),
        None => Ok(()),
    }
}

fn config(config: &ConfigState) -> Result<(), DomainError> {
    if config.vcpus == 0 || config.vcpus > MAX_VCPUS {
        return Err(DomainError::Vcpus(config.vcpus));
    }
    (config.nr_pirqs <= domain::MAX_PIRQS).then_some(()).ok_or(DomainError::Pirqs(config.nr_pirqs))
}

/// How many records a domain has when its highest port is open: a whole number of buckets, at least one.
fn most_records(config: &ConfigState) -> u32 {
    let highest = config.max_port.unwrap_or(MAX_PORTS - 1).min(MAX_PORTS - 1);
    (highest / BUCKET + 1) * BUCKET
}

fn port(
    domain: &DomainState,
    state: &PortState,
    class: impl Fn(Virq) -> Option<VirqClass>,
) -> Result<(), DomainError> {
    let port = state.port;
    if state.vcpu >= domain.config.vcpus {
        return Err(DomainError::PortVcpu(port));
    }
    if state.priority > Priority::LOWEST.0 {
        return Err(DomainError::Priority(port));
    }
    let channel = matches!(state.binding, BindingState::Unbound { .. } | BindingState::Interdomain { .. });
    if state.consumer != 0 && (!channel || Consumer::new(state.consumer).is_none()) {
        return Err(DomainError::Consumer(port));
    }
    match state.binding {
        BindingState::Interdomain { remote, port: far } => {
            let possible = DomId(remote) < DomId::FIRST_RESERVED && far != 0 && far < MAX_PORTS;
            let itself = (remote, far) == (domain.id, port);
            (possible && !itself).then_some(()).ok_or(DomainError::Peer(port))
        }
        BindingState::Virq { virq } if class(Virq(virq)).is_none() => Err(DomainError::Virq(port)),
        BindingState::Pirq { pirq, .. } if pirq >= domain.config.nr_pirqs => Err(DomainError::Pirq(port)),
        BindingState::Unbound { .. }
        | BindingState::Virq { .. }
        | BindingState::Pirq { .. }
        | BindingState::Ipi => Ok(()),
    }
}

/// Checks that peers among `domains` name each other, and, if they are `all` there are, that each port has its peer.
pub(super) fn peers(state: &DomainState, domains: &[DomainState], all: bool) -> Result<(), DomainError> {
    for port in &state.ports {
        let BindingState::Interdomain { remote, port: far } = port.binding else { continue };
        match find(domains, remote) {
            None if all => return Err(DomainError::PeerMissing(port.port)),
            None => {}
            Some(at) => {
                let back = BindingState::Interdomain { remote: state.id, port: port.port };
                let peer = find_port(&domains[at], far).filter(|peer| peer.binding == back);
                peer.ok_or(DomainError::Asymmetric(port.port))?;
            }
        }
    }
    Ok(())
}

/// An open port.
pub(super) fn find_port(domain: &DomainState, port: u32) -> Option<&PortState> {
    let at = domain.ports.binary_search_by_key(&port, |state| state.port).ok()?;
    domain.ports.get(at)
}

fn fifo(domain: &DomainState, state: &FifoState) -> Result<(), DomainError> {
    if !domain.config.fifo || domain.config.delivery == DeliveryState::Sink {
        return Err(DomainError::FifoNotAllowed);
    }
    let ascend = state.controls.windows(2).all(|pair| pair[0].vcpu < pair[1].vcpu);
    if state.controls.is_empty() || !ascend {
        return Err(DomainError::Controls);
    }
    let sound = |vcpu: u32, offset: u32| vcpu < domain.config.vcpus && block_offset(offset).is_ok();
    if let Some(wrong) = state.controls.iter().find(|control| !sound(control.vcpu, control.offset)) {
        return Err(DomainError::Control(wrong.vcpu));
    }
    if state.array.len() > MAX_ARRAY_PAGES as usize {
        return Err(DomainError::Array(state.array.len()));
    }
    #[allow(clippy::cast_possible_truncation)] // at most 128
    let words = state.array.len() as u32 * WORDS_PER_PAGE;
    tails(domain, state, words)?;
    ascending(&state.linked, words).map_err(DomainError::Linked)?;
    ascending(&state.kept, domain.records).map_err(DomainError::Kept)
}

fn tails(domain: &DomainState, state: &FifoState, words: u32) -> Result<(), DomainError> {
    let queue = |tail: &TailState| (tail.vcpu, tail.priority);
    let mut last = None;
    for tail in &state.tails {
        let controlled = state.controls.binary_search_by_key(&tail.vcpu, |control| control.vcpu).is_ok();
        let port = tail.port != 0 && tail.port < words.min(domain.records);
        let ascends = last < Some(queue(tail));
        if !controlled || tail.priority > Priority::LOWEST.0 || !port || !ascends {
            return Err(DomainError::Tail(tail.port));
        }
        last = Some(queue(tail));
    }
    Ok(())
}

/// Do the ports ascend, and stay below `end`? If not, which does not.
fn ascending(ports: &[u32], end: u32) -> Result<(), u32> {
    let mut from = 0;
    for &port in ports {
        if port < from || port >= end {
            return Err(port);
        }
        from = port + 1;
    }
    Ok(())
}
